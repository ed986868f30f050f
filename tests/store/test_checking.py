"""What `mq9 check` says of data: nothing of what is as it was written, and a sentence for each damage. It changes nothing.

docs/command-line.md, "mq9 check".
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mq9.mailboxes.format import MARKS_KEY, open_row, seal_row
from mq9.server.checking import check
from mq9.store import backup
from mq9.store.contract import FORMAT_VERSION, Commit, StoreFormatError, StoreLockedError, Table
from mq9.store.directory import JOURNAL_FORMAT
from mq9.store.disk_engine import DiskStore
from mq9.store.tables import Tables
from tests.data.test_formats import HERE as FORMATS
from tests.store.contents import run, stored
from tests.store.post import Post
from tests.store.serving import Serving
from tests.store.test_damage import DAMAGES, Damager, fill
from tests.store.test_disk import snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

LEASING = "$mq9.AI.MSG"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data with something of everything in it: messages, some deleted, a group with leases and dead ones, ended mailboxes."""
    directory = tmp_path_factory.mktemp("made") / "data"
    with Serving(DiskStore(directory)) as serving, Post(serving.url) as post:
        mails = fill(post)
        secret = post.new(desc="private")
        post.delete("box", mails[0].msg_id)
        post.send_all(secret, [b"one", b"two", b"three"])
        leased = post.ask(f"{LEASING}.FETCH.{secret}", {"group_name": "workers", "config": {"num_msgs": 2}})
        assert len(leased["messages"]) == 2
        first = leased["messages"][0]["msg_id"]
        said = post.ask(f"{LEASING}.ACK.{secret}", {"group_name": "workers", "msg_ids": [first], "op": "dead"})
        assert said == {"error": ""}
        gone = post.new()
        post.send(gone, b"in a mailbox that ends")
        assert post.remove(gone) == {"deleted": True}
        alone = post.send(secret, b"alone in its block, which is dropped")["msg_id"]
        post.delete(secret, alone)
        post.send(secret, b"behind it")
    return directory


