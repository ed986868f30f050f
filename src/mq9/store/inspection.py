"""A store looked at from outside: everything that is in it, and what is not as it was written. Nothing is changed.

What a block or a row means is known above this package; here it is whether each is there, where the journal and the tables say so.
"""

from __future__ import annotations

import faulthandler
import itertools
import os
import resource
from array import array
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, NoReturn, Self

import lmdb

from mq9.store import backup, lmdb_file
from mq9.store.contract import StoreError, StoreFailedError, Table
from mq9.store.directory import BACKUP_FILE, check_journal_format, lock
from mq9.store.frame import Index, survey
from mq9.store.segments import Files, Reader, Segment
from mq9.store.starting import Found, find, read_index
from mq9.store.tables import Checkpoint, Tables

_SLICE_BYTES: Final = 4 * 1024 * 1024


class Inspection:
    """A look at the store, or the backup of one, in a directory. A context manager: nobody opens the store meanwhile.

    Arguments:
        directory: where it is.

    Attributes:
        damage: a sentence for everything that is damaged, as far as it has been looked at.
        segments: how many of the journal's were looked at.
        dropped_max: the highest number of a block that was dropped, of those that are known; -1 for none.

    Entering raises StoreFormatError when it is not a store of this program's format, StoreLockedError when it is open, and
    StoreFailedError, with `damage` saying why, when there is nothing that could be looked at.
    """

    def __init__(self, directory: Path) -> None:
        self.damage: list[str] = []
        self.segments = 0
        self.dropped_max = -1
        self._directory = directory
        self._lock_file = -1
        self._tables = Tables(directory)
        self._found: Found | None = None

    def __enter__(self) -> Self:
        self._check_kind()
        self._lock_file = lock(self._directory, create=False)
        try:
            self._open_tables()
            self._look()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def blocks(self) -> Iterator[tuple[int, bytes]]:
        """All blocks that were not dropped; of each segment, what is damaged is known when its last block has come."""
        found = self._look_at()
        reader = Reader(Files(self._directory))
        highest = -1
        before: Index | None = None
        try:
            for segment in found.segments:
                self.segments += 1
                index, data = self._look_at_segment(reader, segment, found.checkpoint)
                self._look_at_order(index, before, highest, in_a_row=segment.number > found.checkpoint.segment)
                before, highest = index, max(highest, -1 if index.last_number is None else index.last_number)
                following: int | None = 0
                while following is not None:
                    places, following = index.blocks(following, _SLICE_BYTES)
                    for number, offset, size in places:
                        yield number, data[offset : offset + size]
                if segment.known is not None and not segment.changed:
                    segment.index = None  # it can be read again, and not all of them fit into memory
        finally:
            reader.close_all()

    def rows(self, table: Table) -> Iterator[tuple[bytes, bytes]]:
        """The rows of a table in the order of their keys, as the last commit has left them."""
        changed = {key: value for (of, key), value in self._look_at().rows.items() if of is table}
        waiting = sorted(changed, reverse=True)
        after = b""
        while rows := self._tables.rows(table, after):
            after = rows[-1][0]
            for key, value in rows:
                while waiting and waiting[-1] < key:
                    yield from _row(waiting[-1], changed[waiting.pop()])
                if waiting and waiting[-1] == key:
                    yield from _row(waiting[-1], changed[waiting.pop()])
                else:
                    yield key, value
        while waiting:
            yield from _row(waiting[-1], changed[waiting.pop()])

    # the parts of it

    def _check_kind(self) -> None:
        if (self._directory / BACKUP_FILE).exists():
            self.damage += backup.verify(self._directory, backup.Manifest.read(self._directory))
            return
        check_journal_format(self._directory)

    def _open_tables(self) -> None:
        """Open the tables, if they can be read from beginning to end without harm. Raises StoreFailedError."""
        file = self._directory / lmdb_file.DATA_FILE
        try:
            size, needed = file.stat().st_size, _size_needed(self._directory)
        except (OSError, lmdb.Error) as error:
            self._fail(f"{file.name} cannot be opened: {getattr(error, 'strerror', None) or error}")
        if problem := _problem_of(self._tables):
            # It may end before its last pages: they need not have been written. Then nothing is missed.
            is_short = f" (it has {size} bytes of {needed})" if size < needed else ""
            self._fail(f"{file.name} is damaged: {problem}{is_short}")
        self._tables.open_to_read()

    def _look(self) -> None:
        checkpoint = self._tables.checkpoint()
        if checkpoint is None:
            self._fail(f"there is no checkpoint in {lmdb_file.DATA_FILE}")
        try:
            self._found = found = find(Files(self._directory), self._tables.segments(), checkpoint)
        except OSError as error:
            self._fail(f"the journal cannot be read: {error.strerror}")
        self.damage += [f"segment {number} of the journal is missing" for number in found.missing]
        if found.gap:
            self.damage.append(f"commits from {found.gap} on are missing")

    def _look_at(self) -> Found:
        if self._found is None:
            raise StoreFailedError("the store is not open")
        return self._found

    def _look_at_segment(self, reader: Reader, segment: Segment, checkpoint: Checkpoint) -> tuple[Index, bytes]:
        """Look at all of a segment but what is in its blocks; gives its bytes, too."""
        if segment.index is None:
            assert segment.known is not None  # noqa: S101 - one of both tells what is in it
            segment.index = read_index(reader, segment.number, segment.known, checkpoint.salt)
        index = segment.index
        data = reader.read(segment.number, 0, index.end)
        sequences, damage = survey(data, checkpoint.salt, segment.number)
        self.damage += [*index.damage, *damage]
        dropped = array("Q", index.pack_dropped())
        for first, count in zip(dropped[::2], dropped[1::2], strict=True):
            self.dropped_max = max(self.dropped_max, first + count - 1)
        if index.damage:
            return index, data  # and so the rest does not fit
        if any(later != earlier + 1 for earlier, later in itertools.pairwise(sequences)):
            self.damage.append(f"commits are missing within segment {segment.number}")
        if not _fits(segment):
            self.damage.append(f"segment {segment.number} is not what the tables know of it")
        return index, data

    def _look_at_order(self, index: Index, before: Index | None, highest: int, *, in_a_row: bool) -> None:
        """Look whether a segment follows the one `before` it, directly where it must be `in_a_row`."""
        if index.damage or before is None or before.damage:
            return
        if index.first_number is not None and index.first_number <= highest:
            self.damage.append(f"segment {index.segment} has blocks of segments before it")
        if in_a_row and index.first_sequence != before.last_sequence + 1:
            self.damage.append(f"commits from {before.last_sequence + 1} to {index.first_sequence - 1} are missing")

    def _fail(self, sentence: str) -> NoReturn:
        self.damage.append(sentence)
        raise StoreFailedError(sentence)

    def _close(self) -> None:
        self._tables.close()
        if self._lock_file >= 0:
            os.close(self._lock_file)
            self._lock_file = -1


