"""One client that sends as fast as it can, and others: nobody waits until it is through."""

from __future__ import annotations

from fuzz.broker import Fuzzed
from mq9.store.memory_engine import MemoryStore

# What the broker reads at a time, filled by frames to the last byte, and how often that is there.
BUFFER = 262_144
FRAME = b"PUB from 4079\r\nfast%b\r\n" % bytes(4_075)
BUFFERS = 12
# How much of that is read in one turn.
TURN = 1_048_576


def test_who_fills_every_buffer_lets_others_have_their_turn() -> None:
    with Fuzzed(MemoryStore()) as broker:
        receiver, fast, other = (broker.connect() for _ in range(3))
        receiver.say(b"SUB from 1\r\n")
        broker.settle()
        for _ in range(BUFFERS):
            fast.say(FRAME * (BUFFER // len(FRAME)))
        other.say(b"PUB from 5\r\nother\r\n")
        broker.settle()
        told = [frame.payload[:5] for frame in broker.told(receiver) if frame.sid == b"1"]
    assert told.count(b"other") == 1
    assert len(told) == BUFFERS * BUFFER // len(FRAME) + 1
    assert told.index(b"other") == TURN // len(FRAME)
