"""The engine on the local disk: LMDB, one transaction with its fsync for each commit.

A thread of its own commits and another reads, so that reading never waits for an fsync and the event loop for neither.
Blocks are put under rising numbers at the end of one tree, which is the cheapest thing that LMDB can be asked to do.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import lmdb

from mq9.store import lmdb_file
from mq9.store.contract import (
    FORMAT_VERSION,
    BlockMissingError,
    Commit,
    Store,
    StoreError,
    StoreFailedError,
    StoreFormatError,
    StoreFullError,
    StoreLockedError,
    Table,
    Usage,
)
from mq9.store.worker import Worker

log = logging.getLogger("mq9")

FORMAT_FILE = "mq9.format"
LOCK_FILE = "mq9.lock"
# Space kept back for deletions on a full disk: a file that is removed when it is needed.
RESERVE_FILE = "mq9.reserve"
RESERVE_BYTES = 4 * 1024 * 1024
_FORMAT_FILE_NEW = "mq9.format.new"
# What LMDB may write in a commit besides what it was given: the pages on the way to it, and the list of free pages.
_COMMIT_OVERHEAD = 256 * 1024
_BLOCKS = b"blocks"
_NUMBER_BYTES = 8
_SCAN_BYTES = 4 * 1024 * 1024
_SCAN_ROWS = 4_096

_Result = TypeVar("_Result")


class LmdbStore(Store):
    """Blocks and rows in an LMDB environment below a directory.

    Arguments:
        directory: created when it is not there; must be empty or a data directory of a format up to FORMAT_VERSION.
        bytes_max: how large the data may become on disk; a commit past it raises StoreFullError.
    """

    def __init__(self, directory: str | os.PathLike[str], bytes_max: int = 1 << 40) -> None:
        self._directory = Path(directory)
        self._reserve_file = self._directory / RESERVE_FILE
        self._bytes_max = bytes_max
        self._lock_file = -1
        self._environment: lmdb.Environment | None = None
        self._failed = False
        self._has_reserve = False
        # Held while the environment is read or replaced: after a failure the committing thread opens it anew.
        self._environment_lock = threading.Lock()
        self._writer: Worker | None = None
        self._reader: Worker | None = None

    async def open(self) -> None:
        """See Store.open."""
        self._writer = Worker("mq9-commit")
        self._reader = Worker("mq9-read")
        try:
            await self._writer.run(self._open)
        except StoreError:
            await self.close()
            raise
        except OSError as error:
            await self.close()
            raise StoreFailedError(f"cannot open the data directory {self._directory}: {error.strerror}") from None

    async def close(self) -> None:
        """See Store.close."""
        if self._writer is not None and self._reader is not None:
            await self._writer.run(self._close)
            self._writer.stop()
            self._reader.stop()
            self._writer = self._reader = None

    async def commit(self, commit: Commit) -> None:
        """See Store.commit."""
        await _there(self._writer).run(self._commit, commit)

    async def read_block(self, number: int) -> bytes:
        """See Store.read_block."""
        return await self._read(lambda environment: self._get_block(environment, number))

    async def scan_blocks(self) -> AsyncIterator[Sequence[tuple[int, bytes]]]:
        """See Store.scan_blocks."""
        after = b""
        while True:
            found = await self._read(partial(_scan, database=self._blocks, after=after))
            if not found:
                return
            after = found[-1][0]
            yield [(int.from_bytes(key), value) for key, value in found]

    async def scan_rows(self, table: Table) -> AsyncIterator[Sequence[tuple[bytes, bytes]]]:
        """See Store.scan_rows."""
        after = b""
        while True:
            found = await self._read(partial(_scan, database=self._tables[table], after=after))
            if not found:
                return
            after = found[-1][0]
            yield found

    async def usage(self) -> Usage:
        """See Store.usage: the size of the file, of which freed parts are used again."""
        size = (self._directory / lmdb_file.DATA_FILE).stat().st_size
        return Usage(bytes_stored=size, durable=True)

    # on the reading thread

    async def _read(self, read: Callable[[lmdb.Environment], _Result]) -> _Result:
        return await _there(self._reader).run(self._read_locked, read)

    def _read_locked(self, read: Callable[[lmdb.Environment], _Result]) -> _Result:
        with self._environment_lock:
            try:
                return read(self._opened())
            except lmdb.Error as error:
                raise StoreFailedError(f"cannot read the data: {error}") from None

    def _get_block(self, environment: lmdb.Environment, number: int) -> bytes:
        with environment.begin(db=self._blocks) as transaction:
            data = transaction.get(number.to_bytes(_NUMBER_BYTES))
        if data is None:
            raise BlockMissingError(f"there is no block {number}")
        return bytes(data)

    # on the committing thread

    def _open(self) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._check_format()
        self._take_lock()
        file = self._directory / FORMAT_FILE
        if not file.exists() or file.read_bytes().strip() != b"%d" % FORMAT_VERSION:
            _write_durably(file, b"%d\n" % FORMAT_VERSION)
        lmdb_file.forget_unfinished(self._directory)
        self._open_environment()
        self._close_gaps()
        self._keep_reserve()
        lmdb_file.sync(self._directory)

    def _check_format(self) -> None:
        """Refuse what is not ours before anything is touched."""
        file = self._directory / FORMAT_FILE
        if not file.exists():
            foreign = [
                entry.name for entry in self._directory.iterdir() if entry.name not in (LOCK_FILE, _FORMAT_FILE_NEW)
            ]
            if foreign:
                raise StoreFormatError(f"{self._directory} is not an mq9 data directory, and it is not empty")
            return
        text = file.read_bytes().strip()
        if text not in {b"%d" % version for version in range(1, FORMAT_VERSION + 1)}:
            raise StoreFormatError(
                f"the data in {self._directory} is of format {text.decode(errors='replace')!r};"
                f" this version of mq9 knows formats up to {FORMAT_VERSION}"
            )

    def _take_lock(self) -> None:
        self._lock_file = os.open(self._directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock_file)
            self._lock_file = -1
            raise StoreLockedError(f"another broker has the data directory {self._directory} open") from None

    def _open_environment(self) -> None:
        try:
            environment = lmdb.open(
                str(self._directory), map_size=self._bytes_max, max_dbs=len(Table) + 1, max_readers=16, mode=0o600
            )
            self._fill_up(environment)
            self._environment = environment
            self._blocks = environment.open_db(_BLOCKS)
            self._tables = {table: environment.open_db(table.value.encode()) for table in Table}
        except lmdb.Error as error:
            raise StoreFailedError(f"cannot open the data in {self._directory}: {error}") from None

    def _close_gaps(self) -> None:
        """Make the data file smaller when there is little left in it."""
        environment = self._opened()
        try:
            if not lmdb_file.is_mostly_gaps(environment, self._directory):
                return
        except lmdb.Error as error:
            log.warning("cannot tell how much of the data file is used: %s", error)
            return
        before = (self._directory / lmdb_file.DATA_FILE).stat().st_size
        if lmdb_file.write_new(environment, self._directory, self._bytes_max):
            environment.close()
            self._environment = None
            lmdb_file.replace(self._directory)
            self._open_environment()
            after = (self._directory / lmdb_file.DATA_FILE).stat().st_size
            log.info("the data file was mostly gaps: %d MB instead of %d MB", after >> 20, before >> 20)

    def _fill_up(self, environment: lmdb.Environment) -> None:
        """Give the file the length that LMDB believes it has.

        Pages at its end that were never written may lie behind the end of the file, and so does what is missing of a file that was
        cut short, as by a copy that broke off: reading there would end the process. As zeros, pages that are needed are found out:
        a block by its checksum, anything else by LMDB.
        """
        length = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
        file = self._directory / lmdb_file.DATA_FILE
        if file.stat().st_size < length:
            os.truncate(file, length)

    def _keep_reserve(self) -> None:
        """Keep some space back; on a disk that has none left, the next commit tries again."""
        descriptor = os.open(self._reserve_file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
            self._has_reserve = True
        except OSError:
            self._reserve_file.unlink()
        finally:
            os.close(descriptor)

    def _open_reserve(self) -> None:
        """Give what was kept back, on the disk and below `bytes_max`, to a commit that may have it."""
        self._reserve_file.unlink(missing_ok=True)
        self._has_reserve = False
        self._set_size_limit(self._bytes_max + RESERVE_BYTES)

    def _set_size_limit(self, size: int) -> None:
        # LMDB keeps the limit at least at what is in use; readers must not be at work meanwhile.
        with self._environment_lock:
            self._opened().set_mapsize(size)

    def _opened(self) -> lmdb.Environment:
        if self._environment is None:
            raise StoreFailedError("the store is not open")
        return self._environment

    def _close(self) -> None:
        with self._environment_lock:
            if self._environment is not None:
                self._environment.close()
                self._environment = None
        if self._lock_file >= 0:
            os.close(self._lock_file)
            self._lock_file = -1

    def _commit(self, commit: Commit) -> None:
        """Commit, with the space kept back when there is no other and the commit may have it."""
        try:
            self._commit_within_limits(commit)
        except StoreFullError:
            if not commit.may_use_reserve:
                raise
            self._open_reserve()
            try:
                self._commit_within_limits(commit)
            finally:
                self._set_size_limit(self._bytes_max)
        else:
            if not self._has_reserve:
                self._keep_reserve()

    def _commit_within_limits(self, commit: Commit) -> None:
        if self._failed:
            # LMDB refuses everything after a failed write of its own until it is opened again.
            with self._environment_lock:
                self._opened().close()
                self._open_environment()
            self._failed = False
        try:
            self._write(commit)
        except lmdb.MapFullError:
            raise StoreFullError(f"the data has reached its limit of {self._bytes_max} bytes") from None
        except (lmdb.Error, OSError) as error:
            self._failed = True
            if self._disk_is_full(commit):
                raise StoreFullError("the disk is full") from None
            raise StoreFailedError(f"cannot write to {self._directory}: {error}") from None

    def _write(self, commit: Commit) -> None:
        with self._opened().begin(write=True) as transaction:
            for number, data in commit.blocks:
                if not transaction.put(number.to_bytes(_NUMBER_BYTES), data, db=self._blocks, append=True):
                    raise StoreFailedError(f"block {number} is not above the blocks that are stored")
            for number in commit.dropped:
                transaction.delete(number.to_bytes(_NUMBER_BYTES), db=self._blocks)
            for table, key, value in commit.rows:
                if value is None:
                    transaction.delete(key, db=self._tables[table])
                else:
                    transaction.put(key, value, db=self._tables[table])

    def _disk_is_full(self, commit: Commit) -> bool:
        """Whether a failed write failed for space: LMDB reports a write that was cut short as an input/output error."""
        status = os.statvfs(self._directory)
        wanted = sum(len(data) for _, data in commit.blocks) + _COMMIT_OVERHEAD
        return status.f_bavail * status.f_frsize < wanted


def _there(worker: Worker | None) -> Worker:
    if worker is None:
        raise StoreFailedError("the store is not open")
    return worker


def _scan(environment: lmdb.Environment, database: lmdb._Database, after: bytes) -> list[tuple[bytes, bytes]]:
    """The rows behind the key `after`, as many as are held at once."""
    found: list[tuple[bytes, bytes]] = []
    size = 0
    with environment.begin(db=database) as transaction, transaction.cursor() as cursor:
        there = cursor.set_range(after + b"\0") if after else cursor.first()
        while there and size < _SCAN_BYTES and len(found) < _SCAN_ROWS:
            found.append(cursor.item())
            size += len(found[-1][1])
            there = cursor.next()
    return found


def _write_durably(path: Path, data: bytes) -> None:
    temporary = path.with_name(_FORMAT_FILE_NEW)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    temporary.rename(path)
    lmdb_file.sync(path.parent)
