"""P2, latency at low load: a thousand messages in a second to a receiver that is online.

The load is open: a message is sent when its time has come, whether the one before it has arrived or not, and counts from then. How
long the machine's own fdatasync takes is measured in the same run, in the same directory, before the load and after it.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from bench import generator, machine
from bench.bars import Verdict, of_our_runs
from bench.figures.base import Figure, Measured, scaled
from bench.figures.loads import SIZE
from bench.peers.mq9 import Mq9
from bench.peers.nats_server import JetStream, JetStreamSyncAlways
from bench.peers.sink import Sink
from bench.writing import Quantity, duration

if TYPE_CHECKING:
    from pathlib import Path

    from bench.peers.base import Peer, Server
    from bench.rounds import Entry

RATE = 1_000
COUNT = 10_000
SYNCS = 2.0
BESIDE_US = 150.0
TAIL = 5.0
APPENDED = 200  # bytes, about what one message is on disk


def _judge_median(ours: Entry) -> Verdict:
    """Whether the median is within two syncs and 150 µs."""
    disk = ours.median_of("fdatasync_us")
    assert disk is not None
    allowed = SYNCS * disk + BESIDE_US
    return Verdict(f"{duration(ours.median())}, of {duration(allowed)} allowed", ours.median() <= allowed)


def _judge_tail(ours: Entry) -> Verdict:
    """Whether the 99th percentile is within five medians."""
    p99 = ours.median_of("p99_us")
    assert p99 is not None
    return Verdict(f"{p99 / ours.median():.1f} x", p99 <= TAIL * ours.median())


class Latency(Figure):
    """The median time from a message's sending to its arrival."""

    key = "P2"
    title = "send to online receiver"
    conditions = f"{RATE:,} messages/s on schedule, {SIZE} bytes; p50 of the time until it has arrived"
    unit = "until received"
    quantity = Quantity.MICROSECONDS
    peers = (
        Mq9("fsync before it is delivered"),
        JetStream("delivered without fsync"),
        JetStreamSyncAlways("fsync before it is delivered", pace=1.0),
        Sink(),
    )
    bars = (
        of_our_runs(f"p50 at most {SYNCS:g} x fdatasync + {BESIDE_US:.0f} µs", _judge_median),
        of_our_runs(f"p99 at most {TAIL:g} x p50", _judge_tail),
    )

    def run(self, peer: Peer, place: Path, scale: float) -> Measured:
        """Send on schedule, between two looks at the disk."""
        with peer.start(place) as server:
            before = machine.fdatasync_us(place, APPENDED)
            measured = self.measure(server, scale * peer.pace, peer)
            after = machine.fdatasync_us(place, APPENDED)
        measured.details["fdatasync_us"] = statistics.mean([before, after])
        return measured

    def measure(self, server: Server, scale: float, peer: Peer) -> Measured:
        """Send on schedule to one receiver."""
        del peer
        storage = server.open_storage(1)
        subjects = list(dict.fromkeys([storage.subjects[0], server.listen(storage)]))
        count = scaled(COUNT, scale, least=200)
        load = generator.run("publish", subjects, port=server.port, rate=RATE, count=count, size=SIZE)
        assert load.p50_us is not None
        return Measured.of(load, value=load.p50_us)


FIGURES = (Latency(),)
