"""What only the engine on the local disk has: a directory, its format, its lock, and a disk that may be full."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mq9.store.contract import (
    FORMAT_VERSION,
    Commit,
    Store,
    StoreError,
    StoreFailedError,
    StoreFullError,
    StoreLockedError,
    Table,
)
from mq9.store.directory import FORMAT_FILE, LOCK_FILE
from mq9.store.disk_engine import DiskStore
from tests.store.contents import Contents, contents, run, stored
from tests.store.disks import file_size_limit, fill, small_disk
from tests.support.broker import BrokerProcess, clean_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MIB = 1024 * 1024


def snapshot(directory: Path) -> dict[str, tuple[bytes | None, int, int, int]]:
    """Everything below `directory` and itself: bytes (None for a directory), mode, and times of change."""
    found = {}
    for path in [directory, *directory.rglob("*")]:
        status = path.stat()
        data = path.read_bytes() if path.is_file() else None
        found[str(path.relative_to(directory))] = data, status.st_mode, status.st_mtime_ns, status.st_ctime_ns
    return found


def refused(store: Store) -> str:
    """The sentence with which `store` refuses to be opened, and the kind of the error before it."""

    async def main() -> str:
        with pytest.raises(StoreError) as caught:
            await store.open()
        return f"{type(caught.value).__name__}: {caught.value}"

    return asyncio.run(main())


def said_by_serve(directory: Path) -> str:
    """What `mq9 serve` says on `directory`, where it cannot start: one line."""
    command = [sys.executable, "-m", "mq9", "serve", "--port", "0", "--data-dir", str(directory)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, env=clean_environment(), check=False)
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr.count("\n") == 1, ended.stderr
    return ended.stderr.strip()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A data directory with something in it."""
    path = tmp_path / "data"
    run(DiskStore(path), lambda store: store.commit(Commit(blocks=[(1, b"a block")])))
    return path


# the directory


def test_it_makes_the_directory_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "not" / "there" / "yet"
    assert stored(DiskStore(path)) == Contents()
    assert (path / FORMAT_FILE).read_bytes() == b"%d\n" % FORMAT_VERSION
    assert (path / "data.mdb").stat().st_mode & 0o077 == 0


def test_a_second_broker_is_told_that_there_is_one(directory: Path) -> None:
    sentence = f"another broker has the data directory {directory} open"

    async def body(store: Store) -> None:
        before = snapshot(directory)
        with pytest.raises(StoreLockedError) as caught:
            await DiskStore(directory).open()
        assert str(caught.value) == sentence
        assert said_by_serve(directory) == f"Error: {sentence}"
        assert snapshot(directory) == before
        await store.commit(Commit(blocks=[(2, b"another block")]))
        assert (await contents(store)).blocks == {1: b"a block", 2: b"another block"}

    run(DiskStore(directory), body)
    assert stored(DiskStore(directory)).blocks == {1: b"a block", 2: b"another block"}


def test_the_lock_goes_with_the_process_that_had_it(directory: Path) -> None:
    with BrokerProcess(directory) as broker:
        assert refused(DiskStore(directory)).startswith("StoreLockedError: ")
        broker.kill()
        assert stored(DiskStore(directory)).blocks == {1: b"a block"}


@pytest.mark.parametrize(
    "text", [b"%d\n" % (FORMAT_VERSION + 1), b"10\n", b"0\n", b"", b"\n", b"one", b"1.0\n", b"\xff\x00\xff"]
)
def test_data_of_another_format_is_refused_untouched(directory: Path, text: bytes) -> None:
    (directory / FORMAT_FILE).write_bytes(text)
    (directory / LOCK_FILE).unlink()
    before = snapshot(directory)
    assert refused(DiskStore(directory)).startswith(f"StoreFormatError: the data in {directory} is of format ")
    assert f"knows formats up to {FORMAT_VERSION}" in said_by_serve(directory)
    assert snapshot(directory) == before