@pytest.fixture
def data(made: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(made, tmp_path / "data")
    return tmp_path / "data"


def found(directory: Path) -> list[str]:
    """What is damaged, and that looking changed nothing."""
    before = snapshot(directory)
    damage = check(directory).damage
    assert snapshot(directory) == before
    assert all(sentence and "\n" not in sentence for sentence in damage)
    return damage


def change(directory: Path, work: Callable[[Tables], None]) -> None:
    """Do something to the tables of a store that is not open."""
    tables = Tables(directory)
    tables.open()
    work(tables)
    tables.close()


def put(directory: Path, table: Table, key: bytes, value: bytes | None) -> None:
    """Write a row behind the broker's back, or remove one."""

    def work(tables: Tables) -> None:
        environment = tables.environment
        with environment.begin(db=environment.open_db(table.value.encode()), write=True) as transaction:
            transaction.delete(key) if value is None else transaction.put(key, value)

    change(directory, work)


# what is as it was written


def test_nothing_is_damaged_in_what_a_broker_has_left(data: Path) -> None:
    report = check(data)
    assert found(data) == []
    assert report.segments == 1
    assert report.records == 40 + 4
    assert report.blocks >= 5
    assert report.rows >= 6


def test_nothing_is_damaged_in_a_store_without_anything(tmp_path: Path) -> None:
    stored(DiskStore(tmp_path))
    assert found(tmp_path) == []


@pytest.mark.parametrize("version", range(JOURNAL_FORMAT, FORMAT_VERSION + 1))
def test_nothing_is_damaged_in_the_data_of_a_release(tmp_path: Path, version: int) -> None:
    shutil.copytree(FORMATS / f"format-{version}", tmp_path / "data")
    assert found(tmp_path / "data") == []


def test_many_segments_are_looked_at(tmp_path: Path) -> None:
    async def work(store: DiskStore) -> None:
        for number in range(40):
            await store.commit(Commit(blocks=[(number, b"%d" % number * 50_000)]))

    store = DiskStore(tmp_path, segment_bytes=256 * 1024)
    run(store, lambda _: work(store))
    report = check(tmp_path)
    assert report.segments > 5
    # They are not blocks of messages, and that alone is what is wrong with them.
    blocks = [f"block {number} does not begin as a block does" for number in range(40)]
    assert report.damage == [*blocks, *report.damage[40:]]


# damage


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
@pytest.mark.parametrize("which", [0, 2, 4])
def test_a_damaged_block_is_named(data: Path, which: int, damage: Callable[[memoryview], None]) -> None:
    with Damager(data) as damager:
        number, _ = damager.damage_block(b"payload 3 of block %d, low" % which, damage)
    said = found(data)
    assert any(sentence.startswith(f"block {number} ") for sentence in said), said
    assert any("do not match their checksum" in sentence for sentence in said), said
    assert len(said) == 2, said


@pytest.mark.parametrize("at", [0, 8, 12, 16, 24, 32, 36, 40, 44, 48, 64, 72])
def test_a_damaged_frame_is_named(data: Path, at: int) -> None:
    with Damager(data) as damager:
        damager.damage_frame(b"payload 3 of block 2, low", at)
    assert any("segment 1" in sentence for sentence in found(data))


def test_no_flipped_bit_of_the_journal_is_missed(data: Path, tmp_path: Path) -> None:
    """Whatever byte of it is changed: it is found, or the store has the same in it as before."""
    whole = stored(DiskStore(data))
    segment = min((data / "journal").iterdir())
    sound = segment.read_bytes()
    end = len(sound.rstrip(b"\0"))
    assert found(data) == []
    chance = random.Random(20)
    missed = 0
    for at in sorted(chance.sample(range(end), 250)):
        changed = bytearray(sound)
        changed[at] ^= 1 << chance.randrange(8)
        segment.write_bytes(changed)
        if not check(data).damage:
            missed += 1
            shutil.rmtree(tmp_path / "copy", ignore_errors=True)
            shutil.copytree(data, tmp_path / "copy")
            assert stored(DiskStore(tmp_path / "copy")) == whole, f"byte {at} of {end}"
    segment.write_bytes(sound)
    assert found(data) == []
    assert missed < 25, "most of a journal is not padding"


@pytest.mark.parametrize("table", [Table.MAILBOXES, Table.META, Table.DEAD, Table.GROUPS])
@pytest.mark.parametrize("cut", [lambda _: b"", lambda value: value[:-1]], ids=["empty", "cut off"])
def test_a_damaged_row_is_named(data: Path, table: Table, cut: Callable[[bytes], bytes]) -> None:
    with Damager(data) as damager:
        rows = damager.change_rows(table, cut)
    assert rows
    said = [sentence for sentence in found(data) if f" of table {table.value} " in sentence]
    assert len(said) >= rows, said


def test_a_damaged_row_does_not_tell_a_mail_id(data: Path) -> None:
    rows: list[bytes] = []

    def damage(value: bytes) -> bytes:
        rows.append(value)
        return value[:-1]

    with Damager(data) as damager:
        damager.change_rows(Table.MAILBOXES, damage)
    secrets = [value[at : at + 28] for value in rows if (at := value.find(b"m-")) >= 0]
    assert secrets
    said = "".join(found(data))
    assert not any(secret.decode() in said for secret in secrets)


def test_a_mark_for_what_is_not_there_is_named(data: Path) -> None:
    (key, value), *_ = rows_of(data, Table.DEAD)
    bitmap = bytearray(open_row(key, value))
    put(data, Table.DEAD, key, seal_row(key, bytes(bitmap) + b"\x80"))
    number = int.from_bytes(key)
    assert found(data) == [f"row {number} of table dead marks what is not in block {number}"]


def test_a_handout_without_its_group_is_named(data: Path) -> None:
    (key, _), *more = rows_of(data, Table.GROUPS)
    assert more
    put(data, Table.GROUPS, key, None)
    assert all(sentence.endswith("belongs to a group that is not there") for sentence in found(data))
    assert len(found(data)) == len(more)


def test_numbers_that_may_be_given_out_again_are_named(data: Path) -> None:
    put(data, Table.META, MARKS_KEY, None)
    assert found(data) == ["table meta does not say which numbers are to be given out next"]


def rows_of(directory: Path, table: Table) -> list[tuple[bytes, bytes]]:
    """The rows of a table of a store that is not open."""
    return sorted(stored(DiskStore(directory)).rows[table].items())


def test_a_missing_segment_is_named(data: Path) -> None:
    segment = min((data / "journal").iterdir())
    segment.unlink()
    assert "segment 1 of the journal is missing" in found(data)


def test_a_missing_journal_is_named(data: Path) -> None:
    shutil.rmtree(data / "journal")
    assert found(data) == ["the journal cannot be read: No such file or directory"]


def test_a_journal_that_was_cut_short_is_found(data: Path) -> None:
    segment = min((data / "journal").iterdir())
    end = len(segment.read_bytes().rstrip(b"\0"))
    segment.write_bytes(segment.read_bytes()[: end // 2])
    assert any(sentence.startswith("segment 1 is ") for sentence in found(data))


def test_a_data_file_that_was_cut_short_is_named(data: Path) -> None:
    file = data / "data.mdb"
    file.write_bytes(file.read_bytes()[: 3 * 4096])
    (said,) = found(data)
    assert said.startswith("data.mdb is damaged: ")


@pytest.mark.parametrize("fill_with", [b"\0", b"\xff", b"\x5a"])
def test_a_data_file_with_damaged_pages_does_not_end_the_check(data: Path, fill_with: bytes) -> None:
    file = data / "data.mdb"
    size = file.stat().st_size
    file.write_bytes(file.read_bytes()[: 2 * 4096] + fill_with * (size - 2 * 4096))
    (said,) = found(data)
    assert said.startswith("data.mdb is damaged: ")


def test_a_data_file_that_is_none_is_named(data: Path) -> None:
    (data / "data.mdb").write_bytes(b"no data")
    (said,) = found(data)
    assert said.startswith("data.mdb cannot be opened: ")


def test_a_data_file_that_is_missing_is_named(data: Path) -> None:
    (data / "data.mdb").unlink()
    (said,) = found(data)
    assert said.startswith("data.mdb cannot be opened: ")


# what it does not look at


def refusal(directory: Path, kind: type[Exception]) -> str:
    """The sentence with which a directory is refused."""
    with pytest.raises(kind) as caught:
        check(directory)
    return str(caught.value)


def test_data_that_a_broker_has_open_is_refused(data: Path) -> None:
    with Serving(DiskStore(data)):
        assert refusal(data, StoreLockedError) == f"another broker has the data directory {data} open"
    assert found(data) == []


def test_what_is_no_data_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none", StoreFormatError) == f"there is no data in {tmp_path / 'none'}"
    assert refusal(tmp_path, StoreFormatError) == f"there is no data in {tmp_path}"
    (tmp_path / "letter").write_text("to whom it may concern")
    assert "is not an mq9 data directory" in refusal(tmp_path, StoreFormatError)


@pytest.mark.parametrize("version", range(1, JOURNAL_FORMAT))
def test_data_of_an_earlier_format_is_refused(tmp_path: Path, version: int) -> None:
    shutil.copytree(FORMATS / f"format-{version}", tmp_path / "data")
    assert "start a broker on it once" in refusal(tmp_path / "data", StoreFormatError)


# backups


def test_a_backup_is_looked_at_as_its_data_would_be(data: Path, tmp_path: Path) -> None:
    with Damager(data) as damager:
        number, _ = damager.damage_block(b"payload 3 of block 2, low", DAMAGES["payload"])
    backup.back_up(data, tmp_path / "backup")
    assert found(tmp_path / "backup") == found(data)
    assert any(sentence.startswith(f"block {number} ") for sentence in found(data))


def test_a_file_of_a_backup_that_is_not_what_was_backed_up_is_named(data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "backup"
    backup.back_up(data, copy)
    assert found(copy) == []
    segment = copy / "journal" / "000000000001.segment"
    changed = bytearray(segment.read_bytes())
    changed[-1] ^= 1
    segment.write_bytes(changed)
    assert "journal/000000000001.segment does not match its checksum" in found(copy)
    segment.write_bytes(changed[:-8])
    assert any(
        sentence.startswith(f"journal/000000000001.segment has {len(changed) - 8} bytes") for sentence in found(copy)
    )
    segment.unlink()
    assert "journal/000000000001.segment cannot be read: No such file or directory" in found(copy)
