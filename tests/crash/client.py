"""A connection that asks much at a time and hears every answer up to the very end of its broker."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

_OPTIONS: Final = b'CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true}\r\nPING\r\n'
_SUBSCRIBE: Final = b"SUB answers.* 0\r\n"
_CHUNK: Final = 1 << 18
_UNSENT_MAX: Final = 1 << 16
Answer = dict[str, Any]


class Client:
    """One connection. Whoever asks gives a callback, which hears the answer if there is one before the broker ends.

    Reading and writing have nothing to do with each other: a stream of asyncio's whose writing fails drops what it has read, and what
    the system still has for it. That counts, too: the broker was told that the socket has it.

    Arguments:
        connected: the socket.
        shown: called with header block and payload of every message that a mailbox delivers.
    """

    def __init__(self, connected: socket.socket, shown: Callable[[bytes, bytes], None]) -> None:
        self._socket = connected
        self._input = asyncio.StreamReader(limit=1 << 22)
        self._unsent = bytearray(_OPTIONS + _SUBSCRIBE)
        self._shown = shown
        self._waiting: dict[bytes, Callable[[Answer], None]] = {}
        self._last = 0
        self._asked = asyncio.Event()
        self._moved = asyncio.Event()
        self._tasks = [asyncio.create_task(work()) for work in (self._receive, self._send)]
        self._reading = asyncio.create_task(self._read())
        self.answers = 0

    @classmethod
    async def connect(cls, url: str, shown: Callable[[bytes, bytes], None]) -> Self:
        """A connection to the broker at `url`."""
        connected = socket.socket()
        connected.setblocking(False)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(connected, ("127.0.0.1", urlsplit(url).port))
        return cls(connected, shown)

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
        self._write(line + headers + body + b"\r\n")

    def watch(self, subject: str, sid: int, queue: str = "") -> None:
        """Subscribe to the messages of a mailbox, as a member of the group `queue` when it is given."""
        self._write(f"SUB {subject} {queue} {sid}\r\n".encode())

    async def room(self, waiting_max: int) -> None:
        """Come back when at most `waiting_max` answers are still to come and the socket takes more, or all is over."""
        await asyncio.sleep(0)
        while (len(self._waiting) > waiting_max or len(self._unsent) > _UNSENT_MAX) and not self.ended:
            self._moved.clear()
            await self._moved.wait()

    async def end(self) -> None:
        """Hear all that the broker has said before it ended, and hang up."""
        await self._reading
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._socket.close()

    def _write(self, data: bytes) -> None:
        self._unsent += data
        self._asked.set()

    async def _send(self) -> None:
        loop = asyncio.get_running_loop()
        with suppress(ConnectionError):
            while True:
                data = bytes(self._unsent)
                self._unsent.clear()
                self._asked.clear()
                await loop.sock_sendall(self._socket, data)
                self._moved.set()
                await self._asked.wait()

    async def _receive(self) -> None:
        loop = asyncio.get_running_loop()
        with suppress(ConnectionError):
            while data := await loop.sock_recv(self._socket, _CHUNK):
                self._input.feed_data(data)
        self._input.feed_eof()

    async def _read(self) -> None:
        try:
            while line := await self._input.readuntil(b"\r\n"):
                if line.startswith((b"MSG ", b"HMSG ")):
                    await self._message(line.split())
                elif line == b"PING\r\n":
                    self._write(b"PONG\r\n")
                else:
                    assert line.startswith((b"INFO ", b"PONG\r\n")), line
        except asyncio.IncompleteReadError:
            pass
        finally:
            self._moved.set()

    async def _message(self, words: list[bytes]) -> None:
        data = await self._input.readexactly(int(words[-1]) + 2)
        header_size = int(words[-2]) if words[0] == b"HMSG" else 0
        told = self._waiting.pop(words[1], None)
        if told is None:
            assert words[1].startswith(b"$mq9.AI.MAILBOX.MSG."), f"{words} was answered twice or never asked for"
            self._shown(data[:header_size], data[header_size:-2])
        else:
            told(json.loads(data[header_size:-2]))
            self.answers += 1
        self._moved.set()