@pytest.mark.parametrize("name", ["letter.txt", "data.mdb", ".hidden", "a folder"])
def test_a_directory_of_something_else_is_refused_untouched(tmp_path: Path, name: str) -> None:
    path = tmp_path / "data"
    if name == "a folder":
        (path / name).mkdir(parents=True)
    else:
        path.mkdir()
        (path / name).write_bytes(b"somebody's")
    before = snapshot(path)
    sentence = f"{path} is not an mq9 data directory, and it is not empty"
    assert refused(DiskStore(path)) == f"StoreFormatError: {sentence}"
    assert said_by_serve(path) == f"Error: {sentence}"
    assert snapshot(path) == before


@pytest.mark.parametrize(
    "left",
    [
        {LOCK_FILE: b""},
        {LOCK_FILE: b"", f"{FORMAT_FILE}.new": b""},
        {LOCK_FILE: b"", f"{FORMAT_FILE}.new": b"1\n"},
        {LOCK_FILE: b"", FORMAT_FILE: b"1\n"},
        {LOCK_FILE: b"", FORMAT_FILE: b"1\n", "lock.mdb": b""},
        {LOCK_FILE: b"", FORMAT_FILE: b"1\n", "lock.mdb": bytes(8192), "data.mdb": b""},
    ],
    ids=lambda left: ",".join(f"{name}:{len(data)}" for name, data in left.items()),
)
def test_a_first_start_that_was_cut_off_is_taken_up(tmp_path: Path, left: dict[str, bytes]) -> None:
    path = tmp_path / "data"
    path.mkdir()
    for name, data in left.items():
        (path / name).write_bytes(data)
    run(DiskStore(path), lambda store: store.commit(Commit(blocks=[(1, b"a block")])))
    assert stored(DiskStore(path)).blocks == {1: b"a block"}
    assert (path / FORMAT_FILE).read_bytes() == b"%d\n" % FORMAT_VERSION


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"")
    for path in (file, file / "below"):
        said = refused(DiskStore(path))
        assert said.startswith("StoreFailedError: ")
        assert str(path) in said
        assert said_by_serve(path) == said.replace("StoreFailedError", "Error")
    assert file.read_bytes() == b""


