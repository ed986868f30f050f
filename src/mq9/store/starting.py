"""Starting with what is on the disk: the tables as of the last checkpoint, and of the journal what was committed behind it."""

from __future__ import annotations

import logging
from bisect import bisect_right
from dataclasses import dataclass, field
from operator import itemgetter

from mq9.store.contract import Table
from mq9.store.frame import Index
from mq9.store.segments import Files, Known, Reader, Segment
from mq9.store.tables import Checkpoint

log = logging.getLogger("mq9")

NEVER = 2**64 - 1
# What the tables say of a segment has no checksum; what is beyond these was never so.
SEGMENT_BYTES_MAX = 2**32
BLOCK_NUMBER_MAX = 2**63 - 1


@dataclass(slots=True)
class Found:
    """What a store starts with.

    Attributes:
        checkpoint: the last one.
        sequence: of the last commit.
        segments: those that have something in them, in their order.
        empty: those that were made ahead, in their order.
        unused: those that nothing is left in, or ever was, and that nobody needs.
        missing: the numbers of those that should be there.
        gap: the first of the commits that should be there and are not, 0 when none is missing.
        rows: what has changed in the tables since the checkpoint.
    """

    checkpoint: Checkpoint
    sequence: int
    segments: list[Segment] = field(default_factory=list)
    empty: list[Segment] = field(default_factory=list)
    unused: list[Segment] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)
    gap: int = 0
    rows: dict[tuple[Table, bytes], bytes | None] = field(default_factory=dict)

    def report(self) -> None:
        """Say what is damaged."""
        for number in self.missing:
            log.error("segment %d of the journal is missing: its blocks are lost", number)
        for segment in self.segments:
            if segment.index is not None:
                report(segment.index)
        if self.gap:
            log.error("the journal: commits from %d on are missing", self.gap)


def find(files: Files, known: dict[int, Known], checkpoint: Checkpoint) -> Found:
    """Look at everything that is stored, and change nothing.

    Arguments:
        files: the journal's.
        known: what the tables know of segments; it is used up.
        checkpoint: what else they know.

    Raises OSError.
    """
    found = Found(checkpoint, checkpoint.sequence)
    tail = []
    for segment in files.found():
        segment.known = known.pop(segment.number, None)
        if segment.number >= checkpoint.segment:
            tail.append(segment)
        elif segment.known is None:
            found.unused.append(segment)  # nothing was left in it, and it was about to be used again
        else:
            found.segments.append(segment)
    found.missing.extend(known)
    changes = _read_tail(files, tail, found)
    _apply(files, changes, found)
    return found


def read_index(reader: Reader, number: int, known: Known, salt: int) -> Index:
    """What is in a segment that the tables know. Raises OSError."""
    data = reader.read(number, 0, min(known.end, SEGMENT_BYTES_MAX))
    index = Index(number, known.first_sequence)
    index.read(data, salt, NEVER, min(known.last_sequence + 1, NEVER), last=False)
    complete(index, known)
    return index


def complete(index: Index, known: Known) -> None:
    """Add to what was found in a segment what the tables know of it."""
    if index.end < known.end:
        index.damage.append(f"segment {index.segment} is damaged from byte {index.end} on")
        index.lose(min(known.last_number, BLOCK_NUMBER_MAX) + 1)
    index.load_dropped(known.dropped)


def report(index: Index) -> None:
    """Say what was found to be damaged."""
    for sentence in index.damage:
        log.error("the journal: %s", sentence)


Changes = list[tuple[list[int], list[tuple[Table, bytes, bytes | None]]]]


def _read_tail(files: Files, tail: list[Segment], found: Found) -> Changes:
    """Read the segments that were written to since the checkpoint, the last one first: it says which commits before it count."""
    reader = Reader(files)
    changes: Changes = []
    before = NEVER
    sound = found.checkpoint.sequence + 1
    written: list[Segment] = []
    for segment in reversed(tail):
        index = Index(segment.number, 1)
        data = reader.read(segment.number, 0, segment.size)
        own = index.read(data, found.checkpoint.salt, found.checkpoint.sequence, before, last=not written)
        if index.end == 0:
            if written:
                found.unused.append(segment)
            else:
                segment.index = index
                found.empty.insert(0, segment)
            continue
        if segment.known is not None:
            complete(index, segment.known)
        segment.index = index
        segment.changed = True
        found.sequence = max(found.sequence, index.last_sequence)
        before = index.first_sequence
        written.append(segment)
        changes = own + changes
    reader.close_all()
    if written and written[-1].index is not None and written[-1].index.first_sequence > sound:
        found.gap = sound
    found.segments.extend(reversed(written))
    return changes


def _apply(files: Files, changes: Changes, found: Found) -> None:
    """Take over what was committed since the checkpoint besides blocks."""
    reader = Reader(files)
    holders = [(first, segment) for segment in found.segments if (first := first_number(segment)) is not None]
    for dropped, rows in changes:
        for number in dropped:
            at = bisect_right(holders, number, key=itemgetter(0)) - 1
            if at < 0:
                continue
            segment = holders[at][1]
            if segment.index is None and segment.known is not None:
                segment.index = read_index(reader, segment.number, segment.known, found.checkpoint.salt)
            if segment.contents.drop(number):
                segment.changed = True
        for table, key, value in rows:
            found.rows[table, key] = value
    reader.close_all()


def first_number(segment: Segment) -> int | None:
    """The number of the first block that a segment ever had, or None."""
    if segment.index is not None:
        return segment.index.first_number
    return segment.known.first_number if segment.known is not None and segment.known.count else None


def last_number(segment: Segment) -> int:
    """The number of the last block that a segment ever had, or -1."""
    if segment.index is not None:
        return -1 if segment.index.last_number is None else segment.index.last_number
    return segment.known.last_number if segment.known is not None and segment.known.count else -1
