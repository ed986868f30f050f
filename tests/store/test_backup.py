"""Backups of a store and what is made of them: the same again, from data that is in use or not, and nothing that is half a copy."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mq9.server.checking import check
from mq9.store import backup, journal
from mq9.store.contract import FORMAT_VERSION, Commit, StoreError, StoreFormatError, StoreFullError, Table
from mq9.store.directory import BACKUP_FILE, FORMAT_FILE, JOURNAL_FORMAT
from mq9.store.disk_engine import DiskStore
from mq9.store.hold import HOLD_FILE, held
from tests.data.test_formats import HERE as FORMATS
from tests.store.contents import Contents, contents, run, stored
from tests.store.disks import fill, small_disk
from tests.store.test_disk import refused, snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from mq9.store.contract import Store

SEGMENT_BYTES = 128 * 1024
NOBODY = 65_534


def small_segments(directory: Path) -> DiskStore:
    """A store whose segments are soon full."""
    return DiskStore(directory, segment_bytes=SEGMENT_BYTES)


async def write(store: Store, first: int, last: int) -> None:
    """Commit blocks and rows."""
    for number in range(first, last):
        rows: list[tuple[Table, bytes, bytes | None]] = [(Table.MAILBOXES, b"%08d" % number, b"row %d" % number)]
        await store.commit(Commit(blocks=[(number, b"%d " % number * 5_000)], rows=rows))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A store of several segments, some blocks of which were dropped."""

    async def work(store: Store) -> None:
        await write(store, 0, 30)
        await store.commit(Commit(dropped=[*range(5, 15)]))
        await write(store, 30, 33)

    run(small_segments(tmp_path / "data"), work)
    return tmp_path / "data"


def said_by(kind: type[StoreError], work: Callable[[], object]) -> str:
    """The sentence with which something is refused."""
    with pytest.raises(kind) as caught:
        work()
    return str(caught.value)


# copying


@pytest.mark.parametrize("version", range(JOURNAL_FORMAT, FORMAT_VERSION + 1))
def test_a_backup_of_an_earlier_format_becomes_data_of_that_format(tmp_path: Path, version: int) -> None:
    """Which a broker takes over when it starts, as it would the original."""
    shutil.copytree(FORMATS / f"format-{version}", tmp_path / "data")
    assert backup.back_up(tmp_path / "data", tmp_path / "backup").version == version
    backup.restore(tmp_path / "backup", tmp_path / "restored")
    assert (tmp_path / "restored" / FORMAT_FILE).read_bytes() == b"%d\n" % version
    assert stored(DiskStore(tmp_path / "restored")) == stored(DiskStore(tmp_path / "data"))
    assert (tmp_path / "restored" / FORMAT_FILE).read_bytes() == b"%d\n" % FORMAT_VERSION


def test_what_is_restored_is_what_was_there(data: Path, tmp_path: Path) -> None:
    before = stored(small_segments(data))
    manifest = backup.back_up(data, tmp_path / "backup")
    assert manifest.size == sum(
        path.stat().st_size for path in (tmp_path / "backup").rglob("*") if path.is_file() and path.name != BACKUP_FILE
    )
    assert backup.restore(tmp_path / "backup", tmp_path / "restored") == manifest
    assert stored(small_segments(tmp_path / "restored")) == before
    assert len(before.blocks) == 23


def test_a_store_that_is_open_is_copied_as_it_is_then(data: Path, tmp_path: Path) -> None:
    """By another process: LMDB does not open a file twice in one."""

    async def work(store: Store) -> tuple[Contents, Contents]:
        await write(store, 33, 50)
        before = await contents(store)
        copying = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "mq9", "backup", str(tmp_path / "backup"), "--data-dir", str(data), "--no-check"
        )
        assert await copying.wait() == 0
        await write(store, 50, 90)
        return before, await contents(store)

    before, after = run(small_segments(data), work)
    backup.restore(tmp_path / "backup", tmp_path / "restored")
    assert stored(small_segments(tmp_path / "restored")) == before
    assert stored(small_segments(data)) == after


def test_what_is_restored_can_be_written_to(data: Path, tmp_path: Path) -> None:
    backup.back_up(data, tmp_path / "backup")
    backup.restore(tmp_path / "backup", tmp_path / "restored")
    run(small_segments(tmp_path / "restored"), lambda store: write(store, 33, 80))
    assert max(stored(small_segments(tmp_path / "restored")).blocks) == 79


