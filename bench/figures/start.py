"""T1 and T2, how long it takes until something can be used; P8a, the same for a broker that has a lot.

The data of P8a is made once, through a broker, and each round starts another broker on it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from bench import generator
from bench.bars import Verdict, at_most, of_our_runs
from bench.figures.base import Figure, Measured, scaled
from bench.figures.loads import CONNECTIONS, IN_FLIGHT, SIZE, create
from bench.generator import RunFailedError
from bench.peers.mq9 import Mq9
from bench.peers.nats_server import JetStream
from bench.processes import HOST
from bench.resources import steady_resident_bytes
from bench.writing import Quantity, size
from mq9 import protocol

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.peers.base import Peer, Server
    from bench.rounds import Entry

PATIENCE_S = 300.0
MAILBOXES = 1_000_000
MESSAGES_EACH = 10
LOOKED_AT = 10_000
RESIDENT_MAX = 1.2e9
COLD = "its file not in memory"


@contextlib.contextmanager
def _line(port: int) -> Iterator[socket.socket]:
    """A client that says no more than it has to."""
    with socket.create_connection((HOST, port), timeout=PATIENCE_S) as line:
        line.sendall(b'CONNECT {"verbose":false,"headers":true}\r\n')
        yield line


def _read_until(line: socket.socket, wanted: bytes) -> None:
    """Read until `wanted` has come."""
    read = b""
    while wanted not in read:
        more = line.recv(65_536)
        if not more:
            raise RunFailedError("the server hung up")
        read += more


class EmptyStart(Figure):
    """From the command to the first answer, on an empty directory."""

    key = "T1"
    title = "start on an empty directory"
    conditions = "from the command to the answer to a PING"
    unit = "to the first answer"
    quantity = Quantity.SECONDS
    peers: tuple[Peer, ...] = (Mq9("as `mq9 serve` starts"), JetStream("with an empty store"))
    bars = (at_most(0.4, Quantity.SECONDS),)

    def run(self, peer: Peer, place: Path, scale: float) -> Measured:
        """Start it, and have it answer."""
        del scale
        started = time.monotonic()
        with peer.start(place) as server, _line(server.port) as line:
            line.sendall(b"PING\r\n")
            _read_until(line, b"PONG\r\n")
            seconds = time.monotonic() - started
        return Measured(value=seconds, count=1)


_IMPORT = """
import sys, time
started = time.perf_counter()
{statement}
took = time.perf_counter() - started
server = ("server", "store", "mailboxes", "routing", "wire", "native")
print(took, *(name for name in sys.modules if name.startswith(tuple(f"mq9.{{room}}" for room in server))))
"""


class Import(Figure):
    """`from mq9 import Mailbox` in a new interpreter."""

    key = "T2"
    title = "import of the SDK"
    conditions = "`from mq9 import Mailbox` in a new interpreter, bytecode there; no module of the broker is loaded"
    unit = "until it is there"
    quantity = Quantity.SECONDS
    peers: tuple[Peer, ...] = (
        Mq9("a client loads nothing of the broker", setting="from mq9 import Mailbox"),
        Mq9("the part of it that is nats-py's", name="nats-py alone", setting="import nats", yardstick=True),
    )
    bars = (at_most(0.25, Quantity.SECONDS),)

    def run(self, peer: Peer, place: Path, scale: float) -> Measured:
        """Import it twice, the first time for the bytecode."""
        del scale
        words = [sys.executable, "-c", _IMPORT.format(statement=peer.setting)]
        for _ in range(2):
            told = subprocess.run(words, capture_output=True, text=True, check=True, cwd=place).stdout.split()
        if len(told) > 1:
            raise RunFailedError(f"a client loads modules of the broker: {', '.join(told[1:])}")
        return Measured(value=float(told[0]), count=1)


def _judge_resident(ours: Entry) -> Verdict:
    """Whether what it holds is within the bar."""
    held = ours.median_of("resident_bytes")
    assert held is not None
    return Verdict(size(held), held <= RESIDENT_MAX)


class FullStart(Figure):
    """From the command to the first message delivered, on the data of many mailboxes."""

    key = "P8a"
    title = f"start with {MAILBOXES:,} mailboxes and {MAILBOXES * MESSAGES_EACH:,} messages"
    conditions = f"{SIZE} bytes; from the command to the first message that a receiver gets"
    unit = "to the first delivery"
    quantity = Quantity.SECONDS
    peers: tuple[Peer, ...] = (
        Mq9("data as the last broker left it"),
        Mq9("read from the disk", name=f"mq9, {COLD}", setting=COLD),
    )
    bars = (
        at_most(10.0, Quantity.SECONDS),
        of_our_runs(f"at most {size(RESIDENT_MAX)} resident, without the page cache", _judge_resident),
    )

    def prepare(self, directory: Path, scale: float) -> None:
        """Have a broker store it all."""
        self._kept = directory
        self._names = directory / "names"
        self._mailboxes = scaled(MAILBOXES // CONNECTIONS, scale) * CONNECTIONS
        with self.peers[0].start(directory) as server:
            create(server, self._mailboxes, self._names)
            generator.run(
                "requests",
                [protocol.MESSAGES],
                port=server.port,
                connections=CONNECTIONS,
                in_flight=IN_FLIGHT,
                ids_per_subject=True,
                **self._spread(),
            )

    def _spread(self) -> dict[str, str | int | bool]:
        """How the messages lie in the mailboxes."""
        count = self._mailboxes // CONNECTIONS * MESSAGES_EACH
        return {"subjects_file": str(self._names), "spread": True, "count": count, "size": SIZE}

    def run(self, peer: Peer, place: Path, scale: float) -> Measured:
        """Start on what was stored, receive a message, and look at a part of the others."""
        del place, scale
        if peer.setting == COLD:
            _evict(self._kept / "data")
        with self._names.open() as names:
            mail_id = names.readline().strip()
        started = time.monotonic()
        with peer.start(self._kept) as server:
            with _line(server.port) as line:
                line.sendall(f"SUB {protocol.MESSAGES}{mail_id} 1\r\n".encode())
                _read_until(line, b"HMSG ")
                seconds = time.monotonic() - started
            resident = steady_resident_bytes(server.pid)
            self._look(server)
        return Measured(
            value=seconds, count=self._mailboxes * MESSAGES_EACH, details={"resident_bytes": float(resident)}
        )

    def _look(self, server: Server) -> None:
        """Receive everything that some of the mailboxes hold."""
        generator.run(
            "receive",
            [protocol.MESSAGES],
            port=server.port,
            publishers=CONNECTIONS,
            every=max(1, self._mailboxes // LOOKED_AT),
            **self._spread(),
        )


def _evict(directory: Path) -> None:
    """Ask the operating system to let go of what it holds in memory of the files below `directory`."""
    for path in directory.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


FULL_START = (FullStart(),)
FIGURES = (EmptyStart(), Import())
