"""P1, durable send: messages of 128 bytes, every one answered when it is stored, over 16 mailboxes.

JetStream stores in one stream with 16 subjects: a stream for each would cost it more, not less. Redis has 16 streams, RabbitMQ 16
queues. After the clock has stopped everything is read back and compared with what was sent, so an answer for something that was not
kept gives no figure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench import generator
from bench.bars import times
from bench.figures.base import Figure, Measured, scaled
from bench.figures.loads import SIZE
from bench.peers.mq9 import Mq9
from bench.peers.nats_server import JetStream, JetStreamSyncAlways
from bench.peers.rabbitmq import RabbitMQ
from bench.peers.redis import Redis
from bench.peers.sink import Sink

if TYPE_CHECKING:
    from bench.bars import Bar
    from bench.peers.base import Peer, Server

MAILBOXES = 16


class DurableSend(Figure):
    """`connections` that each keep `in_flight` sends unanswered and send `count` messages each."""

    unit = "sends/s"
    peers: tuple[Peer, ...] = (
        Mq9("fsync before every answer"),
        JetStream(),
        JetStreamSyncAlways(),
        Redis(),
        RabbitMQ(),
        Sink(),
    )

    def __init__(self, key: str, connections: int, in_flight: int, count: int, bars: tuple[Bar, ...] = ()) -> None:
        self.key = key
        self.connections = connections
        self.in_flight = in_flight
        self.count = count
        self.bars = bars
        self.title = f"durable send, every send answered, {connections} connections x {in_flight} in flight"
        self.conditions = f"{SIZE} bytes, {MAILBOXES} mailboxes (JetStream: {MAILBOXES} subjects of one stream)"

    def measure(self, server: Server, scale: float, peer: Peer) -> Measured:
        """Send, then read everything back."""
        del peer
        storage = server.open_storage(MAILBOXES)
        count = scaled(self.count, scale)
        load = generator.run(
            "requests",
            storage.subjects,
            port=server.port,
            connections=self.connections,
            in_flight=self.in_flight,
            count=count,
            size=SIZE,
            **storage.options,
        )
        subjects = server.read_back(storage)
        if subjects:
            generator.run(
                "receive",
                subjects,
                port=server.port,
                dialect=storage.dialect,
                publishers=self.connections,
                count=count,
                size=SIZE,
            )
        return Measured.of(load)


FIGURES = (
    DurableSend("P1a", 16, 256, count=100_000, bars=(times(2.5, JetStream.name), times(1.5, Redis.name))),
    DurableSend("P1b", 64, 1, count=4_000, bars=(times(1.0, JetStream.name), times(8.0, JetStreamSyncAlways.name))),
)