def test_copies_are_the_owners_alone(data: Path, tmp_path: Path) -> None:
    backup.back_up(data, tmp_path / "backup")
    backup.restore(tmp_path / "backup", tmp_path / "restored")
    for directory in ("backup", "restored"):
        for path in [tmp_path / directory, *(tmp_path / directory).rglob("*")]:
            assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files to others")
def test_what_root_copies_stays_its_owners(data: Path, tmp_path: Path) -> None:
    """A restored store that was never opened has none of the files that are locked; root, who copies it, makes them."""
    backup.back_up(data, tmp_path / "backup")
    backup.restore(tmp_path / "backup", tmp_path / "restored")
    for path in [tmp_path / "restored", *(tmp_path / "restored").rglob("*")]:
        os.chown(path, NOBODY, NOBODY)
    backup.back_up(tmp_path / "restored", tmp_path / "again")
    owners = {path.name: path.stat().st_uid for path in (tmp_path / "restored").rglob("*")}
    assert {HOLD_FILE, backup.LMDB_LOCK_FILE} <= owners.keys()
    assert set(owners.values()) == {NOBODY}


# what is kept meanwhile


def test_segments_stay_while_somebody_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "HOLD_RETRY_S", 0.01)
    data = tmp_path / "data"

    def names() -> set[str]:
        return {path.name for path in (data / "journal").iterdir()}

    async def work(store: DiskStore) -> None:
        await write(store, 0, 60)
        with held(data):
            full = sorted(names())[:-3]
            assert len(full) > 5
            await store.commit(Commit(dropped=[*range(60)]))
            # Rows enough for a checkpoint, and time enough for what comes behind it.
            for number in range(60, 90):
                await store.commit(Commit(dropped=[number - 1], blocks=[(number, b"x" * 50_000)]))
                await store.usage()
                async for _ in store.scan_rows(Table.META):
                    pass
            assert names() >= set(full)
        number = 90
        while names() & set(full):
            await write(store, number, number + 1)
            number += 1

    store = small_segments(data)
    run(store, lambda _: work(store))


def test_a_store_whose_segments_stayed_gives_them_back_at_the_next_start(tmp_path: Path) -> None:
    data = tmp_path / "data"

    async def work(store: Store) -> None:
        await write(store, 0, 60)
        await store.commit(Commit(dropped=[*range(60)]))

    with held(data_made(data)):
        run(small_segments(data), work)
        assert len(list((data / "journal").iterdir())) > 5
    run(small_segments(data), lambda store: store.usage())
    assert len(list((data / "journal").iterdir())) <= 4
    assert stored(small_segments(data)).blocks == {}


def data_made(directory: Path) -> Path:
    """A directory with a store in which there is nothing."""
    stored(small_segments(directory))
    return directory


# refusals


def test_a_backup_goes_to_an_empty_directory_only(data: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "letter").write_text("to whom it may concern")
    before = snapshot(target)
    assert said_by(StoreFormatError, lambda: backup.back_up(data, target)) == f"{target} is not an empty directory"
    assert snapshot(target) == before
    assert "is inside of" in said_by(StoreFormatError, lambda: backup.back_up(data, data / "backup"))
    assert not (data / "backup").exists()
    (target / "letter").unlink()
    backup.back_up(data, target)


def test_what_is_no_data_is_not_copied(tmp_path: Path) -> None:
    assert "there is no data in" in said_by(
        StoreFormatError, lambda: backup.back_up(tmp_path / "none", tmp_path / "backup")
    )
    (tmp_path / "letter").write_text("to whom it may concern")
    assert "is not an mq9 data directory" in said_by(
        StoreFormatError, lambda: backup.back_up(tmp_path, tmp_path.parent / f"{tmp_path.name}-backup")
    )


def test_a_restore_goes_to_an_empty_directory_only(data: Path, tmp_path: Path) -> None:
    backup.back_up(data, tmp_path / "backup")
    before = snapshot(data)
    sentence = said_by(StoreFormatError, lambda: backup.restore(tmp_path / "backup", data))
    assert sentence == f"{data} is not an empty directory"
    assert snapshot(data) == before


def test_only_backups_are_restored(data: Path, tmp_path: Path) -> None:
    assert "is not a finished backup" in said_by(StoreFormatError, lambda: backup.restore(data, tmp_path / "restored"))
    assert not (tmp_path / "restored").exists()


