"""The frame parser, whatever it is fed: how bytes are cut makes no difference, and it asks for nothing it has."""

from __future__ import annotations

from typing import Any, Final

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fuzz.targets.frames import fed as fed_within
from mq9.wire.headers import read_headers
from tests.fuzz.traffic import conversations, cut, good, header_blocks

CONTROL_LINE_MAX: Final = 400
PAYLOAD_MAX: Final = 2000
Event = tuple[Any, ...]


def fed(pieces: list[bytes]) -> tuple[list[Event], bytes]:
    """What the parser tells of `pieces`, and the bytes it is still waiting with."""
    return fed_within(pieces, CONTROL_LINE_MAX, PAYLOAD_MAX)


def each_byte(data: bytes) -> list[bytes]:
    """`data`, a byte at a time."""
    return [data[at : at + 1] for at in range(len(data))]


@given(st.data(), conversations)
@settings(max_examples=400)
def test_cutting_makes_no_difference(data: st.DataObject, conversation: bytes) -> None:
    whole = fed([conversation])
    assert fed(data.draw(cut(conversation))) == whole
    assert fed(each_byte(conversation)) == whole


@given(st.binary(max_size=300))
@example(b"PUB " + b"a" * (CONTROL_LINE_MAX - 6) + b" 0\r\n\r\n")
@example(b"PUB " + b"a" * (CONTROL_LINE_MAX - 5) + b" 0\r\n\r\n")
@example(b"PUB " + b"a" * (CONTROL_LINE_MAX - 4) + b" 0\r\n\r\n")
@example(b"PUB " + b"a" * (CONTROL_LINE_MAX - 6) + b" 0\n\r\n")
@example(b"PUB " + b"a" * (CONTROL_LINE_MAX - 5) + b" 0\n\r\n")
@example(b"PING" + b" " * (CONTROL_LINE_MAX - 5) + b"\r\n")
@example(b"PING" + b" " * (CONTROL_LINE_MAX - 4) + b"\r\n")
@example(b"PING" + b" " * (CONTROL_LINE_MAX - 3) + b"\r\n")
@example(b"PUB a %d\r\n" % PAYLOAD_MAX + b"x" * PAYLOAD_MAX + b"\r\n")
@example(b"PUB a %d\r\n" % (PAYLOAD_MAX + 1) + b"x" * PAYLOAD_MAX + b"\r\n")
def test_cutting_garbage_and_limits_makes_no_difference(data: bytes) -> None:
    assert fed(each_byte(data)) == fed([data])


@given(st.lists(good, max_size=6))
def test_good_frames_are_all_told_of(frames: list[bytes]) -> None:
    told: list[Event] = []
    for frame in frames:
        events, unread = fed([frame])
        if events and events[-1][0] == "violation":
            return
        assert unread == b""
        told += events
    assert fed([b"".join(frames)]) == (told, b"")


@given(conversations)
def test_after_a_violation_there_is_nothing_more(conversation: bytes) -> None:
    events, _ = fed([conversation])
    assert all(event[0] != "violation" for event in events[:-1])


@given(st.one_of(header_blocks(), st.binary(max_size=100), st.binary(max_size=50).map(lambda b: b"NATS/1.0\r\n" + b)))
def test_a_header_block_is_read_or_refused(block: bytes) -> None:
    try:
        headers = read_headers(block)
    except ValueError:
        return
    assert block.startswith(b"NATS/1.0")
    assert block.endswith(b"\r\n\r\n")
    assert sum(map(len, headers.values())) == block.count(b"\n") - 2


@pytest.mark.parametrize("count", [1, 9, 10, 11, 35])
def test_what_is_read_ahead_is_told_of_before_anything_else(count: int) -> None:
    """The parser reads publishes before it tells of them: whatever follows, all of them come first, in order, once."""
    publishes = b"".join(b"PUB s.%d r %d\r\n%s\r\n" % (at, at, b"x" * at) for at in range(count))
    expected = [("publish", b"s.%d" % at, b"r", None, b"x" * at) for at in range(count)]
    for ending, events in (
        (b"", []),
        (b"PING\r\n", [("ping",)]),
        (b"PUB unfinished 5\r\nabc", []),
        (b"PUB unfinished", []),
        (b"NOTHING\r\n", [("violation", "unknown operation")]),
        (b"PUB too many words in it\r\n", [("violation", "malformed arguments")]),
        (b"PUB s 1\r\nab\r\n", [("violation", "unknown operation")]),
        (b"SUB s 1\r\n" + publishes + b"PONG\r\n", [("subscribe", b"s", None, b"1"), *expected, ("pong",)]),
    ):
        assert fed([publishes + ending])[0] == expected + events
