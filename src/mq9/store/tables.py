"""The rows of the disk engine, in LMDB: what they were at the last checkpoint, and what is known of the journal's segments since then.

Nothing waits for these transactions. What was committed since the last one is in the journal, and is read from there after a crash.
"""

from __future__ import annotations

import contextlib
import logging
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import lmdb

from mq9.store import lmdb_file
from mq9.store.contract import StoreFailedError, StoreFullError, Table
from mq9.store.segments import Known

log = logging.getLogger("mq9")

# Space kept back for checkpoints on a full disk, which deletions need before they free any: a file that is removed when it is needed.
RESERVE_FILE = "mq9.reserve"
RESERVE_BYTES = 4 * 1024 * 1024
# What a format before the third kept in LMDB too.
OLD_BLOCKS = b"blocks"
_SEGMENTS = b"segments"
_JOURNAL = b"journal"
_CHECKPOINT = b"checkpoint"
_CHECKPOINT_ROW = struct.Struct("<QQQ")
_KNOWN = struct.Struct("<QQQQQQ")
_KEY_BYTES = 8
_SCAN_BYTES = 4 * 1024 * 1024
_SCAN_ROWS = 4_096
# How large the store may become is looked after by who makes segments; this must not be in the way.
_MAP_BYTES_MIN = 64 * 1024 * 1024
# What LMDB may write in a commit besides what it was given: the pages on the way to it, and the list of free pages.
_OVERHEAD_BYTES = 256 * 1024

