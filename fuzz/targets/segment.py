"""A segment of the journal (store/frame.pyx): whatever is in it, what is found lies within it.

An input is what fuzz/journal.py makes a segment of, behind a few bytes that say how it is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from fuzz.journal import SALT, Writing
from fuzz.reading import Reading
from fuzz.target import Target
from mq9.store.contract import Table
from mq9.store.frame import Index
from mq9.store.starting import NEVER

SEGMENT: Final = 7
# Damage tells of blocks that are not there; more are never believed in at a time.
_BLOCKS_MAX: Final = 20 * 65_536


def run(data: bytes) -> None:
    """See Target.run."""
    reading = Reading(data)
    last, raw = reading.flag(), reading.flag()
    after = (0, NEVER, reading.number())[reading.below(3)]
    before = NEVER if not reading.flag() else reading.number()
    segment = reading.rest() if raw else Writing(reading).segment(SEGMENT)
    read(segment, after, before, last=last)


def read(segment: bytes, after: int, before: int, *, last: bool) -> None:
    """Read a segment, and look at what was found."""
    index = Index(SEGMENT, 1)
    changes = index.read(segment, SALT, after, before, last)
    assert index.end <= len(segment)
    assert 0 <= index.live <= index.count <= _BLOCKS_MAX
    for dropped, rows in changes:
        assert all(0 <= number <= NEVER for number in dropped)
        for table, key, value in rows:
            assert isinstance(table, Table)
            assert len(key) <= len(segment)
            assert value is None or len(value) <= len(segment)
    at: int | None = 0
    numbers: list[int] = []
    while at is not None:
        places, at = index.blocks(at, 1 << 20)
        for number, offset, size in places:
            numbers.append(number)
            assert size == 0 or offset + size <= len(segment), (number, offset, size)
    assert numbers == sorted(set(numbers)), "a block is found by its number"
    for number in numbers[:100]:
        assert index.place(number) is not None
        assert index.drop(number)
        assert index.place(number) is None
    again = Index(SEGMENT, 1)
    again.read(segment, SALT, after, before, last)
    again.load_dropped(index.pack_dropped())
    assert again.live == index.live


def seeds() -> Iterator[bytes]:
    """Frames that are right, and the others."""
    yield bytes(60)
    for how in (b"\0\0\0\0\0\0", b"\1\0\0\0\0\0", b"\1\0\2\1\0\0", b"\0\0\3\2\1\5"):
        yield how + b"\4" + b"\0\2\1\5hello\1\5again\1\7\1\1\2key\0\5value" * 4
        yield how + b"\4" + b"\3\2\1\5\2\6\1\3\20\0\0\2\0\3\0\0\0key row\13hello again\1\1" * 4
        yield (
            how
            + b"\6"
            + b"\0\1\1\3one\0\0"
            + b"\7\30\1"
            + b"\0\1\1\3two\0\0"
            + b"\6\20sixteen bytes..."
            + b"\0\1\1\3six\0\0"
        )
    yield b"\0\1\0\0\0" + SALT.to_bytes(8, "little") * 20


TARGET: Final = Target("segment", run, seeds, size_max=1024)
