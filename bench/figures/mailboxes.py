"""P7a, mailboxes created; P10, what a send costs beside many of them; P9b, what it costs beside idle connections."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bench import generator
from bench.bars import Verdict, at_least, of_all
from bench.figures.base import Figure, Measured, scaled
from bench.figures.loads import CONNECTIONS, IN_FLIGHT, SIZE, SUBSCRIPTIONS_MAX, create, idle, look_at, store
from bench.peers.mq9 import Mq9
from bench.peers.nats_server import JetStream
from bench.peers.sink import Sink
from bench.resources import processor_seconds
from bench.writing import Quantity
from mq9 import protocol

if TYPE_CHECKING:
    from pathlib import Path

    from bench.peers.base import Peer, Server
    from bench.rounds import Outcome

SENDERS = 10
SENDS_IN_FLIGHT = 64
FLAT = 1.2
AS_FAST = 0.95
# A client that has connected is sent its first PING two seconds later, for its round trip: until then it is not idle.
UNTIL_IDLE_S = 5.0


class Create(Figure):
    """Requests that make private mailboxes."""

    key = "P7a"
    count = 200_000
    title = "create private mailboxes, pipelined"
    conditions = f"{CONNECTIONS} connections x {IN_FLIGHT} in flight; each is asked for afterwards"
    unit = "mailboxes/s"
    peers: tuple[Peer, ...] = (
        Mq9("fsync before every answer"),
        JetStream("a file stream each, without fsync", pace=0.01),
        Sink(),
    )
    bars = (at_least(50_000, Quantity.RATE),)

    def run(self, peer: Peer, place: Path, scale: float) -> Measured:
        """Keep the names of what was made beside the server's files."""
        with peer.start(place) as server:
            names = place / "names"
            load = create(server, scaled(self.count, scale * peer.pace, least=CONNECTIONS), names)
            if not peer.yardstick:
                look_at(server, names)
        return Measured.of(load)


def _judge_flat(outcome: Outcome) -> Verdict:
    """Whether the slowest is within a fifth of the fastest."""
    rates = [entry.median() for entry in outcome.entries]
    return Verdict(
        f"{max(rates) / min(rates):.2f} x between the fastest and the slowest", max(rates) <= FLAT * min(rates)
    )


class Flat(Figure):
    """Sends that go round over all mailboxes of a broker that has few or many."""

    key = "P10"
    count = 2_000_000
    title = "sends beside 10, 10,000 and 1,000,000 mailboxes"
    conditions = f"{SENDERS} connections x {SENDS_IN_FLIGHT} in flight, {SIZE} bytes, over all mailboxes in turn"
    unit = "sends/s"
    peers: tuple[Peer, ...] = tuple(
        Mq9("fsync before every answer", name=f"mq9, {count:,} mailboxes", setting=count)
        for count in (10, 10_000, 1_000_000)
    )
    bars = (of_all(f"flat within {FLAT - 1:.0%}", _judge_flat),)

    def run(self, peer: Peer, place: Path, scale: float) -> Measured:
        """Make the mailboxes, send, and read back from all of them."""
        names = place / "names"
        mailboxes = scaled(peer.setting // SENDERS, scale) * SENDERS
        count = scaled(self.count // SENDERS, scale)
        with peer.start(place) as server:
            created = generator.run(
                "ask",
                [protocol.CREATE],
                port=server.port,
                connections=SENDERS,
                in_flight=IN_FLIGHT,
                count=mailboxes // SENDERS,
                id_key="mail_id",
                values_file=str(names),
            )
            before_s = processor_seconds(server.pid)
            load = self._send(server, names, count)
            processor_s = processor_seconds(server.pid) - before_s
            self._read_back(server, names, count, mailboxes)
        details = {"creates_per_s": created.rate, "processor_us_per_send": processor_s / load.count * 1e6}
        return Measured.of(load, **details)

    def _send(self, server: Server, names: Path, count: int) -> generator.Load:
        return generator.run(
            "requests",
            [protocol.MESSAGES],
            port=server.port,
            subjects_file=str(names),
            spread=True,
            connections=SENDERS,
            in_flight=SENDS_IN_FLIGHT,
            count=count,
            size=SIZE,
            ids_per_subject=True,
        )

    def _read_back(self, server: Server, names: Path, count: int, mailboxes: int) -> None:
        generator.run(
            "receive",
            [protocol.MESSAGES],
            port=server.port,
            subjects_file=str(names),
            spread=True,
            share=True,
            publishers=SENDERS,
            subscribers=-(-mailboxes // SUBSCRIPTIONS_MAX),
            count=count,
            size=SIZE,
        )


def _judge_as_fast(outcome: Outcome) -> Verdict:
    """Whether it is as fast beside the connections as without, but for what cannot be told apart."""
    without, beside = (entry.median() for entry in outcome.entries)
    return Verdict(f"{beside / without:.2f} x", beside >= AS_FAST * without)


class BesideIdle(Figure):
    """Durable sends of a broker that has idle connections, and of one that has none."""

    key = "P9b"
    count = 200_000
    title = "durable send beside idle connections"
    conditions = f"{CONNECTIONS} connections x {IN_FLIGHT} in flight, {SIZE} bytes"
    unit = "sends/s"
    peers: tuple[Peer, ...] = tuple(
        Mq9("fsync before every answer", name=f"mq9, {count:,} idle connections", setting=count)
        for count in (0, 10_000)
    )
    bars = (of_all(f"at least {AS_FAST:g} x as fast with as without", _judge_as_fast),)

    def measure(self, server: Server, scale: float, peer: Peer) -> Measured:
        """Send while the idle connections are there."""
        storage = server.open_storage(CONNECTIONS)
        if peer.setting == 0:
            return Measured.of(store(server, storage, scaled(self.count, scale)))
        with idle(server, scaled(peer.setting, scale)):
            time.sleep(UNTIL_IDLE_S)
            return Measured.of(store(server, storage, scaled(self.count, scale)))


CREATE = (Create(),)
FLATNESS = (Flat(),)
BESIDE_IDLE = (BesideIdle(),)
