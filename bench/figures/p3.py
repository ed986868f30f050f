"""P3, core NATS: one publisher as fast as it can, every message to every subscriber; and P5, the same through one mailbox.

The publisher stays at most 100,000 messages ahead of the slowest subscriber, for whoever is measured, since both
servers cut off a subscriber of core NATS that lags by more than their max_pending.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from bench import generator
from bench.bars import at_least, times
from bench.figures.base import Figure, Measured, scaled
from bench.figures.loads import SIZE
from bench.peers.mq9 import Mq9
from bench.peers.nats_server import JetStream, NatsServer
from bench.peers.sink import Sink
from bench.writing import Quantity

if TYPE_CHECKING:
    from bench.generator import Load
    from bench.peers.base import Peer, Server

SUBJECT = "bench.core"


def _publish(server: Server, subjects: list[str], subscribers: int, count: int) -> Load:
    return generator.run(
        "publish",
        subjects,
        port=server.port,
        subscribers=subscribers,
        threads=max(1, (os.cpu_count() or 1) - 1),
        count=count,
        size=SIZE,
    )


class Core(Figure):
    """One publisher sends `count` messages to each of `subscribers`."""

    unit = "deliveries/s"
    peers: tuple[Peer, ...] = (Mq9("nothing is stored"), NatsServer(), Sink())
    bars = (times(2.0, NatsServer.name),)

    def __init__(self, key: str, subscribers: int, count: int) -> None:
        self.key = key
        self.subscribers = subscribers
        self.count = count
        self.title = f"core NATS, 1 publisher to {subscribers} subscriber{'s' if subscribers > 1 else ''}"
        self.conditions = f"{SIZE} bytes, nothing stored"

    def measure(self, server: Server, scale: float, peer: Peer) -> Measured:
        """Publish, and count what is delivered."""
        del peer
        return Measured.of(_publish(server, [SUBJECT], self.subscribers, scaled(self.count, scale)))


class FanOut(Figure):
    """One publisher sends to a mailbox that many receive from."""

    key = "P5"
    subscribers = 100
    count = 100_000
    title = f"one mailbox, {subscribers} online receivers"
    conditions = f"{SIZE} bytes, one publisher as fast as it can"
    unit = "deliveries/s"
    # JetStream reads the stream once, with one consumer to whose subject all subscribe: none of them could begin elsewhere.
    peers: tuple[Peer, ...] = (
        Mq9("stored and fsynced before it is delivered"),
        JetStream("stored before it is delivered, without fsync; one consumer for all"),
        Sink(),
    )
    bars = (at_least(3e6, Quantity.RATE),)

    def measure(self, server: Server, scale: float, peer: Peer) -> Measured:
        """Publish, and count what is delivered."""
        del peer
        storage = server.open_storage(1)
        subjects = list(dict.fromkeys([storage.subjects[0], server.listen(storage)]))
        return Measured.of(_publish(server, subjects, self.subscribers, scaled(self.count, scale)))


FIGURES = (Core("P3a", subscribers=1, count=5_000_000), Core("P3b", subscribers=5, count=2_000_000))
FAN_OUT = (FanOut(),)
