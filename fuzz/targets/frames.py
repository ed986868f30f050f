"""The frame parser (wire/frames.pyx): how bytes are cut makes no difference, and what it tells of is what was said.

An input is two bytes, which choose the limits and where it is cut, and a conversation.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, Final

from fuzz.target import Target
from mq9.wire.events import parse

Event = tuple[Any, ...]
_LIMITS: Final = ((4096, 1024 * 1024), (400, 2000), (64, 100), (512, 0))
_PIECES_MAX: Final = 40
# Byte by byte an input is looked at as often as it has bytes.
_EACH_BYTE_MAX: Final = 300


def fed(pieces: list[bytes], control_line_max: int, payload_max: int) -> tuple[list[Event], bytes]:
    """What the parser tells of `pieces`, as a connection feeds them to it, and the bytes it is still waiting with."""
    told: list[Event] = []
    unread = b""
    for piece in pieces:
        unread += piece
        events, consumed, wanted = parse(unread, control_line_max, payload_max)
        told += events
        if told and told[-1][0] == "violation":
            return told, b""
        assert 0 <= consumed <= len(unread)
        unread = unread[consumed:]
        assert wanted == 0 or wanted > len(unread)
    # Whatever a client says, no more of it is kept than one frame.
    assert len(unread) <= control_line_max + payload_max + 4
    return told, unread


def cut(data: bytes, seed: int) -> list[bytes]:
    """`data` in pieces."""
    chance = random.Random(seed)
    places = sorted(chance.randrange(len(data) + 1) for _ in range(chance.randrange(_PIECES_MAX)))
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


def said(event: Event) -> bytes:
    """A frame that means `event`."""
    match event:
        case ("publish", subject, reply, None, payload):
            return b"PUB %b %b%d\r\n%b\r\n" % (subject, b"" if reply is None else reply + b" ", len(payload), payload)
        case ("publish", subject, reply, headers, payload):
            return b"HPUB %b %b%d %d\r\n%b%b\r\n" % (
                subject,
                b"" if reply is None else reply + b" ",
                len(headers),
                len(headers) + len(payload),
                headers,
                payload,
            )
        case ("connect", options):
            return b"CONNECT%b\r\n" % options
        case ("subscribe", subject, queue, sid):
            return b"SUB %b %b%b\r\n" % (subject, b"" if queue is None else queue + b" ", sid)
        case ("unsubscribe", sid, maximum):
            return b"UNSUB %b %d\r\n" % (sid, maximum)
    return str(event[0]).upper().encode() + b"\r\n"


def run(data: bytes) -> None:
    """See Target.run."""
    first, seed, conversation = data[:1], data[1:2], data[2:]
    limits = _LIMITS[sum(first) % len(_LIMITS)]
    whole = fed([conversation], *limits)
    assert fed(cut(conversation, sum(seed)), *limits) == whole
    if len(conversation) <= _EACH_BYTE_MAX:
        assert fed([bytes([byte]) for byte in conversation], *limits) == whole
    events, _ = whole
    assert all(event[0] != "violation" for event in events[:-1])
    frames = [event for event in events if event[0] != "violation"]
    # Our own frames may be a little longer than what was said, with a leading blank left out.
    assert fed([b"".join(map(said, frames))], limits[0] + 16, limits[1]) == (frames, b"")


def seeds() -> Iterator[bytes]:
    """What tests/transcripts says, and frames at the limits."""
    for conversation in (
        b'CONNECT {"verbose":false,"headers":true}\r\nPING\r\n',
        b"SUB a.* 1\r\nSUB b.> workers 2\r\nUNSUB 1\r\nUNSUB 2 7\r\nPONG\r\n",
        b"PUB a 5\r\nhello\r\nPUB a reply 0\r\n\r\npub\ta  1\nx\r\n",
        b"HPUB a 12 17\r\nNATS/1.0\r\n\r\nhello\r\nHPUB a reply 0 2\r\nhi\r\n",
        b"HPUB a 22 22\r\nNATS/1.0\r\nA: value\r\n\r\n",
        b"+OK\r\nINFO {}\r\n-ERR 'no'\r\n",
        b"PUB a 99999999999\r\n",
        b"PUB a -1\r\n",
        b"HPUB a 9 5\r\n12345\r\n",
        b"PUB " + b"a" * 60 + b" 0\r\n\r\n",
        b"PUB a 5\r\nhello\r\r\n",
        b"SUB a\r\n",
        b"UNSUB\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01",
    ):
        yield b"\0\0" + conversation
        yield b"\2\7" + conversation


TARGET: Final = Target(
    "frames",
    run,
    seeds,
    words=(b"CONNECT ", b"HPUB ", b"PUB ", b"SUB ", b"UNSUB ", b"PING", b"PONG", b"-ERR ", b"+OK", b"INFO ", b"\r\n"),
)
