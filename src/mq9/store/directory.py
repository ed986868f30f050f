"""A data directory as such: whether it is ours, of which format, and whether somebody has it open."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final

from mq9.store.contract import FORMAT_VERSION, StoreFormatError, StoreLockedError
from mq9.store.segments import sync

FORMAT_FILE: Final = "mq9.format"
LOCK_FILE: Final = "mq9.lock"
# The first format that has a journal; those before it can be taken over by a broker, and nothing else.
JOURNAL_FORMAT: Final = 3
# What a backup has in the place of a format, so that nobody takes it for a store.
BACKUP_FILE: Final = "mq9.backup"
_NEW: Final = ".new"


def check_format(directory: Path) -> int:
    """The format of the data in a directory, 0 for an empty one. Raises StoreFormatError for what is not ours, with nothing touched."""
    file = directory / FORMAT_FILE
    if not file.exists():
        if (directory / BACKUP_FILE).exists():
            raise StoreFormatError(f"{directory} is a backup: make a data directory of it with mq9 restore")
        if any(entry.name not in (LOCK_FILE, FORMAT_FILE + _NEW) for entry in directory.iterdir()):
            raise StoreFormatError(f"{directory} is not an mq9 data directory, and it is not empty")
        return 0
    text = file.read_bytes().strip()
    for version in range(1, FORMAT_VERSION + 1):
        if text == b"%d" % version:
            return version
    raise StoreFormatError(
        f"the data in {directory} is of format {text.decode(errors='replace')!r};"
        f" this version of mq9 knows formats up to {FORMAT_VERSION}"
    )


def check_journal_format(directory: Path) -> int:
    """The format of the data in a directory that can be copied and looked at. Raises StoreFormatError for any other, and for none."""
    version = check_format(directory) if directory.is_dir() else 0
    if version == 0:
        raise StoreFormatError(f"there is no data in {directory}")
    if version < JOURNAL_FORMAT:
        raise StoreFormatError(f"the data in {directory} is of format {version}: start a broker on it once")
    return version


def mark_format(directory: Path, version: int = FORMAT_VERSION) -> None:
    """Say of which format the data is: of this version's before it is, so that earlier ones leave it alone."""
    write_durably(directory / FORMAT_FILE, b"%d\n" % version)


def lock(directory: Path, *, create: bool = True) -> int:
    """Be the only one that has the directory open, until the descriptor that is returned is closed.

    Arguments:
        create: whether to make the lock's file where there is none; else, where there is none, nobody is kept out.

    Raises StoreLockedError, OSError.
    """
    try:
        flags = os.O_RDWR | os.O_CREAT if create else os.O_RDONLY
        file = os.open(directory / LOCK_FILE, flags | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        raise StoreLockedError(f"another broker has the data directory {directory} open") from None
    return file


def write_durably(path: Path, data: bytes) -> None:
    """Write a file that is there whole, or as it was before."""
    temporary = path.with_name(path.name + _NEW)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    temporary.rename(path)
    sync(path.parent)
