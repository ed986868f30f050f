"""What a batch brings about besides storing messages."""

from __future__ import annotations

from typing import Protocol

from mq9.protocol import ProtocolError


class Effect(Protocol):
    """Something that happens when its batch is durable, or does not when the batch has failed; one of the two, once."""

    def apply(self, now: int) -> None:
        """The batch is durable, at `now` (Unix ms)."""

    def fail(self, error: ProtocolError) -> None:
        """Nothing of the batch is there."""
