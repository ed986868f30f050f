"""The engine on the local disk: a journal to which every commit is appended and synced once, and tables that follow it.

A commit is one frame in the current segment of the journal. Its blocks stay there. Its rows are kept in memory besides, and go into the
tables (LMDB) with the next checkpoint, for which nobody waits. A start reads the tables, and of the journal what was committed
behind the last checkpoint. A segment of which all blocks were dropped is used again.

One thread writes and syncs (writer.pyx), one reads blocks, one makes and removes files, one has the tables; all state is the event
loop's.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from mq9.store import upgrading
from mq9.store.contract import (
    FORMAT_VERSION,
    Commit,
    Store,
    StoreError,
    StoreFailedError,
    StoreFullError,
    Table,
    Usage,
)
from mq9.store.directory import check_format, lock, mark_format
from mq9.store.frame import Frame
from mq9.store.hold import Hold
from mq9.store.journal import Journal, failure
from mq9.store.segments import Files
from mq9.store.starting import Found, find
from mq9.store.tables import RESERVE_BYTES, Checkpoint, Tables
from mq9.store.worker import Worker
from mq9.store.writer import Writer

log = logging.getLogger("mq9")

SEGMENT_BYTES = 8 * 1024 * 1024
_SEGMENT_BYTES_MIN = 64 * 1024
# A store that may have less than so many segments gets smaller ones: one is written to, two are made ahead.
_LIMIT_PER_SEGMENT = 10
_SLICE_BYTES = 4 * 1024 * 1024
# A checkpoint is made when as much was committed since the last one: in rows, in bytes of them, in bytes of everything. A start reads
# no more than that of the journal twice.
_ROWS_MAX = 20_000
_ROWS_BYTES_MAX = 4 * 1024 * 1024
_JOURNAL_BYTES_MAX = 64 * 1024 * 1024
# Empty segments wait for each other a little, so that not each of them makes a checkpoint.
_EMPTY_MAX = 4
_EMPTY_WAIT_S = 1.0
# So many bytes of rows that no checkpoint takes, and commits wait for one.
_ROWS_BYTES_HELD_MAX = 64 * 1024 * 1024
_RETRY_S = 1.0

_Result = TypeVar("_Result")


class DiskStore(Store):
    """Blocks and rows below a directory.

    Arguments:
        directory: created when it is not there; must be empty or a data directory of a format up to FORMAT_VERSION.
        bytes_max: how large the data may become on disk; a commit past it raises StoreFullError.
        segment_bytes: of the journal's files, less where `bytes_max` or the disk is small.
    """

    def __init__(
        self, directory: str | os.PathLike[str], bytes_max: int = 1 << 40, segment_bytes: int = SEGMENT_BYTES
    ) -> None:
        self._directory = Path(directory)
        self._bytes_max = bytes_max
        self.region_bytes = segment_bytes
        self._lock_file = -1
        self._hold: Hold | None = None
        self._tables = Tables(self._directory, bytes_max)
        self._tables_bytes = 0
        self._table_worker: Worker | None = None
        self._journal: Journal | None = None
        self._writer: Writer | None = None
        self._in_flight: asyncio.Future[None] | None = None
        self._checkpointing: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._has_failed = False

    async def open(self) -> None:
        """See Store.open."""
        self._loop = asyncio.get_running_loop()
        self._table_worker = Worker("mq9-tables")
        try:
            found = await self._table_worker.run(self._open)
            assert self._hold is not None  # noqa: S101 - it was opened with the rest
            self._journal = Journal(Files(self._directory), found, self.region_bytes, self._check_growth, self._hold)
            await self._journal.begin()
        except StoreError:
            await self.close()
            raise
        except OSError as error:
            await self.close()
            raise StoreFailedError(f"cannot open the data directory {self._directory}: {error.strerror}") from None
        self._writer = Writer()
        self._sequence = found.sequence
        self._rows: dict[tuple[Table, bytes], bytes | None] = {}
        self._rows_bytes = self._journal_bytes = 0

    async def close(self) -> None:
        """See Store.close."""
        if self._table_worker is None:
            return
        if self._in_flight is not None:
            await asyncio.wait([self._in_flight])
        if self._writer is not None:
            await self._checkpoint_at_the_end()
            self._writer.stop()
            self._writer = None
        if self._journal is not None:
            await self._journal.close()
            self._journal = None
        await self._table_worker.run(self._close)
        self._table_worker.stop()
        self._table_worker = None

    async def commit(self, commit: Commit) -> None:
        """See Store.commit."""
        journal, writer = self._opened(), self._writer
        if writer is None or self._in_flight is not None:
            raise RuntimeError("one commit is made at a time, while the store is open")
        self._in_flight = self._loop.create_future()
        try:
            frame = Frame(journal.salt, self._sequence + 1, commit)
            await self._make_ready(journal, commit, frame)
            current, told = journal.current, self._loop.create_future()
            frame.address(current.number)
            writer.write(frame, current.file, journal.end, partial(self._written, frame, commit, told))
        except BaseException:
            self._ended()
            raise
        await told

    async def read_block(self, number: int) -> bytes:
        """See Store.read_block."""
        return await self._opened().read(number)

    async def scan_blocks(self) -> AsyncIterator[Sequence[tuple[int, bytes]]]:
        """See Store.scan_blocks."""
        async for blocks in self._opened().scan(_SLICE_BYTES):
            yield blocks
        self._plan_checkpoint()  # it has been found out of which segments nothing is left

    async def scan_rows(self, table: Table) -> AsyncIterator[Sequence[tuple[bytes, bytes]]]:
        """See Store.scan_rows."""
        self._opened()
        if self._rows or self._checkpointing is not None:
            await self._checkpoint_now()
        after = b""
        while rows := await self._on_tables(self._tables.rows, table, after):
            after = rows[-1][0]
            yield rows

    def region(self, number: int) -> int:
        """See Store.region: the segment of the journal."""
        return self._opened().region(number)

    async def usage(self) -> Usage:
        """See Store.usage: the frames of the journal and the tables' file, without what was made ahead."""
        return Usage(bytes_stored=self._opened().used + self._tables_bytes, durable=True)

    # a commit

    async def _make_ready(self, journal: Journal, commit: Commit, frame: Frame) -> None:
        """See to it that the frame can be written. Raises StoreError when it cannot."""
        highest = journal.highest
        for number, _ in commit.blocks:
            if number <= highest:
                raise StoreFailedError(f"block {number} is not above the blocks that are stored")
            highest = number
        if commit.dropped:
            await journal.bring(commit.dropped)
        if self._rows_bytes > _ROWS_BYTES_HELD_MAX:
            await self._checkpoint_now()
        kept, drops = commit.may_use_reserve, bool(commit.dropped)
        if journal.has_room(frame.size, kept=kept):
            return
        try:
            await journal.make_room(frame.size, kept=kept, drops=drops)
        except StoreFullError:
            if not journal.empty:
                raise
            await self._checkpoint_now()  # after which those are free
            await journal.make_room(frame.size, kept=kept, drops=drops)

    def _written(self, frame: Frame, commit: Commit, told: asyncio.Future[None], error: OSError | None) -> None:
        """The writer has done what it could."""
        journal = self._opened()
        refusal: StoreError | None = None
        if error is None:
            self._sequence = frame.sequence
            journal.written(frame)
            journal.drop(commit.dropped)
            for table, key, value in commit.rows:
                self._rows[table, key] = value
                self._rows_bytes += len(key) + len(value or b"")
            self._journal_bytes += frame.size
            self._plan_checkpoint()
        else:
            journal.failed()
            refusal = failure(error, f"write to {self._directory}")
        self._ended()
        if told.done():
            return
        if refusal is None:
            told.set_result(None)
        else:
            told.set_exception(refusal)

    def _ended(self) -> None:
        """No commit is in flight any more."""
        ended, self._in_flight = self._in_flight, None
        if ended is not None:
            ended.set_result(None)

    # checkpoints

    def _plan_checkpoint(self) -> None:
        """Begin a checkpoint if it is time, or see to it that one is made of empty segments in a while."""
        journal = self._opened()
        if self._checkpointing is not None or (self._timer is not None and self._has_failed):
            return
        if (
            len(self._rows) >= _ROWS_MAX
            or self._rows_bytes >= _ROWS_BYTES_MAX
            or self._journal_bytes >= _JOURNAL_BYTES_MAX
            or len(journal.empty) >= _EMPTY_MAX
            or (journal.empty and journal.lacks_spares)
        ):
            self._begin_checkpoint()
        elif journal.empty and self._timer is None:
            self._timer = self._loop.call_later(_EMPTY_WAIT_S, self._begin_checkpoint)

    def _begin_checkpoint(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._checkpointing is None and self._journal is not None:
            self._checkpointing = self._loop.create_task(self._checkpoint(self._journal))
            self._checkpointing.add_done_callback(self._checkpointed)

    def _checkpointed(self, task: asyncio.Task[None]) -> None:
        self._checkpointing = None
        error = None if task.cancelled() else task.exception()
        if error is None:
            self._has_failed = False
            return
        if not self._has_failed:
            log.error("cannot make a checkpoint: %s", error)
        self._has_failed = True
        self._timer = self._loop.call_later(_RETRY_S, self._begin_checkpoint)

    async def _checkpoint(self, journal: Journal) -> None:
        """Bring the tables up to the last commit, and use again the segments of which nothing is left then."""
        rows, self._rows = self._rows, {}
        rows_bytes, self._rows_bytes = self._rows_bytes, 0
        journal_bytes, self._journal_bytes = self._journal_bytes, 0
        empty = list(journal.empty)
        changed = [segment for segment in journal.segments.values() if segment.changed and segment not in journal.empty]
        known = {segment.number: segment.now_known() for segment in changed}
        for segment in changed:
            segment.changed = False
        checkpoint = Checkpoint(journal.salt, self._sequence, journal.current.number)
        try:
            await self._on_tables(self._tables.write, checkpoint, rows, known, [segment.number for segment in empty])
        except StoreError:
            self._rows = {**rows, **self._rows}
            self._rows_bytes += rows_bytes
            self._journal_bytes += journal_bytes
            for segment in changed:
                segment.changed = True
            raise
        self._tables_bytes = await self._on_tables(lambda: self._tables.size)
        for segment in empty:
            journal.forget(segment)

    async def _checkpoint_now(self) -> None:
        """Have one made of everything up to now. Raises StoreError."""
        if self._checkpointing is not None:
            await asyncio.wait([self._checkpointing])
        self._begin_checkpoint()
        if self._checkpointing is not None:
            await self._checkpointing

    async def _checkpoint_at_the_end(self) -> None:
        """Leave little to do for the next start."""
        try:
            if self._checkpointing is not None or self._journal_bytes or self._opened().empty:
                await self._checkpoint_now()
        except StoreError:
            pass  # it is logged, and the journal has everything
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check_growth(self, size: int) -> None:
        """See whether the store may become `size` bytes larger. Raises StoreFullError."""
        if self._opened().size + self._tables_bytes + size > self._bytes_max:
            raise StoreFullError(f"the data has reached its limit of {self._bytes_max} bytes")
        if size and not self._tables.has_reserve:
            disk = os.statvfs(self._directory)
            if disk.f_bavail * disk.f_frsize < size + RESERVE_BYTES:
                raise StoreFullError("the disk is full")

    def _opened(self) -> Journal:
        if self._journal is None:
            raise StoreFailedError("the store is not open")
        return self._journal

    async def _on_tables(self, function: Callable[..., _Result], *arguments: Any) -> _Result:
        if self._table_worker is None:
            raise StoreFailedError("the store is not open")
        return await self._table_worker.run(function, *arguments)

    # on the tables' thread

    def _open(self) -> Found:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        disk = os.statvfs(self._directory)
        size = min(self._bytes_max, disk.f_blocks * disk.f_frsize) // _LIMIT_PER_SEGMENT // 4096 * 4096
        self.region_bytes = max(min(self.region_bytes, size), _SEGMENT_BYTES_MIN)
        version = check_format(self._directory)
        self._lock_file = lock(self._directory)
        if version == 0:
            mark_format(self._directory)
        files = Files(self._directory)
        files.make()
        self._hold = Hold(self._directory)
        with self._hold.exclusive() as free:
            self._tables.open(may_replace=free)
        checkpoint = self._tables.checkpoint()
        if checkpoint is None:
            mark = partial(mark_format, self._directory)
            checkpoint = upgrading.begin(self._tables, files, self.region_bytes, mark)
        elif version not in (0, FORMAT_VERSION):
            mark_format(self._directory)
        found = find(files, self._tables.segments(), checkpoint)
        found.report()
        if found.sequence > checkpoint.sequence:
            # A broker that was killed may have written its last commit and not synced it; whoever reads it counts on it.
            files.sync(found.segments[-1])
            known = {s.number: s.now_known() for s in found.segments if s.index is not None}
            found.checkpoint = Checkpoint(checkpoint.salt, found.sequence, found.segments[-1].number)
            self._tables.write(found.checkpoint, found.rows, known, ())
        self._tables_bytes = self._tables.size
        return found

    def _close(self) -> None:
        self._tables.close()
        if self._hold is not None:
            self._hold.close()
            self._hold = None
        if self._lock_file >= 0:
            os.close(self._lock_file)
            self._lock_file = -1
