"""Clients as the broker meets them: bytes over a connection that is read fast, slowly or not at all, and that may be lost."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Frame(NamedTuple):
    """What the broker has written: `kind` is its verb; the payload of `-ERR` is its text. `end` is where it ends in the output."""

    kind: bytes
    subject: bytes
    sid: bytes
    headers: dict[bytes, bytes]
    payload: bytes
    end: int


@dataclass(eq=False)
class Asked:
    """Something a client asked for.

    Attributes:
        number: its own.
        what: the operation.
        details: whatever the model has to know of it.
        at: when the broker read it (Unix ms), 0: it has not.
        place: in the order in which the broker read what was asked.
    """

    number: int
    client: Client
    what: str
    details: dict[str, Any]
    at: int = 0
    place: int = 0
    answered: bool = False


@dataclass(eq=False)
class Subscription:
    """A client's subscription to a mailbox: plain, or as a member of a group. `cursors`: the highest msg_id of each rank."""

    client: Client
    sid: bytes
    name: str
    box: Any
    mask: int
    group: str | None
    given: set[int] = field(default_factory=set)
    cursors: dict[int, int] = field(default_factory=dict)
    untaken: deque[tuple[int, int]] = field(default_factory=deque)
    ended: bool = False
    confirmed: bool = False
    maximum: int = 0


class Pipe(asyncio.Transport):
    """The broker's end of a connection."""

    def __init__(self, client: Client, loop: Any) -> None:
        super().__init__()
        self.client = client
        self.protocol: Any = None
        self.held = 0
        self.written = 0
        self.reading = True
        self._loop = loop
        self._high = 1 << 30
        self._low = 0
        self._paused = False
        self._closing = False
        self._lost = False
        self._dropped = 0

    @property
    def taken(self) -> int:
        """Up to where the socket has taken the output."""
        return self.written - self.held - self._dropped

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """No socket, so that the broker writes here."""
        return ("127.0.0.1", 1) if name == "peername" else default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """See asyncio."""
        self._high = high or 0
        self._low = low or 0

    def get_write_buffer_size(self) -> int:
        """See asyncio."""
        return self.held

    def write(self, data: Any) -> None:
        """The socket takes it at once, or little by little as the client reads."""
        if self._lost:
            return
        self.client.hear(bytes(data), self.written)
        self.written += len(data)
        self.held += len(data)
        if not self.client.slow:
            self.held = 0
        elif self.held > self._high and not self._paused:
            self._paused = True
            self.protocol.pause_writing()

    def take(self, size: int) -> None:
        """The client reads."""
        self.held = max(self.held - size, 0)
        if self._paused and self.held <= self._low:
            self._paused = False
            self.protocol.resume_writing()
        if self._closing and not self.held:
            self.lose(None)

    def pause_reading(self) -> None:
        """See asyncio."""
        self.reading = False

    def resume_reading(self) -> None:
        """See asyncio."""
        self.reading = True
        self._loop.call_soon(self.client.feed)

    def is_closing(self) -> bool:
        """See asyncio."""
        return self._closing

    def close(self) -> None:
        """See asyncio: what was written is still read."""
        self._closing = True
        if not self.held:
            self.lose(None)

    def abort(self) -> None:
        """See asyncio: what the socket has not taken is dropped."""
        self._closing = True
        self._dropped, self.held = self.held, 0
        self.lose(None)

    def lose(self, error: Exception | None) -> None:
        """The connection is no more."""
        if not self._lost:
            self._lost = self._closing = True
            self._loop.call_soon(self._tell_lost, error)

    def _tell_lost(self, error: Exception | None) -> None:
        self.client.gone = True
        self.protocol.connection_lost(error)


