"""Beginning a store: a new one, or one of a format before the third, whose blocks were in LMDB beside the rows.

The rows stay where they are, with the same meaning. The blocks move into segments; while that is not finished the old ones are there,
and another start begins anew.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
from collections.abc import Callable, Iterator

from mq9.store.contract import Commit
from mq9.store.frame import Frame
from mq9.store.segments import Files, Segment
from mq9.store.tables import OLD_BLOCKS, Checkpoint, Tables

log = logging.getLogger("mq9")

_FRAME_BYTES = 1024 * 1024


def begin(tables: Tables, files: Files, segment_bytes: int, mark_format: Callable[[], None]) -> Checkpoint:
    """Make the first checkpoint of a store, with the blocks of an earlier format in the journal.

    `mark_format` is called before they are removed from where they were. Raises StoreFailedError, StoreFullError, OSError.
    """
    for segment in files.found():
        files.remove(segment)
    moving = _Moving(files, segment_bytes, secrets.randbits(63) + 1)
    for blocks in _old_blocks(tables):
        moving.add(blocks)
    checkpoint, segments = moving.finish()
    mark_format()
    known = {segment.number: segment.now_known() for segment in segments}
    tables.write(checkpoint, {}, known, (), OLD_BLOCKS if tables.old_blocks() is not None else None)
    if segments:
        log.info("took over data of an earlier format")
    return checkpoint


def _old_blocks(tables: Tables) -> Iterator[list[tuple[int, bytes]]]:
    database = tables.old_blocks()
    after = b""
    while database is not None and (found := tables.scan(database, after)):
        after = found[-1][0]
        yield [(int.from_bytes(key), bytes(data)) for key, data in found]


class _Moving:
    """Writes blocks into segments, one after the other, and waits for the disk at the end of each."""

    def __init__(self, files: Files, segment_bytes: int, salt: int) -> None:
        self._files = files
        self._segment_bytes = segment_bytes
        self._salt = salt
        self._sequence = 0
        self._segments: list[Segment] = []

    def add(self, blocks: list[tuple[int, bytes]]) -> None:
        """Write these blocks."""
        lot: list[tuple[int, memoryview | bytes]] = []
        size = 0
        for number, data in blocks:
            lot.append((number, data))
            size += len(data)
            if size >= _FRAME_BYTES:
                self._write(lot)
                lot, size = [], 0
        if lot:
            self._write(lot)

    def _write(self, blocks: list[tuple[int, memoryview | bytes]]) -> None:
        frame = Frame(self._salt, self._sequence + 1, Commit(blocks))
        self._sequence += 1
        segment = self._segments[-1] if self._segments else None
        if segment is None or segment.contents.end + frame.size > segment.size:
            self._finish_segment()
            segment = self._files.create(len(self._segments) + 1, max(frame.size, self._segment_bytes), fill=False)
            self._segments.append(segment)
        frame.address(segment.number)
        data = frame.tobytes()
        if os.pwrite(segment.file, data, segment.contents.end) != len(data):
            raise OSError(errno.EIO, "a write was cut short")
        segment.contents.append(frame)

    def _finish_segment(self) -> None:
        if self._segments and self._segments[-1].file >= 0:
            segment = self._segments[-1]
            os.fsync(segment.file)
            segment.size = segment.contents.end
            self._files.finish(segment)

    def finish(self) -> tuple[Checkpoint, list[Segment]]:
        """Everything was written: the checkpoint that tells of it, and the segments."""
        self._finish_segment()
        last = self._segments[-1].number if self._segments else 0
        return Checkpoint(self._salt, self._sequence, last), self._segments