def _garbage(data: bytearray) -> None:
    data[:] = b"garbage " * (len(data) // 8)


def _half_a_head(data: bytearray) -> None:
    del data[100:]


@pytest.mark.parametrize("damage", [_garbage, _half_a_head])
def test_a_file_that_is_no_database_is_refused_with_a_sentence(
    directory: Path, damage: Callable[[bytearray], None]
) -> None:
    data = bytearray((directory / "data.mdb").read_bytes())
    damage(data)
    (directory / "data.mdb").write_bytes(data)
    sentence = said_by_serve(directory)
    assert sentence.startswith(f"Error: cannot open the data in {directory}: ")
    assert (directory / "data.mdb").read_bytes() == data


def test_a_file_without_its_roots_is_refused_with_a_sentence(directory: Path) -> None:
    with (directory / "data.mdb").open("r+b") as file:
        file.truncate(8_192)
    said = said_by_serve(directory)
    assert said.startswith("Error: cannot ")
    assert "data" in said


def test_a_segment_that_was_cut_short_costs_what_is_missing(directory: Path) -> None:
    async def fill_two(store: Store) -> None:
        for number in range(2, 12):
            await store.commit(Commit(blocks=[(number, bytes(MIB))]))

    run(DiskStore(directory), fill_two)
    first = min((directory / "journal").iterdir())
    with first.open("r+b") as file:
        file.truncate(3 * MIB + MIB // 2)
    with BrokerProcess(directory) as broker:
        assert "ERROR the journal: segment 1 is damaged from byte " in broker.log()
        assert broker.running
        assert broker.stop() == 0
    numbers = {1, 2, 3, 4, 9, 10, 11}
    assert stored(DiskStore(directory)).blocks.keys() >= numbers - {4}


def test_a_segment_that_is_missing_is_reported(directory: Path) -> None:
    async def fill_two(store: Store) -> None:
        for number in range(2, 12):
            await store.commit(Commit(blocks=[(number, bytes(MIB))]))

    run(DiskStore(directory), fill_two)
    min((directory / "journal").iterdir()).unlink()
    with BrokerProcess(directory) as broker:
        assert "ERROR segment 1 of the journal is missing: its blocks are lost" in broker.log()
        assert broker.running


def test_what_could_not_be_opened_is_not_kept_locked(directory: Path) -> None:
    data = (directory / "data.mdb").read_bytes()
    (directory / "data.mdb").write_bytes(b"garbage " * 2_000)
    store = DiskStore(directory)
    assert refused(store).startswith("StoreFailedError: ")
    (directory / "data.mdb").write_bytes(data)
    assert stored(DiskStore(directory)).blocks == {1: b"a block"}
    assert stored(store).blocks == {1: b"a block"}


def test_the_loop_goes_on_while_a_commit_is_written(directory: Path) -> None:
    async def body(store: Store) -> None:
        commit = asyncio.create_task(store.commit(Commit(blocks=[(2, bytes(64 * MIB))])))
        turns = 0
        while not commit.done():
            await asyncio.sleep(0)
            turns += 1
        await commit
        assert turns > 100

    run(DiskStore(directory), body)


def test_a_block_must_be_above_those_that_are_stored(directory: Path) -> None:
    async def body(store: Store) -> None:
        await store.commit(Commit(blocks=[(5, b"five")]))
        for number in (0, 1, 4, 5):
            with pytest.raises(StoreFailedError, match=f"block {number} is not above"):
                await store.commit(Commit(blocks=[(number, b"late")], rows=[(Table.META, b"late", b"")]))
        await store.commit(Commit(blocks=[(6, b"six")]))
        assert await contents(store) == Contents(blocks={1: b"a block", 5: b"five", 6: b"six"})

    run(DiskStore(directory), body)


# no room


async def commit_until_full(store: Store, expected: Contents, size: int) -> None:
    """Commit blocks of `size` bytes until no more fits."""
    while True:
        number = max(expected.blocks, default=0) + 1
        data = number.to_bytes(8) * (size // 8)
        try:
            await store.commit(Commit(blocks=[(number, data)], rows=[(Table.META, b"highest", b"%d" % number)]))
        except StoreFullError:
            return
        expected.blocks[number] = data
        expected.rows[Table.META][b"highest"] = b"%d" % number


async def use_freed_room(store: Store) -> None:
    """LMDB uses what a commit has freed only when another commit, with something in it, lies between."""
    for number in range(2):
        await store.commit(Commit(rows=[(Table.META, b"between", b"%d" % number)]))
    await store.commit(Commit(rows=[(Table.META, b"between", None)]))


def test_at_its_limit_it_is_full_until_something_is_dropped(tmp_path: Path) -> None:
    expected = Contents()
    path = tmp_path / "data"

    async def fill_it(store: Store) -> None:
        await commit_until_full(store, expected, 100_000)
        assert len(expected.blocks) > 5
        assert await contents(store) == expected
        with pytest.raises(StoreFullError, match=f"limit of {MIB} bytes"):
            await store.commit(Commit(blocks=[(1_000, bytes(100_000))]))

    async def free_it(store: Store) -> None:
        assert await contents(store) == expected
        await store.commit(Commit(dropped=[1, 2, 3], rows=[(Table.DEAD, b"3", b"gone")]))
        for number in (1, 2, 3):
            del expected.blocks[number]
        expected.rows[Table.DEAD][b"3"] = b"gone"
        before = len(expected.blocks)
        await use_freed_room(store)
        await commit_until_full(store, expected, 100_000)
        assert len(expected.blocks) > before
        assert await contents(store) == expected

    run(DiskStore(path, MIB), fill_it)
    assert (path / "data.mdb").stat().st_size <= MIB
    run(DiskStore(path, MIB), free_it)
    assert (path / "data.mdb").stat().st_size <= MIB


def test_filled_to_the_last_page_it_still_removes_and_drops(tmp_path: Path) -> None:
    expected = Contents()

    async def body(store: Store) -> None:
        for size in (100_000, 20_000, 5_000, 1_000, 80):
            await commit_until_full(store, expected, size)
        # What frees space: a row that says what is dead in a block, and then the dropping of blocks.
        for number in list(expected.blocks)[:50]:
            await store.commit(Commit(rows=[(Table.DEAD, b"%d" % number, bytes(40))], may_use_reserve=True))
        removed: list[tuple[Table, bytes, bytes | None]] = [
            (Table.DEAD, b"%d" % number, None) for number in list(expected.blocks)[:50]
        ]
        await store.commit(Commit(rows=removed, may_use_reserve=True))
        await store.commit(Commit(dropped=list(expected.blocks)[:5], may_use_reserve=True))
        for number in list(expected.blocks)[:5]:
            del expected.blocks[number]
        assert await contents(store) == expected
        before = len(expected.blocks)
        await use_freed_room(store)
        await commit_until_full(store, expected, 50_000)
        assert len(expected.blocks) > before
        assert await contents(store) == expected

    run(DiskStore(tmp_path / "data", MIB), body)
    assert stored(DiskStore(tmp_path / "data", MIB)) == expected


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 10 MiB."""
    with small_disk(tmp_path / "disk", 10 * MIB) as mounted:
        yield mounted


def test_a_full_disk_is_full_until_there_is_room(disk: Path) -> None:
    expected = Contents()

    async def body(store: Store) -> None:
        await commit_until_full(store, expected, 100_000)
        in_the_way = fill(disk)
        assert await contents(store) == expected
        for _ in range(3):
            with pytest.raises(StoreFullError, match="disk is full"):
                await store.commit(Commit(blocks=[(1_000, bytes(300_000))], rows=[(Table.META, b"never", b"")]))
            assert await contents(store) == expected
        in_the_way.unlink()
        await store.commit(Commit(dropped=list(expected.blocks)[:20]))
        for number in list(expected.blocks)[:20]:
            del expected.blocks[number]
        await commit_until_full(store, expected, 50_000)
        assert await contents(store) == expected

    run(DiskStore(disk / "data"), body)
    assert stored(DiskStore(disk / "data")) == expected


def test_on_a_full_disk_what_frees_space_still_works(disk: Path) -> None:
    expected = Contents()

    async def body(store: Store) -> None:
        in_the_way = fill(disk, leave_bytes=2 * MIB)
        for size in (100_000, 20_000, 5_000, 1_000, 80):
            await commit_until_full(store, expected, size)
        for number in list(expected.blocks)[:5]:
            await store.commit(Commit(rows=[(Table.DEAD, b"%d" % number, bytes(40))], may_use_reserve=True))
            removed: list[tuple[Table, bytes, bytes | None]] = [(Table.DEAD, b"%d" % number, None)]
            await store.commit(Commit(dropped=[number], rows=removed, may_use_reserve=True))
            del expected.blocks[number]
        assert await contents(store) == expected
        await commit_until_full(store, expected, 50_000)
        in_the_way.unlink()
        await commit_until_full(store, expected, 50_000)
        assert await contents(store) == expected

    run(DiskStore(disk / "data"), body)
    assert stored(DiskStore(disk / "data")) == expected


def test_a_disk_that_refuses_to_write_fails_the_commit_and_no_more(directory: Path) -> None:
    async def body(store: Store) -> None:
        with file_size_limit(0, (directory / "data.mdb").stat().st_size):
            for number in (2, 3):
                with pytest.raises(StoreFailedError, match=f"cannot write to {directory}"):
                    await store.commit(Commit(blocks=[(number, bytes(100_000))], rows=[(Table.META, b"no", b"")]))
                assert await contents(store) == Contents(blocks={1: b"a block"})
        await store.commit(Commit(blocks=[(4, b"another block")]))
        assert await contents(store) == Contents(blocks={1: b"a block", 4: b"another block"})

    run(DiskStore(directory), body)
    assert stored(DiskStore(directory)) == Contents(blocks={1: b"a block", 4: b"another block"})
