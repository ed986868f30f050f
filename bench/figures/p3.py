"""P3, core NATS: one publisher as fast as it can, every message to every subscriber, nothing stored.

The publisher stays at most 100,000 messages ahead of the slowest subscriber, for whoever is measured, since both
servers cut off a subscriber that lags by more than their max_pending.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from bench import generator
from bench.figures.base import Figure
from bench.peers.mq9 import Mq9
from bench.peers.nats_server import NatsServer
from bench.peers.sink import Sink

if TYPE_CHECKING:
    from bench.generator import Load
    from bench.peers.base import Server

SIZE = 128
SUBJECT = "bench.core"


class Core(Figure):
    """One publisher sends `count` messages to each of `subscribers`."""

    unit = "deliveries/s"
    peers = (Mq9("nothing is stored"), NatsServer(), Sink())

    def __init__(self, key: str, subscribers: int, count: int) -> None:
        self.key = key
        self.subscribers = subscribers
        self.count = count
        self.title = f"core NATS, 1 publisher to {subscribers} subscriber{'s' if subscribers > 1 else ''}"
        self.conditions = f"{SIZE} bytes, nothing stored"

    def measure(self, server: Server, scale: float) -> Load:
        """Publish, and count what is delivered."""
        return generator.run(
            "publish",
            [SUBJECT],
            port=server.port,
            subscribers=self.subscribers,
            threads=max(1, (os.cpu_count() or 1) - 1),
            count=max(1, int(self.count * scale)),
            size=SIZE,
        )


FIGURES = (Core("P3a", subscribers=1, count=5_000_000), Core("P3b", subscribers=5, count=2_000_000))
