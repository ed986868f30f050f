"""A small Redis that has streams and nothing else, and keeps its promises except where a test tells it not to."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.bench.scripted import Fault, honest, serving

if TYPE_CHECKING:
    from collections.abc import Iterable


def bulk(data: bytes) -> bytes:
    """Write bytes of a known size."""
    return b"$%d\r\n%b\r\n" % (len(data), data)


def array(items: Iterable[bytes]) -> bytes:
    """Write an array of values that are written already."""
    written = list(items)
    return b"*%d\r\n" % len(written) + b"".join(written)


NOTHING = b"*-1\r\n"


@dataclass
class RedisScript:
    """What the server does.

    `fault` is between it and its replies to XADD, `read_fault` between what was stored and its replies to XREAD and
    XREADGROUP, entry by entry, `ack_fault` between it and its replies to XACK. `pending` is what XPENDING says.
    """

    fault: Fault = honest
    read_fault: Fault = honest
    ack_fault: Fault = honest
    pending: int = 0
    streams: dict[bytes, list[tuple[bytes, bytes]]] = field(default_factory=dict)
    taken: int = 0
    handed_out: int = 0
    acks: int = 0

    def serving(self) -> contextlib.AbstractAsyncContextManager[int]:
        """Serve on a free port, which is what the block gets."""
        return serving(self.serve)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client until it hangs up."""
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                words = []
                for _ in range(int(line[1:])):
                    size = int((await reader.readline())[1:])
                    words.append((await reader.readexactly(size + 2))[:-2])
                writer.writelines(self.obey(words))
                await writer.drain()
        writer.close()

    def obey(self, words: list[bytes]) -> list[bytes]:
        """Do what one command asks for; return what is to be written."""
        match words[0]:
            case b"PING":
                return [b"+PONG\r\n"]
            case b"XADD":
                return self.add(words[1], words[4])
            case b"XREAD":
                return [self.read(words)]
            case b"XREADGROUP":
                return [self.hand_out(words[7], int(words[5]))]
            case b"XACK":
                number, self.acks = self.acks, self.acks + 1
                return self.ack_fault(number, [b":%d\r\n" % (len(words) - 3)])
            case b"XPENDING":
                return [array([b":%d\r\n" % self.pending, b"$-1\r\n", b"$-1\r\n", NOTHING])]
        raise AssertionError(words)

    def add(self, stream: bytes, payload: bytes) -> list[bytes]:
        """Store an entry and tell its id."""
        number, self.taken = self.taken, self.taken + 1
        entries = self.streams.setdefault(stream, [])
        entry_id = b"1700000000000-%d" % (len(entries) + 1)
        entries.append((entry_id, payload))
        return self.fault(number, [bulk(entry_id)])

    def read(self, words: list[bytes]) -> bytes:
        """Give the entries behind those that were read."""
        names = words[4 : 4 + (len(words) - 4) // 2]
        found = []
        for name, after in zip(names, words[4 + len(names) :], strict=True):
            start = 0 if after == b"0" else int(after.partition(b"-")[2])
            entries = self.streams.get(name, [])[start : start + int(words[2])]
            written = self.entries(start, entries)
            if written:
                found.append(array([bulk(name), array(written)]))
        return array(found) if found else NOTHING

    def hand_out(self, stream: bytes, limit: int) -> bytes:
        """Give entries that no worker has had."""
        start = self.handed_out
        entries = self.streams.get(stream, [])[start : start + limit]
        self.handed_out += len(entries)
        written = self.entries(start, entries)
        return array([array([bulk(stream), array(written)])]) if written else NOTHING

    def entries(self, start: int, entries: list[tuple[bytes, bytes]]) -> list[bytes]:
        """Write entries, or what the fault makes of their payloads."""
        written: list[bytes] = []
        for number, (entry_id, payload) in enumerate(entries, start):
            given = self.read_fault(number, [payload])
            written += [array([bulk(entry_id), array([bulk(b"p"), bulk(data)])]) for data in given]
        return written
