"""Core NATS subjects: what is a valid one, which subscriptions match one, and who gets a message. No I/O."""
