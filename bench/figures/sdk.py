"""S1 to S3: what a Python program reaches with the SDK. The programs are in bench/clients.py, each a process of its own."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from bench import generator
from bench.bars import at_least, times
from bench.figures.base import Figure, Measured, scaled
from bench.figures.loads import store
from bench.generator import ROOT, RUN_SECONDS_MAX, RunFailedError
from bench.peers.mq9 import Mq9
from bench.peers.nats_server import JetStream, JetStreamSyncAlways
from bench.writing import Quantity
from mq9 import Mailbox, protocol

if TYPE_CHECKING:
    from bench.bars import Bar
    from bench.peers.base import Peer, Server

NATS_PY = "nats-py to JetStream"
# No program in Python but the generator, which does the same in C: what any client is answered in.
IN_C = "requests"


class WithSendMany(Mq9):
    """mq9 whose SDK can pipeline."""

    def missing(self) -> str | None:
        """Say so when it cannot."""
        return None if hasattr(Mailbox, "send_many") else "the SDK has no send_many"


class NatsPy(JetStream):
    """JetStream, as nats-py uses it."""

    setting = "send_nats"


class NatsPySyncAlways(JetStreamSyncAlways):
    """The same where every write is synced."""

    setting = "send_nats"


class Sdk(Figure):
    """A Python program, for each peer the one that its setting names."""

    def __init__(
        self, key: str, title: str, conditions: str, count: int, peers: tuple[Peer, ...], bars: tuple[Bar, ...]
    ) -> None:
        self.key = key
        self.title = title
        self.conditions = conditions
        self.count = count
        self.unit = "messages/s"
        self.peers = peers
        self.bars = bars

    def measure(self, server: Server, scale: float, peer: Peer) -> Measured:
        """Run the program."""
        storage = server.open_storage(2)
        if peer.setting == IN_C:
            count = scaled(self.count, scale)
            return Measured.of(store(server, storage, count, connections=1, in_flight=1))
        subject, warm = storage.subjects
        words = [sys.executable, "-m", "bench.clients", peer.setting, "--port", str(server.port)]
        words += [
            "--count",
            str(scaled(self.count, scale)),
            "--subject",
            subject,
            "--read",
            server.read_back(storage)[0],
        ]
        words += ["--mail-id", subject.removeprefix(protocol.MESSAGES), "--warm", warm.removeprefix(protocol.MESSAGES)]
        words += ["--jetstream"] if storage.dialect == "jetstream" else []
        done = subprocess.run(words, capture_output=True, text=True, timeout=RUN_SECONDS_MAX, check=False, cwd=ROOT)
        if done.returncode != 0:
            raise RunFailedError(done.stderr.strip().splitlines()[-1])
        return Measured.of(generator.report(done.stdout))


FIGURES = (
    Sdk(
        "S1",
        "SDK, blocking `send`, one at a time",
        "128 bytes; p50 and p99 of one call",
        4_000,
        (
            Mq9("fsync before every answer", setting="send_mq9"),
            NatsPy("no fsync before the answer", name=NATS_PY),
            NatsPySyncAlways("fsync before every answer", name=f"{NATS_PY}, sync always", pace=1.0),
            Mq9("fsync before every answer", name="nats-py to mq9", setting="send_nats", yardstick=True),
            Mq9("fsync before every answer", name="a client in C to mq9", setting=IN_C, yardstick=True),
        ),
        (times(0.8, NATS_PY),),
    ),
    Sdk(
        "S2",
        "SDK, `send_many`",
        "128 bytes; every message is answered",
        100_000,
        (WithSendMany("fsync before every answer", setting="send_many_mq9"),),
        (at_least(50_000, Quantity.RATE),),
    ),
    Sdk(
        "S3",
        "SDK, `receive` with a callback",
        "128 bytes, of a full mailbox",
        100_000,
        (
            Mq9("each callback has one message", setting="receive_mq9"),
            Mq9("each callback has one message", name="nats-py to mq9", setting="receive_nats", yardstick=True),
        ),
        (at_least(50_000, Quantity.RATE),),
    ),
)
