"""P4, a mailbox that has filled while its owner was offline, drained by one receiver; P6, the same shared by workers that ack."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench import generator
from bench.bars import at_least, times
from bench.figures.base import Figure, Measured, scaled
from bench.figures.loads import CONNECTIONS, SIZE, store
from bench.peers.mq9 import Mq9
from bench.peers.nats_server import JetStream
from bench.peers.rabbitmq import RabbitMQ
from bench.peers.redis import Redis
from bench.peers.sink import Sink
from bench.writing import Quantity

if TYPE_CHECKING:
    from bench.peers.base import Peer, Server

WORKERS = 16
BATCH = 64


class Drain(Figure):
    """One receiver gets everything that is stored, from the oldest on."""

    key = "P4"
    count = 1_000_000
    title = f"an offline mailbox of {count:,} messages drained by one receiver"
    conditions = f"{SIZE} bytes; from the subscription to the last message"
    unit = "messages/s"
    peers: tuple[Peer, ...] = (
        Mq9("the messages stay"),
        JetStream("the messages stay (ordered push consumer)"),
        Redis(),
        RabbitMQ(),
        Sink(keeps=True),
    )
    bars = (at_least(2e6, Quantity.RATE), times(3.0, JetStream.name))

    def measure(self, server: Server, scale: float, peer: Peer) -> Measured:
        """Fill the mailbox, then drain it."""
        del peer
        storage = server.open_storage(1)
        count = scaled(self.count // CONNECTIONS, scale)
        store(server, storage, count)
        subjects = server.read_back(storage)
        load = generator.run(
            "receive",
            subjects,
            port=server.port,
            dialect=storage.dialect,
            publishers=CONNECTIONS,
            count=count,
            size=SIZE,
        )
        # The messages are older than the load: their latency says how long they waited for it.
        return Measured(
            value=load.rate, count=load.count, generator_cores=load.generator_cores, details={"seconds": load.seconds}
        )


class Work(Figure):
    """Workers lease batches, and ack each before they take the next but one."""

    key = "P6"
    count = 400_000
    title = f"{WORKERS} leasing workers on one mailbox, batches of {BATCH}, acked"
    conditions = f"{SIZE} bytes; p50 and p99 of the time until an ack is confirmed"
    unit = "messages/s"
    peers: tuple[Peer, ...] = (
        Mq9("leases and acks are fsynced before they are answered"),
        JetStream("acks are kept without fsync; one of each batch is confirmed (pull consumer, explicit ack)"),
        Redis(),
        RabbitMQ(),
        Sink(keeps=True),
    )
    bars = (times(1.5, JetStream.name),)

    def measure(self, server: Server, scale: float, peer: Peer) -> Measured:
        """Fill the mailbox, have it worked on, and see that nothing is left."""
        del peer
        storage = server.open_storage(1)
        count = scaled(self.count // CONNECTIONS, scale)
        store(server, storage, count)
        queue = server.open_queue(storage)
        load = generator.run(
            "work",
            [queue],
            port=server.port,
            dialect=storage.dialect,
            workers=WORKERS,
            batch=BATCH,
            publishers=CONNECTIONS,
            count=count,
            size=SIZE,
        )
        server.check_worked(storage)
        return Measured.of(load)


FIGURES = (Drain(),)
WORK = (Work(),)
