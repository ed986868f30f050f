"""P1, durable send: messages of 128 bytes, every one answered when it is stored, over 16 mailboxes.

JetStream stores in one stream with 16 subjects: a stream for each would cost it more, not less. After the clock has
stopped everything is read back and compared with what was sent, so an answer for something that was not kept gives no
figure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench import generator
from bench.figures.base import Figure
from bench.peers.mq9 import Mq9
from bench.peers.nats_server import JetStream, JetStreamSyncAlways
from bench.peers.sink import Sink

if TYPE_CHECKING:
    from bench.generator import Load
    from bench.peers.base import Server

SIZE = 128
MAILBOXES = 16


class DurableSend(Figure):
    """`connections` that each keep `in_flight` sends unanswered and send `count` messages each."""

    title = "durable send, every send answered"
    unit = "sends/s"
    peers = (Mq9("fsync before every answer"), JetStream(), JetStreamSyncAlways(), Sink())

    def __init__(self, key: str, connections: int, in_flight: int, count: int) -> None:
        self.key = key
        self.connections = connections
        self.in_flight = in_flight
        self.count = count
        self.conditions = (
            f"{connections} connections x {in_flight} in flight, {SIZE} bytes, "
            f"{MAILBOXES} mailboxes (JetStream: {MAILBOXES} subjects of one stream)"
        )

    def measure(self, server: Server, scale: float) -> Load:
        """Send, then read everything back."""
        storage = server.open_storage(MAILBOXES)
        count = max(1, int(self.count * scale))
        load = generator.run(
            "requests",
            storage.subjects,
            port=server.port,
            connections=self.connections,
            in_flight=self.in_flight,
            count=count,
            size=SIZE,
            id_key=storage.id_key,
            ids_per_subject=storage.ids_per_subject,
        )
        subjects = server.read_back(storage)
        if subjects:
            generator.run("receive", subjects, port=server.port, publishers=self.connections, count=count, size=SIZE)
        return load


FIGURES = (
    DurableSend("P1a", connections=16, in_flight=256, count=100_000),
    DurableSend("P1b", connections=64, in_flight=1, count=4_000),
)
