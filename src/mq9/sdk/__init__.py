"""The client side: `AsyncMailbox` over nats-py, and `Mailbox`, the same calls blocking. Imported through `mq9`."""