class Client:
    """One connection.

    Arguments:
        number: its own, for inboxes.
        loop: on which the broker runs.
        asked: called when the broker is about to read what was asked.
        heard: called with every Frame when it is written.
    """

    def __init__(
        self, number: int, loop: Any, asked: Callable[[Asked], None], heard: Callable[[Client, Frame], None]
    ) -> None:
        self.number = number
        self.slow = False
        self.gone = False
        self.leaving = False
        self.subscriptions: dict[bytes, Subscription] = {}
        self.waiting: dict[bytes, Asked] = {}
        self.watches: dict[bytes, Any] = {}
        self.inbox = b"_INBOX.%d." % number
        self._loop = loop
        self._asked = asked
        self._heard = heard
        self._next = 1
        self._unread: deque[tuple[bytes, Asked | None]] = deque()
        self.pipe = Pipe(self, loop)
        self.session = loop.protocol_factory()
        self.pipe.protocol = self.session
        self.session.connection_made(self.pipe)
        connect = {"verbose": False, "headers": True, "no_responders": True, "protocol": 1}
        self.say(b"CONNECT %b\r\nSUB %b* 0\r\n" % (json.dumps(connect).encode(), self.inbox))

    # towards the broker

    def say(self, data: bytes, asked: Asked | None = None) -> None:
        """Write to the broker; `asked` is what that asks for."""
        self._unread.append((data, asked))
        self._loop.call_soon(self.feed)

    def request(self, subject: str, body: bytes, asked: Asked, headers: dict[str, str] | None = None) -> None:
        """Publish with a reply subject."""
        reply = self.inbox + b"%d" % asked.number
        self.waiting[reply] = asked
        self.say(publish(subject, reply, body, headers), asked)

    def say_silently(self, subject: str, body: bytes, headers: dict[str, str] | None, asked: Asked) -> None:
        """Publish without a reply subject."""
        self.say(publish(subject, b"", body, headers), asked)

    def new_sid(self) -> bytes:
        """A sid that was not used yet."""
        self._next += 1
        return b"%d" % self._next

    def feed(self) -> None:
        """Let the broker read what was said."""
        while self._unread and self.pipe.reading and not self.gone and not self.pipe.is_closing():
            data, asked = self._unread.popleft()
            if asked is not None:
                self._asked(asked)
            view = self.session.get_buffer(-1)
            view[: len(data)] = data
            self.session.buffer_updated(len(data))

    def read(self, size: int) -> None:
        """Read what the broker has written."""
        self.pipe.take(size)

    def leave(self, *, politely: bool) -> None:
        """End the connection: with an end of file, or by being cut off."""
        self.leaving = True
        if self.pipe.is_closing():  # the broker has cut it off, and hears nothing more
            return
        if politely:
            self.session.eof_received()
            self.pipe.close()
            self.pipe.take(self.pipe.held)  # the transport ends when it has written what it holds
        else:
            self.pipe.lose(ConnectionResetError("reset"))

    # from the broker

    def hear(self, data: bytes, position: int) -> None:
        """The broker has written `data`, which begins at `position` of its output."""
        for frame in parse(data, position):
            self._heard(self, frame)


def publish(subject: str, reply: bytes, body: bytes, headers: dict[str, str] | None) -> bytes:
    """A PUB or HPUB."""
    start = f"{subject} ".encode() + (reply + b" " if reply else b"")
    if headers is None:
        return b"PUB %b%d\r\n%b\r\n" % (start, len(body), body)
    block = b"NATS/1.0\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode() + b"\r\n"
    return b"HPUB %b%d %d\r\n%b%b\r\n" % (start, len(block), len(block) + len(body), block, body)


def parse(data: bytes, position: int) -> Iterator[Frame]:
    """The frames of an output, which is made of whole ones."""
    at = 0
    while at < len(data):
        end = data.index(b"\r\n", at)
        words = data[at:end].split(b" ")
        at = end + 2
        kind = words[0]
        if kind == b"MSG":
            size = int(words[-1])
            yield Frame(kind, words[1], words[2], {}, data[at : at + size], position + at + size + 2)
            at += size + 2
        elif kind == b"HMSG":
            head, size = int(words[-2]), int(words[-1])
            lines = data[at : at + head].split(b"\r\n")
            headers = dict(line.split(b": ", 1) for line in lines[1:] if b": " in line)
            yield Frame(kind, words[1], words[2], headers, data[at + head : at + size], position + at + size + 2)
            at += size + 2
        else:
            yield Frame(kind, b"", b"", {}, b" ".join(words[1:]), position + at)