Rows = Mapping[tuple[Table, bytes], bytes | None]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Up to where the rows are in the tables.

    Attributes:
        salt: of the store's frames.
        sequence: of the last commit whose rows are there.
        segment: that was written to at the time.
    """

    salt: int
    sequence: int
    segment: int


class Tables:
    """An LMDB environment.

    Arguments:
        directory: where it is.
        bytes_max: how large it may become; as much address space is set aside.
    """

    def __init__(self, directory: Path, bytes_max: int = 1 << 40) -> None:
        self._directory = directory
        self._map_bytes = max(bytes_max, _MAP_BYTES_MIN)
        self._environment: lmdb.Environment | None = None
        self._failed = False
        self._reserve_file = directory / RESERVE_FILE
        # Whether the space is kept back; where it is not, nobody else may have what is left.
        self.has_reserve = False

    def open(self, *, may_replace: bool = True) -> None:
        """Open or create it, and, if it may be replaced, make its file smaller when there is little left in it.

        Raises StoreFailedError, OSError.
        """
        lmdb_file.forget_unfinished(self._directory)
        self._open()
        if may_replace:
            self._close_gaps()
        self._keep_reserve()

    def open_to_read(self) -> None:
        """Open one that nobody writes to, and change nothing. Raises StoreFailedError."""
        try:
            environment = lmdb.open(
                str(self._directory),
                map_size=self._map_bytes,
                max_dbs=len(Table) + 3,
                readonly=True,
                create=False,
                lock=False,
            )
            self._use(environment, create=False)
        except lmdb.Error as error:
            raise StoreFailedError(f"cannot open the data in {self._directory}: {error}") from None

    def close(self) -> None:
        """Close it; calling that again does nothing."""
        if self._environment is not None:
            self._environment.close()
            self._environment = None

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return (self._directory / lmdb_file.DATA_FILE).stat().st_size

    # what is there

    def checkpoint(self) -> Checkpoint | None:
        """The last checkpoint, or None before the first. Raises StoreFailedError."""
        with _reading(), self.environment.begin(db=self._journal) as transaction:
            row = transaction.get(_CHECKPOINT)
            return None if row is None else Checkpoint(*_unpack(_CHECKPOINT_ROW, row))

    def segments(self) -> dict[int, Known]:
        """What was known of segments at the last checkpoint. Raises StoreFailedError."""
        found = {}
        with _reading(), self.environment.begin(db=self._segments) as transaction:
            for key, value in transaction.cursor():
                first, last, end, first_number, last_number, count = _unpack(_KNOWN, value[: _KNOWN.size])
                known = Known(first, last, end, first_number, last_number, count, bytes(value[_KNOWN.size :]))
                found[int.from_bytes(key)] = known
        return found

    def rows(self, table: Table, after: bytes) -> list[tuple[bytes, bytes]]:
        """The rows of a table behind the key `after`, as many as are held at once. Raises StoreFailedError."""
        return self.scan(self._tables[table], after)

    def scan(self, database: lmdb._Database, after: bytes) -> list[tuple[bytes, bytes]]:
        """As `rows`, of any database of the environment."""
        found: list[tuple[bytes, bytes]] = []
        size = 0
        with _reading(), self.environment.begin(db=database) as transaction, transaction.cursor() as cursor:
            there = cursor.set_range(after + b"\0") if after else cursor.first()
            while there and size < _SCAN_BYTES and len(found) < _SCAN_ROWS:
                found.append(cursor.item())
                size += len(found[-1][1])
                there = cursor.next()
        return found

    # changing it

    def write(
        self,
        checkpoint: Checkpoint,
        rows: Rows,
        segments: Mapping[int, Known],
        gone: Sequence[int],
        drop: bytes | None = None,
    ) -> None:
        """Make a checkpoint, all or nothing.

        Arguments:
            checkpoint: the new one.
            rows: what has changed since the one before; None for a row that was removed.
            segments: what is known of segments that have changed.
            gone: numbers of segments that are no more.
            drop: the name of a database to remove.

        Raises StoreFullError, with what is kept back used up; StoreFailedError.
        """
        try:
            self._write(checkpoint, rows, segments, gone, drop)
        except StoreFullError:
            if not self.has_reserve:
                raise
            self.has_reserve = False
            self._reserve_file.unlink()
            self._write(checkpoint, rows, segments, gone, drop)
        else:
            if not self.has_reserve:
                self._keep_reserve()

    def _write(
        self, checkpoint: Checkpoint, rows: Rows, segments: Mapping[int, Known], gone: Sequence[int], drop: bytes | None
    ) -> None:
        if self._failed:
            # LMDB refuses everything after a failed write of its own until it is opened again.
            self.close()
            self._open()
            self._failed = False
        try:
            self.environment.reader_check()  # a backup that was killed would keep what it read from being used again
            with self.environment.begin(write=True) as transaction:
                for (table, key), value in rows.items():
                    if value is None:
                        transaction.delete(key, db=self._tables[table])
                    else:
                        transaction.put(key, value, db=self._tables[table])
                for number, known in segments.items():
                    transaction.put(number.to_bytes(_KEY_BYTES), _packed(known), db=self._segments)
                for number in gone:
                    transaction.delete(number.to_bytes(_KEY_BYTES), db=self._segments)
                row = _CHECKPOINT_ROW.pack(checkpoint.salt, checkpoint.sequence, checkpoint.segment)
                transaction.put(_CHECKPOINT, row, db=self._journal)
                if drop is not None:
                    transaction.drop(self.environment.open_db(drop, txn=transaction))
        except (lmdb.Error, OSError) as error:
            self._failed = True
            # LMDB reports a write that was cut short as an input/output error.
            if _disk_is_full(self._directory, sum(len(value or b"") for value in rows.values())):
                raise StoreFullError("the disk is full") from None
            raise StoreFailedError(f"cannot write to {self._directory}: {error}") from None

    # the environment and its file

    @property
    def environment(self) -> lmdb.Environment:
        """The environment. Raises StoreFailedError when it is not open."""
        if self._environment is None:
            raise StoreFailedError("the store is not open")
        return self._environment

    def _open(self) -> None:
        try:
            environment = lmdb.open(
                str(self._directory), map_size=self._map_bytes, max_dbs=len(Table) + 3, max_readers=16, mode=0o600
            )
            self._fill_up(environment)
            self._use(environment, create=True)
        except lmdb.Error as error:
            raise StoreFailedError(f"cannot open the data in {self._directory}: {error}") from None

    def _use(self, environment: lmdb.Environment, *, create: bool) -> None:
        self._environment = environment
        self._tables = {table: environment.open_db(table.value.encode(), create=create) for table in Table}
        self._segments = environment.open_db(_SEGMENTS, create=create)
        self._journal = environment.open_db(_JOURNAL, create=create)

    def old_blocks(self) -> lmdb._Database | None:
        """The blocks of a store of an earlier format, or None. Raises StoreFailedError."""
        try:
            return self.environment.open_db(OLD_BLOCKS, create=False)
        except lmdb.NotFoundError:
            return None

    def _close_gaps(self) -> None:
        """Make the data file smaller when there is little left in it."""
        environment = self.environment
        try:
            if not lmdb_file.is_mostly_gaps(environment, self._directory):
                return
        except lmdb.Error as error:
            log.warning("cannot tell how much of the data file is used: %s", error)
            return
        before = self.size
        if lmdb_file.write_new(environment, self._directory, self._map_bytes):
            self.close()
            lmdb_file.replace(self._directory)
            self._open()
            log.info("the data file was mostly gaps: %d MB instead of %d MB", self.size >> 20, before >> 20)

    def _fill_up(self, environment: lmdb.Environment) -> None:
        """Give the file the length that LMDB believes it has.

        Pages at its end that were never written may lie behind the end of the file, and so does what is missing of a file that was
        cut short, as by a copy that broke off: reading there would end the process. As zeros, pages that are needed are found out.
        """
        length = lmdb_file.needed_bytes(environment)
        if self.size < length:
            os.truncate(self._directory / lmdb_file.DATA_FILE, length)

    def _keep_reserve(self) -> None:
        """Keep some space back; on a disk that has none left, the next checkpoint tries again."""
        descriptor = os.open(self._reserve_file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
            self.has_reserve = True
        except OSError:
            self._reserve_file.unlink()
        finally:
            os.close(descriptor)


def _packed(known: Known) -> bytes:
    *numbers, dropped = astuple(known)
    return _KNOWN.pack(*numbers) + bytes(dropped)


def _disk_is_full(directory: Path, size: int) -> bool:
    """Whether a failed write of rows of `size` bytes failed for space."""
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize < 2 * size + _OVERHEAD_BYTES


def _unpack(row: struct.Struct, value: bytes) -> tuple[int, ...]:
    """The numbers of a row. Raises StoreFailedError: without what these rows say of the journal, starting might throw blocks away."""
    try:
        return row.unpack(value)
    except struct.error:
        raise StoreFailedError("what the tables know of the journal is damaged") from None


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except lmdb.Error as error:
        raise StoreFailedError(f"cannot read the data: {error}") from None
