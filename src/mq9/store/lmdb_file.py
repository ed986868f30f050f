"""The size of LMDB's data file: it never becomes smaller by itself, so a file that is mostly gaps is written anew."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import lmdb

log = logging.getLogger("mq9")

DATA_FILE = "data.mdb"
_DATA_FILE_NEW = "data.mdb.new"
# A file is written anew when it has more than twice what is used and this. Below that it is not worth the start taking longer:
# a broker that is as busy as it was will need the space again.
SLACK_BYTES = 64 * 1024 * 1024
# What is written between two commits to the new file, which are not waited for.
_COPY_BYTES = 16 * 1024 * 1024


def used_bytes(environment: lmdb.Environment) -> int:
    """How much of the file is in use. Raises lmdb.Error."""
    stats = [environment.stat()]
    with environment.begin() as transaction:
        stats += [transaction.stat(database) for database in _databases(environment).values()]
    pages = sum(stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"] for stat in stats)
    return int(pages * environment.stat()["psize"])


def needed_bytes(environment: lmdb.Environment) -> int:
    """How many bytes the file must have. Raises lmdb.Error."""
    return int((environment.info()["last_pgno"] + 1) * environment.stat()["psize"])


def is_mostly_gaps(environment: lmdb.Environment, directory: Path) -> bool:
    """Whether the data file is worth writing anew. Raises lmdb.Error."""
    size = (directory / DATA_FILE).stat().st_size
    return size > SLACK_BYTES and size > 2 * used_bytes(environment) + SLACK_BYTES


def forget_unfinished(directory: Path) -> None:
    """Remove what is left of a new file that was not finished."""
    (directory / _DATA_FILE_NEW).unlink(missing_ok=True)


def write_new(environment: lmdb.Environment, directory: Path, bytes_max: int) -> bool:
    """Write a data file beside the old one that has the same in it, without the gaps, and is on the disk when this returns.

    Key by key, and not with LMDB's own copying, which does not look at what it walks over: of a file with damaged pages that would
    end the process. Returns whether it is there; if not, the old one is to be used as it is.
    """
    file = directory / _DATA_FILE_NEW
    try:
        new = lmdb.open(
            str(file), subdir=False, lock=False, sync=False, map_size=bytes_max, max_dbs=_database_count(environment)
        )
        try:
            for name, database in _databases(environment).items():
                _copy(environment, database, new, new.open_db(name))
            new.sync(True)
        finally:
            new.close()
        sync(file)
    except (lmdb.Error, OSError) as error:
        log.warning("the data file stays as large as it is: %s", error)
        forget_unfinished(directory)
        return False
    return True


def replace(directory: Path) -> None:
    """Put the new file in the place of the old one, which must not be open. Of a crash one of them is left, whole."""
    (directory / _DATA_FILE_NEW).rename(directory / DATA_FILE)
    sync(directory)


def _database_count(environment: lmdb.Environment) -> int:
    """How many databases the environment has."""
    return max(int(environment.stat()["entries"]), 1)


def _databases(environment: lmdb.Environment) -> dict[bytes, lmdb._Database]:
    with environment.begin() as transaction:
        names = [bytes(name) for name in transaction.cursor().iternext(keys=True, values=False)]
    return {name: environment.open_db(name, create=False) for name in names}


def _copy(
    environment: lmdb.Environment, database: lmdb._Database, new: lmdb.Environment, new_database: lmdb._Database
) -> None:
    with environment.begin(db=database, buffers=True) as transaction, transaction.cursor() as cursor:
        there = cursor.first()
        while there:
            size = 0
            with new.begin(db=new_database, write=True) as writing:
                while there and size < _COPY_BYTES:
                    key, value = cursor.item()
                    writing.put(key, value, append=True)
                    size += len(value)
                    there = cursor.next()


def sync(path: Path) -> None:
    """Make a file, or the entries of a directory, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
