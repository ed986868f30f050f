"""The data file of LMDB never becomes smaller by itself: one that is mostly gaps is written anew when it is opened."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from mq9.store.contract import Commit, Store, Table
from mq9.store.disk_engine import DiskStore
from tests.store.contents import run, stored
from tests.store.disks import fill, small_disk

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1024 * 1024
ROWS = 150
KEPT = (7, 80, 149)


def row(number: int) -> bytes:
    return b"row %d " % number * (MIB // 9)


def key(number: int) -> bytes:
    return b"%08d" % number


def make_gaps(directory: Path) -> None:
    """A directory whose data file is mostly gaps."""

    async def work(store: Store) -> None:
        for number in range(ROWS):
            await store.commit(Commit(rows=[(Table.GROUPS, key(number), row(number))]))
        async for _ in store.scan_rows(Table.GROUPS):  # which brings all of them into the file
            pass
        await store.commit(
            Commit(rows=[(Table.GROUPS, key(number), None) for number in range(ROWS) if number not in KEPT])
        )

    run(DiskStore(directory), work)
    assert size_of(directory) > ROWS * MIB * 0.8


def size_of(directory: Path) -> int:
    return (directory / "data.mdb").stat().st_size


def check(directory: Path) -> None:
    """Everything is there, and new rows are stored."""
    contents = stored(DiskStore(directory))
    assert contents.rows[Table.GROUPS] == {key(number): row(number) for number in KEPT}
    run(DiskStore(directory), lambda store: store.commit(Commit(rows=[(Table.META, b"new", b"row")])))
    assert stored(DiskStore(directory)).rows[Table.META] == {b"new": b"row"}
    assert not (directory / "data.mdb.new").exists()


def test_a_file_that_is_mostly_gaps_is_small_when_it_has_been_opened(tmp_path: Path) -> None:
    make_gaps(tmp_path)
    check(tmp_path)
    assert size_of(tmp_path) < 10 * MIB


def test_a_file_in_use_stays_as_it_is(tmp_path: Path) -> None:
    async def work(store: Store) -> None:
        for number in range(ROWS):
            await store.commit(Commit(rows=[(Table.GROUPS, key(number), row(number))]))
        await store.commit(Commit(rows=[(Table.GROUPS, key(number), None) for number in range(0, ROWS, 3)]))

    run(DiskStore(tmp_path), work)
    before = (tmp_path / "data.mdb").stat()
    stored(DiskStore(tmp_path))
    after = (tmp_path / "data.mdb").stat()
    assert (after.st_size, after.st_ino) == (before.st_size, before.st_ino)


@pytest.mark.parametrize("at", [0.0, 0.3, 0.7, 1.0])
def test_a_kill_at_any_moment_leaves_one_whole_file(tmp_path: Path, at: float) -> None:
    """The process that makes the file smaller is killed after `at` of the time that it takes."""
    make_gaps(tmp_path)
    program = (
        "import asyncio, sys; from mq9.store.disk_engine import DiskStore; store = DiskStore(sys.argv[1]); "
        "print(flush=True); asyncio.run(store.open())"
    )
    opener = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE)
    assert opener.stdout is not None
    opener.stdout.readline()
    time.sleep(at * 0.05)
    opener.kill()
    opener.wait()
    opener.stdout.close()
    check(tmp_path)
    assert size_of(tmp_path) < 10 * MIB


def test_what_is_left_of_an_unfinished_file_is_removed(tmp_path: Path) -> None:
    make_gaps(tmp_path)
    (tmp_path / "data.mdb.new").write_bytes(b"begun, and not finished")
    check(tmp_path)


def test_without_space_for_another_file_the_old_one_is_used(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 220 * MIB) as disk:
        directory = disk / "data"
        make_gaps(directory)
        fill(disk, leave_bytes=MIB)
        before = size_of(directory)
        contents = stored(DiskStore(directory))
        assert contents.rows[Table.GROUPS] == {key(number): row(number) for number in KEPT}
        assert size_of(directory) == before
        assert not (directory / "data.mdb.new").exists()
