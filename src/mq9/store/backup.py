"""Copies of a store: made while a broker runs or while none does, and made into a store again.

A backup is a directory with the files of the store and a manifest, which is written last and says what they are. It is what a crash at
the moment of the copy would have left, without what was never finished: the tables as of one checkpoint, and of the journal everything
that was durable when the copy was begun, and perhaps some of what came later. Copying asks nothing of the broker, which is only kept
from using segments again meanwhile (hold.py).
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import lmdb

from mq9.native.checksum import checksum
from mq9.store import lmdb_file
from mq9.store.contract import FORMAT_VERSION, StoreFailedError, StoreFormatError, StoreFullError
from mq9.store.directory import BACKUP_FILE, JOURNAL_FORMAT, check_journal_format, lock, mark_format, write_durably
from mq9.store.frame import Index
from mq9.store.hold import HOLD_FILE, held
from mq9.store.segments import DIRECTORY, Files, Reader, Segment, sync
from mq9.store.starting import NEVER
from mq9.store.tables import Checkpoint, Tables

LMDB_LOCK_FILE: Final = "lock.mdb"
_COPY_BYTES: Final = 1024 * 1024
# The data file may grow while it is opened; addresses are all that this costs.
_MAP_BYTES_MORE: Final = 1024 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class FileCopy:
    """One file of a backup: its name below the directory, its size in bytes, and the CRC-32C of them."""

    name: str
    size: int
    crc: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup consists of.

    Attributes:
        version: the format of its data.
        made: when, in ISO 8601.
        files: all of it but the manifest.
    """

    version: int
    made: str
    files: tuple[FileCopy, ...]

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(file.size for file in self.files)

    @classmethod
    def read(cls, directory: Path) -> Manifest:
        """The manifest of a backup. Raises StoreFormatError when that is none, or of a format that this program does not know."""
        try:
            said = json.loads((directory / BACKUP_FILE).read_bytes())
            files = tuple(FileCopy(str(name), int(size), int(crc)) for name, size, crc in said["files"])
            version, made = int(said["format"]), str(said["made"])
        except FileNotFoundError:
            raise StoreFormatError(f"{directory} is not a finished backup: it has no {BACKUP_FILE}") from None
        except (ValueError, KeyError, TypeError, RecursionError):
            raise StoreFormatError(f"{directory / BACKUP_FILE} is damaged") from None
        if not JOURNAL_FORMAT <= version <= FORMAT_VERSION:
            raise StoreFormatError(
                f"the backup {directory} is of format {version}; this version of mq9 knows formats up to {FORMAT_VERSION}"
            )
        if len({file.name for file in files}) < len(files):
            raise StoreFormatError(f"{directory / BACKUP_FILE} is damaged")
        if any(not _is_ours(file.name) for file in files):
            raise StoreFormatError(f"{directory / BACKUP_FILE} names a file that is none of a backup")
        return cls(version, made, files)

    def packed(self) -> bytes:
        """What `read` reads."""
        files = [[file.name, file.size, file.crc] for file in self.files]
        said: dict[str, Any] = {"format": self.version, "made": self.made, "files": files}
        return json.dumps(said, indent=1).encode() + b"\n"


def back_up(source: Path, target: Path) -> Manifest:
    """Copy the store in `source` into the directory `target`, which must be empty or not there.

    Raises StoreFormatError when one of them is not what it should be; StoreFullError, StoreFailedError, with nothing left in `target`.
    """
    version = check_journal_format(source)
    with _explained(), _filled(target, source), held(source):
        files = [*_copy_tables(source, target), *_copy_journal(source, target)]
        _give_to_owner(source)
        sync(target / DIRECTORY)
        manifest = Manifest(version, datetime.now(UTC).isoformat(timespec="seconds"), tuple(files))
        write_durably(target / BACKUP_FILE, manifest.packed())
    return manifest


def restore(backup: Path, target: Path, damaged: Callable[[str], None] | None = None) -> Manifest:
    """Make the backup in the directory `backup` a store in `target`, which must be empty or not there.

    Arguments:
        damaged: told, for each file that is not what was backed up, a sentence; the rest is restored nevertheless. None: such a
            backup is refused.

    Raises StoreFormatError when one of them is not what it should be; StoreLockedError; StoreFullError, StoreFailedError, with nothing
    left in `target`.
    """
    manifest = Manifest.read(backup)
    with _explained(), _filled(target, backup):
        lock_file = lock(target)
        try:
            (target / DIRECTORY).mkdir(mode=0o700)
            for file in manifest.files:
                problem = _restore_file(backup, target, file)
                if problem and damaged is None:
                    raise StoreFormatError(problem)
                if problem and damaged is not None:
                    damaged(problem)
            sync(target / DIRECTORY)
            sync(target)
            mark_format(target, manifest.version)
        finally:
            os.close(lock_file)
    return manifest


def verify(backup: Path, manifest: Manifest) -> Iterator[str]:
    """A sentence for each file of a backup that is not what was backed up."""
    for file in manifest.files:
        try:
            size, crc = _size_and_crc(backup / file.name)
        except OSError as error:
            yield f"{file.name} cannot be read: {error.strerror}"
            continue
        if problem := _difference(file, size, crc):
            yield problem


# copying a store


