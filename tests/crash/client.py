"""A connection that asks much at a time and hears every answer up to the very end of its broker."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

_OPTIONS: Final = b'CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true}\r\nPING\r\n'
_SUBSCRIBE: Final = b"SUB answers.* 0\r\n"
Answer = dict[str, Any]


class Client:
    """One connection. Whoever asks gives a callback, which hears the answer if there is one before the broker ends.

    Arguments:
        reader, writer: the connection.
        shown: called with header block and payload of every message that a mailbox delivers.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, shown: Callable[[bytes, bytes], None]
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._shown = shown
        self._waiting: dict[bytes, Callable[[Answer], None]] = {}
        self._last = 0
        self._answered = asyncio.Event()
        self._reading = asyncio.create_task(self._read())
        self.answers = 0

    @classmethod
    async def connect(cls, url: str, shown: Callable[[bytes, bytes], None]) -> Self:
        """A connection to the broker at `url`."""
        reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port, limit=1 << 22)
        writer.write(_OPTIONS + _SUBSCRIBE)
        return cls(reader, writer, shown)

    @property
    def ended(self) -> bool:
        """Whether the broker has hung up and all that it said has been heard."""
        return self._reading.done()

    def ask(self, subject: str, body: bytes, told: Callable[[Answer], None], headers: bytes = b"") -> None:
        """Ask for something; `headers` is a whole header block. `told` is called with the answer."""
        self._last += 1
        reply = b"answers.%d" % self._last
        self._waiting[reply] = told
        if headers:
            line = b"HPUB %b %b %d %d\r\n" % (subject.encode(), reply, len(headers), len(headers) + len(body))
        else:
            line = b"PUB %b %b %d\r\n" % (subject.encode(), reply, len(body))
        if not self._writer.is_closing():
            self._writer.write(line + headers + body + b"\r\n")

    def watch(self, subject: str, sid: int, queue: str = "") -> None:
        """Subscribe to the messages of a mailbox, as a member of the group `queue` when it is given."""
        self._writer.write(f"SUB {subject} {queue} {sid}\r\n".encode())

    async def room(self, waiting_max: int) -> None:
        """Come back when at most `waiting_max` answers are still to come and the socket takes more, or all is over."""
        await asyncio.sleep(0)
        try:
            await self._writer.drain()
        except ConnectionError:
            await self._reading
        while len(self._waiting) > waiting_max and not self.ended:
            self._answered.clear()
            await self._answered.wait()

    async def end(self) -> None:
        """Hear all that the broker has said before it ended, and hang up."""
        await self._reading
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()

    async def _read(self) -> None:
        try:
            while line := await self._reader.readuntil(b"\r\n"):
                if line.startswith((b"MSG ", b"HMSG ")):
                    await self._message(line.split())
                elif line == b"PING\r\n":
                    self._writer.write(b"PONG\r\n")
                else:
                    assert line.startswith((b"INFO ", b"PONG\r\n")), line
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._answered.set()

    async def _message(self, words: list[bytes]) -> None:
        data = await self._reader.readexactly(int(words[-1]) + 2)
        header_size = int(words[-2]) if words[0] == b"HMSG" else 0
        told = self._waiting.pop(words[1], None)
        if told is None:
            assert words[1].startswith(b"$mq9.AI.MAILBOX.MSG."), f"{words} was answered twice or never asked for"
            self._shown(data[:header_size], data[header_size:-2])
        else:
            told(json.loads(data[header_size:-2]))
            self.answers += 1
        self._answered.set()
