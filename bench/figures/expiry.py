"""E1: a million messages end in one second, while a message at a time goes to a mailbox beside them.

What counts is how late those that go on are: none is to take longer than 20 ms from being sent to having arrived.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from typing import TYPE_CHECKING

from bench.bars import Verdict, of_our_runs
from bench.figures.base import Figure, Measured
from bench.generator import RunFailedError
from bench.peers.client import connected
from bench.peers.mq9 import Mq9
from bench.processes import HOST
from bench.writing import duration
from mq9 import protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.peers.base import Peer, Server
    from bench.rounds import Entry

SIZE = 1024
LATE_MS = 20.0
BEFORE_S = 1.0
AFTER_S = 4.0
PROBE_PAUSE_S = 0.002
_FRAMES_AT_ONCE = 1_000
_CRLF = b"\r\n"


@contextlib.contextmanager
def _line(port: int) -> Iterator[socket.socket]:
    """A client that says no more than it has to."""
    with socket.create_connection((HOST, port), timeout=60.0) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line.sendall(b'CONNECT {"verbose": false, "headers": true}\r\nPING\r\n')
        _read_until(line, b"PONG\r\n")
        yield line


def _read_until(line: socket.socket, end: bytes) -> bytes:
    """What has come when `end` is in it; a PING of the broker's may be behind that."""
    read = b""
    while end not in read:
        if not (more := line.recv(65_536)):
            raise RunFailedError("mq9 hung up")
        read += more
    return read


def _fill(line: socket.socket, subject: str, count: int, end: float) -> None:
    """Send `count` messages that all end in the second before `end`, in Unix seconds."""
    for first in range(0, count, _FRAMES_AT_ONCE):
        block = b"NATS/1.0\r\nmq9-ttl: %d\r\n\r\n" % int(end - time.time())
        head = b"HPUB %b %d %d\r\n" % (subject.encode(), len(block), len(block) + SIZE)
        line.sendall((head + block + bytes(SIZE) + _CRLF) * min(_FRAMES_AT_ONCE, count - first))
    line.sendall(b"PING\r\n")
    _read_until(line, b"PONG\r\n")


def _probe(sender: socket.socket, receiver: socket.socket, subject: str, until: float) -> list[tuple[float, float]]:
    """Send one message after the other until `until` (Unix seconds): for each when, and how long it took, in seconds."""
    receiver.sendall(f"SUB {subject} 1\r\nPING\r\n".encode())
    _read_until(receiver, b"PONG\r\n")
    took = []
    while (sent := time.time()) < until:
        before = time.perf_counter()
        sender.sendall(f"PUB {subject} 5\r\nprobe\r\n".encode())
        _read_until(receiver, b"probe\r\n")
        took.append((sent, time.perf_counter() - before))
        time.sleep(PROBE_PAUSE_S)
    return took


async def _left(port: int, mail_id: str) -> int:
    async with connected(port) as client:
        reply = await client.request(protocol.FETCH + mail_id, b'{"limit": 1, "payload": false}', timeout=10)
    return len(json.loads(reply.data)["messages"])


def _judge_latest(ours: Entry) -> Verdict:
    """Whether no message of any round was later than it may be."""
    latest = max(measured.max_us or 0.0 for measured in ours.rounds)
    return Verdict(f"{duration(latest)} at most", latest <= LATE_MS * 1_000)


class Expiry(Figure):
    """`count` messages that end in the same second, `life_s` seconds after the first was sent; filling must take less."""

    unit = "deliveries/s, one at a time"
    peers = (Mq9("fsync before it is delivered"),)
    bars = (of_our_runs(f"none beside it takes more than {LATE_MS:.0f} ms", _judge_latest),)

    def __init__(self, key: str, count: int, life_s: int = 15) -> None:
        self.key = key
        self.count = count
        self.life_s = life_s
        self.title = f"{count:,} messages end in one second"
        self.conditions = f"{SIZE} bytes each; counted are single messages through another mailbox meanwhile"

    def measure(self, server: Server, scale: float, peer: Peer) -> Measured:
        """Fill a mailbox, and watch another one while what is in the first ends."""
        del peer
        full, other = server.open_storage(2).subjects
        count = max(1, int(self.count * scale))
        end = float(int(time.time()) + self.life_s)
        with _line(server.port) as sender, _line(server.port) as receiver:
            _fill(sender, full, count, end)
            if time.time() > end - BEFORE_S:
                raise RunFailedError("filling the mailbox took longer than its messages last")
            took = _probe(sender, receiver, other, end + AFTER_S)
        if asyncio.run(_left(server.port, full.rpartition(".")[2])):
            raise RunFailedError(f"there is something left {AFTER_S} s after everything has ended")
        beside = sorted(seconds for sent, seconds in took if sent > end - BEFORE_S)
        return Measured(
            value=len(beside) / (BEFORE_S + AFTER_S),
            count=len(beside),
            p50_us=beside[len(beside) // 2] * 1e6,
            p99_us=beside[len(beside) * 99 // 100] * 1e6,
            max_us=beside[-1] * 1e6,
        )


FIGURES = (Expiry("E1", count=1_000_000),)