def _row(key: bytes, value: bytes | None) -> Iterator[tuple[bytes, bytes]]:
    if value is not None:
        yield key, value


def _fits(segment: Segment) -> bool:
    """Whether a segment is what the tables know of it; the last one may have become more since."""
    index, known = segment.contents, segment.known
    if known is None:
        return True
    grown = segment.changed
    if known.count and index.first_number != known.first_number:
        return False
    if grown:
        return index.end >= known.end and index.count >= known.count and index.last_sequence >= known.last_sequence
    return (index.first_sequence, index.last_sequence, index.end, index.count) == (
        known.first_sequence,
        known.last_sequence,
        known.end,
        known.count,
    ) and (index.last_number or 0) == known.last_number


def _size_needed(directory: Path) -> int:
    """How many bytes the data file must have. Raises lmdb.Error."""
    with lmdb.open(str(directory), readonly=True, create=False, lock=False, max_dbs=0) as environment:
        return lmdb_file.needed_bytes(environment)


def _problem_of(tables: Tables) -> str:
    """What keeps the tables from being read, or nothing.

    LMDB trusts the pages that it walks over, so that damaged ones may end the process: this is found out by one that nobody misses.
    """
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        said = b""
        faulthandler.disable()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        try:
            tables.open_to_read()
            tables.checkpoint()
            tables.segments()
            for table in Table:
                after = b""
                while rows := tables.rows(table, after):
                    keys = [after, *(key for key, _ in rows)]
                    if any(later <= earlier for earlier, later in itertools.pairwise(keys)):
                        raise StoreFailedError(f"the rows of table {table.value} are not in order")
                    after = keys[-1]
        except BaseException as error:
            said = (str(error) if isinstance(error, StoreError) else repr(error)).encode()
        os.write(write_end, said)
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return "its pages cannot be read"
    return said.decode()