def _copy_tables(source: Path, target: Path) -> Iterator[FileCopy]:
    """Copy the data file as it is between two checkpoints."""
    size = (source / lmdb_file.DATA_FILE).stat().st_size
    environment = lmdb.open(str(source), readonly=True, create=False, map_size=2 * size + _MAP_BYTES_MORE)
    try:
        environment.reader_check()
        environment.copy(str(target))
    finally:
        environment.close()
    copy = target / lmdb_file.DATA_FILE
    copy.chmod(0o600)
    sync(copy)
    yield FileCopy(lmdb_file.DATA_FILE, *_size_and_crc(copy))


def _copy_journal(source: Path, target: Path) -> Iterator[FileCopy]:
    """Copy what the tables know of, and what was committed behind their checkpoint.

    The last segment first: each other one is complete by the time that it is read, because it comes before one that has something in it.
    """
    tables = Tables(target)
    tables.open_to_read()
    try:
        checkpoint, known = tables.checkpoint(), tables.segments()
    finally:
        tables.close()
    if checkpoint is None:
        raise StoreFailedError(f"there is no checkpoint in {source / lmdb_file.DATA_FILE}")
    (target / DIRECTORY).mkdir(mode=0o700)
    files = Files(source)
    reader = Reader(files)
    is_last = True
    try:
        for segment in reversed(files.found()):
            if segment.number < checkpoint.segment and segment.number not in known:
                continue
            try:
                data = _bytes_of(reader, segment, checkpoint if is_last else None)
            except FileNotFoundError:  # it was made ahead, and has become another one meanwhile
                continue
            if data:
                is_last = False
                name = files.name(segment.number)
                _write(target / name, data)
                yield FileCopy(name, len(data), checksum(data))
    finally:
        reader.close_all()


def _bytes_of(reader: Reader, segment: Segment, checkpoint: Checkpoint | None) -> bytes:
    """The bytes of a segment.

    With a checkpoint it is the one that is perhaps being written to, and so what it has are its frames, but for one that is not
    finished; nothing if there are none.
    """
    data = reader.read(segment.number, 0, segment.size)
    if checkpoint is None:
        return data
    index = Index(segment.number, 1)
    index.read(data, checkpoint.salt, checkpoint.sequence, NEVER, last=True)
    # Perhaps a frame was written where reading had been already, and one behind it where reading had not come yet. Whatever lies
    # before a whole frame is durable, so now it is read as it is.
    return reader.read(segment.number, 0, index.end)


def _give_to_owner(directory: Path) -> None:
    """Let a broker that is not root open what copying may have made there: the files that are locked, which only root could make."""
    owner = directory.stat()
    for name in (HOLD_FILE, LMDB_LOCK_FILE):
        if (directory / name).stat().st_uid != owner.st_uid:
            os.chown(directory / name, owner.st_uid, owner.st_gid)


# files


@contextlib.contextmanager
def _filled(target: Path, source: Path) -> Iterator[None]:
    """Have an empty directory to fill; if that fails it is empty again, or gone if it was not there."""
    if source.resolve() in target.resolve().parents:
        raise StoreFormatError(f"{target} is inside of {source}")
    was_there = target.exists()
    if was_there and (not target.is_dir() or any(target.iterdir())):
        raise StoreFormatError(f"{target} is not an empty directory")
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    sync(target.parent)
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            for path in (*(target / DIRECTORY).glob("*"), *target.iterdir()):
                path.unlink() if path.is_file() else path.rmdir()
            if not was_there:
                target.rmdir()
        raise


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Have errors of the system say what they mean for a copy."""
    try:
        yield
    except lmdb.Error as error:
        raise StoreFailedError(f"cannot read the tables: {error}") from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFullError("there is no space for the copy") from None
        raise StoreFailedError(f"cannot copy {error.filename or 'a file'}: {error.strerror}") from None


def _restore_file(backup: Path, target: Path, file: FileCopy) -> str:
    """Copy a file out of a backup; returns what is wrong with it, as a sentence, or nothing."""
    size, crc = 0, 0
    try:
        with _new(target / file.name) as copy:
            for part in _parts(backup / file.name):
                copy(part)
                size += len(part)
                crc = checksum(part, crc)
    except FileNotFoundError:
        (target / file.name).unlink()
        return f"{file.name} is missing in the backup"
    return _difference(file, size, crc)


def _difference(file: FileCopy, size: int, crc: int) -> str:
    if size != file.size:
        return f"{file.name} has {size} bytes instead of {file.size}"
    return "" if crc == file.crc else f"{file.name} does not match its checksum"


def _parts(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while part := file.read(_COPY_BYTES):
            yield part


def _size_and_crc(path: Path) -> tuple[int, int]:
    size, crc = 0, 0
    for part in _parts(path):
        size += len(part)
        crc = checksum(part, crc)
    return size, crc


def _write(path: Path, data: bytes) -> None:
    with _new(path) as write:
        write(data)


@contextlib.contextmanager
def _new(path: Path) -> Iterator[Callable[[bytes], object]]:
    """A new file to write to, which is on the disk when this is left."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        yield file.write
        file.flush()
        os.fsync(descriptor)


def _is_ours(name: str) -> bool:
    return name == lmdb_file.DATA_FILE or Files.is_name(name)