def test_a_backup_is_not_served(data: Path, tmp_path: Path) -> None:
    backup.back_up(data, tmp_path / "backup")
    before = snapshot(tmp_path / "backup")
    assert "make a data directory of it with mq9 restore" in refused(DiskStore(tmp_path / "backup"))
    assert snapshot(tmp_path / "backup") == before


def test_a_damaged_backup_is_restored_only_when_that_is_asked_for(data: Path, tmp_path: Path) -> None:
    copy, target = tmp_path / "backup", tmp_path / "restored"
    backup.back_up(data, copy)
    segment = copy / "journal" / "000000000002.segment"
    changed = bytearray(segment.read_bytes())
    changed[500] ^= 1
    segment.write_bytes(changed)
    sentence = "journal/000000000002.segment does not match its checksum"
    assert said_by(StoreFormatError, lambda: backup.restore(copy, target)) == sentence
    assert not target.exists()
    problems: list[str] = []
    backup.restore(copy, target, problems.append)
    assert problems == [sentence]
    restored, whole = stored(small_segments(target)).blocks, stored(small_segments(data)).blocks
    assert restored.keys() <= whole.keys()
    assert sum(restored[number] == data for number, data in whole.items() if number in restored) >= len(whole) - 2


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b'{"format": 3, "made": "now", "files": [["data.mdb", "x", 1]]}',
        b'{"format": 3, "made": "now", "files": 7}',
        b'{"format": 3, "made": "now", "files": [["../data.mdb", 1, 1]]}',
        b'{"format": 3, "made": "now", "files": [["/etc/passwd", 1, 1]]}',
        b'{"format": 3, "made": "now", "files": [["mq9.format", 1, 1]]}',
        b'{"format": 99, "made": "now", "files": []}',
        b"[" * 100_000,
    ],
)
def test_a_manifest_that_is_none_is_refused(data: Path, tmp_path: Path, said: bytes) -> None:
    copy, target = tmp_path / "backup", tmp_path / "restored"
    backup.back_up(data, copy)
    (copy / BACKUP_FILE).write_bytes(said)
    for work in (lambda: backup.restore(copy, target), lambda: check(copy)):
        assert str(copy) in said_by(StoreFormatError, work)
    assert not target.exists()


def test_a_manifest_names_each_file_once(data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "backup"
    backup.back_up(data, copy)
    said = json.loads((copy / BACKUP_FILE).read_bytes())
    said["files"] *= 2
    (copy / BACKUP_FILE).write_bytes(json.dumps(said).encode())
    assert "is damaged" in said_by(StoreFormatError, lambda: backup.restore(copy, tmp_path / "restored"))


def test_a_restore_that_is_not_finished_is_no_data_directory(data: Path, tmp_path: Path) -> None:
    """Of a backup in which a file is missing, everything else is restored before that is found out."""
    backup.back_up(data, tmp_path / "backup")
    target = tmp_path / "restored"
    said: list[str] = []
    (tmp_path / "backup" / "journal" / "000000000001.segment").unlink()
    backup.restore(tmp_path / "backup", target, lambda _: said.append(refused(DiskStore(target))))
    assert said == [f"StoreFormatError: {target} is not an mq9 data directory, and it is not empty"]
    assert (target / FORMAT_FILE).exists()


@pytest.mark.parametrize("work", ["backup", "restore"])
def test_a_copy_that_does_not_fit_leaves_nothing(data: Path, tmp_path: Path, work: str) -> None:
    backup.back_up(data, tmp_path / "backup")
    with small_disk(tmp_path / "disk", 4 * 1024 * 1024) as disk:
        fill(disk, leave_bytes=200 * 1024)
        target = disk / "target"
        if work == "backup":
            sentence = said_by(StoreFullError, lambda: backup.back_up(data, target))
        else:
            sentence = said_by(StoreFullError, lambda: backup.restore(tmp_path / "backup", target))
        assert sentence == "there is no space for the copy"
        assert not target.exists()
    assert stored(small_segments(data)).blocks


def test_who_may_not_read_the_data_is_told_so(data: Path, tmp_path: Path) -> None:
    """A segment that cannot be read, here because it is a directory, is named."""
    first = data / "journal" / "000000000001.segment"
    first.rename(tmp_path / "segment")
    first.mkdir()
    sentence = said_by(StoreError, lambda: backup.back_up(data, tmp_path / "backup"))
    assert sentence.startswith("cannot copy ")
    assert not (tmp_path / "backup").exists()
