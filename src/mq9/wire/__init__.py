"""Frames in, frames out: the NATS client protocol as bytes. Knows no mailbox, no socket and no clock."""
