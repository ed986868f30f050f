"""A disk that fails below a broker: every call that writes, syncs or takes space, for the journal and for the tables.

docs/protocol.md §3: 503 when the storage is unavailable, 507 when it is full; docs/design.md §4: no error is retried into silence, what was
answered is there, what was refused is not, and the broker goes on without a restart when the disk does.
"""

from __future__ import annotations

import errno
import time
from functools import partial
from typing import TYPE_CHECKING, Final

import pytest

from tests.faults.beside import Beside, lines
from tests.faults.shim import ALL, JOURNAL, OTHER, TABLES
from tests.sdk.support import eventually
from tests.store.disks import fill, small_disk
from tests.store.post import MAILBOX, Post, until
from tests.support.broker import BrokerProcess
from tests.support.findings import Finding, is_thorough, record

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.shim import Shim

MIB: Final = 1024 * 1024
LASTS_S: Final = 5.0 if is_thorough() else 0.3
# Of many messages each: of few the p99 would be the one that was slowest. No more than fit into one file of the journal.
LARGE_ROUNDS: Final = 25 if is_thorough() else 10
LARGE_EACH: Final = 2

# When they come alone: then the loop itself has the system take the first, and the committing thread the second.
SIZES: Final = (200, 40_000)
ALONE_S: Final = 0.005

FAULTS: Final = {
    "write EIO": {"write_errno": errno.EIO},
    "write ENOSPC": {"write_errno": errno.ENOSPC},
    "fsync EIO": {"sync_errno": errno.EIO},
    "fsync EIO, what was written is lost": {"sync_errno": errno.EIO, "lose": 1},
    "fsync ENOSPC, what was written is lost": {"sync_errno": errno.ENOSPC, "lose": 1},
}


class Told:
    """What senders to one mailbox were told."""

    def __init__(self, post: Post, mail_id: str = "box") -> None:
        self.mail_id = mail_id
        self.stored: dict[int, bytes] = {}
        self.refused: set[bytes] = set()
        self.codes: set[int] = set()
        self._count = 0
        if "error" in post.ask(f"{MAILBOX}.LIST.{mail_id}"):
            until(partial(post.create, name=mail_id))

    def send(self, post: Post, count: int = 1, size: int = 200) -> None:
        """Send messages that nobody sent before, and note what the answers are."""
        for _ in range(count):
            self._count += 1
            payload = (b"message %d," % self._count).ljust(size, b".")
            self.note(payload, post.send(self.mail_id, payload))

    def note(self, payload: bytes, answer: dict[str, object]) -> None:
        """What came of sending `payload`."""
        if "msg_id" in answer:
            self.stored[int(str(answer["msg_id"]))] = payload
        else:
            self.refused.add(payload)
            self.codes.add(int(str(answer["code"])))

    def recover(self, post: Post) -> None:
        """Send until it is stored again, without a restart."""
        payload = b"stored again, after %d" % self._count
        self.note(payload, until(partial(post.send, self.mail_id, payload)))

    def check(self, post: Post) -> None:
        """What is there is what senders were told is."""
        there = {mail.msg_id: mail.payload for mail in post.fetch(self.mail_id)}
        assert not {payload[:60] for payload in there.values() if payload in self.refused}, "it was refused"
        assert there == self.stored


@pytest.mark.parametrize(
    ("name", "kill"),
    [*((name, True) for name in FAULTS), ("fsync EIO, what was written is lost", False)],
    ids=lambda value: value if isinstance(value, str) else "killed" if value else "stopped",
)
def test_a_disk_that_fails_is_told_and_left_behind(broker: BrokerProcess, shim: Shim, name: str, kill: bool) -> None:
    fault = FAULTS[name]
    code = 507 if errno.ENOSPC in fault.values() else 503
    with Post(broker.url) as post, Beside(broker) as others:
        told = Told(post)
        told.send(post, 20)
        for times in (1, 3, -1):
            failed = shim.calls("failed", JOURNAL)
            with shim.failing(JOURNAL, times, **fault):
                told.send(post, 5)
                told.check(post)
                deadline = time.monotonic() + (LASTS_S if times < 0 else 0)
                while time.monotonic() < deadline:
                    told.send(post)
                    time.sleep(0.01)
                assert shim.calls("failed", JOURNAL) > failed
                # A single commit that fails may have had messages of the others alone.
                assert told.refused or times > 0
                # What is there can be read while nothing can be stored.
                told.check(post)
            told.recover(post)
            told.send(post, 20)
        told.check(post)
        assert told.codes == {code}
        assert shim.calls("failed", JOURNAL) >= 3
        others.end(refused=True)
        rss = others.rss_both_mb()
        log = broker.log()
    errors = lines(log, "ERROR")
    assert 1 <= len(errors) <= 10, errors  # not one for each that was refused
    if kill:
        broker.kill()
    else:
        assert broker.stop() == 0
    broker.start()
    with Post(broker.url) as post:
        told.check(post)
    assert "ERROR" not in broker.log()
    if kill:
        kept = len(told.stored) + others.found["stored"]
        done = f"{name} of the journal's files, once, three times, and for {LASTS_S:g} s under load; then kill -9"
        found = f"{code} meanwhile, reading goes on; {len(told.refused)} refused and not there; sends again without a restart"
        record(Finding(f"Disk: {name}", done, found, kept, rss_mb=rss, log=errors[0]))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["write EIO", "fsync EIO", "fsync EIO, what was written is lost"])
def test_what_was_refused_is_not_there_when_the_broker_is_killed_at_once(
    broker: BrokerProcess, shim: Shim, name: str, size: int
) -> None:
    with Post(broker.url) as post:
        told = Told(post)
        told.send(post, 5)
        # After the one that fails, what is written succeeds: but nothing else is sent before the end.
        shim.begin(JOURNAL, 1, **FAULTS[name])
        time.sleep(ALONE_S)
        told.send(post, size=size)
        assert told.codes == {503}
        broker.kill()
    shim.clear()
    broker.start()
    with Post(broker.url) as post:
        told.check(post)


def test_a_disk_that_does_not_answer_keeps_waiting_only_who_stores(broker: BrokerProcess, shim: Shim) -> None:
    with Post(broker.url) as post, Post(broker.url) as reader:
        told = Told(post)
        for size in SIZES:
            told.send(post, 5)
            syncs = shim.calls("syncs", JOURNAL)
            payload = b"waits".ljust(size, b".")
            with shim.failing(JOURNAL, hold=1):
                time.sleep(ALONE_S)
                post.begin(f"{MAILBOX}.MSG.box", payload)
                assert post.client.fence() == []
                eventually(lambda before=syncs: shim.calls("syncs", JOURNAL) > before)  # type: ignore[misc]
                told.check(reader)
                assert post.client.fence() == reader.client.fence() == []
            told.note(payload, post.answer()[1])
        told.check(reader)
        assert len(told.stored) == len(SIZES) * 6


def test_what_a_killed_broker_had_written_is_synced_before_it_counts(
    broker: BrokerProcess, shim: Shim, data: Path
) -> None:
    with Post(broker.url) as post:
        Told(post).send(post, 5)
    broker.kill()
    before = shim.calls("syncs", JOURNAL)
    with shim.failing(JOURNAL, sync_errno=errno.EIO), pytest.raises(AssertionError, match="Input/output error"):
        broker.start()
    assert shim.calls("syncs", JOURNAL) == before + 1
    assert lines_of(data)
    with BrokerProcess(data, environment=shim.environment) as again, Post(again.url) as post:
        assert len(post.fetch("box")) == 5


def lines_of(data: Path) -> list[str]:
    """The files of a journal."""
    return sorted(path.name for path in (data / "journal").iterdir())


def send_large(told: Told, post: Post) -> None:
    """One after the other messages of 20 KB, and smaller ones."""
    for _ in range(LARGE_ROUNDS):
        told.send(post, LARGE_EACH, 20_000)
        told.send(post, 50)


def test_short_writes_are_gone_on_with(broker: BrokerProcess, shim: Shim) -> None:
    with Post(broker.url) as post, Beside(broker) as others:
        told = Told(post)
        others.phase("whole writes")
        send_large(told, post)
        others.phase("during")
        with shim.failing(ALL, short_bytes=1_000):
            send_large(told, post)
        others.phase("after")
        rss = others.rss_both_mb()
        assert not told.refused
        assert shim.calls("failed", JOURNAL) >= LARGE_ROUNDS * LARGE_EACH * 20
        told.check(post)
        others.end()
        broker.kill()
        broker.start()
        with Post(broker.url) as again:
            told.check(again)
    assert "ERROR" not in broker.log()
    done = "every write of more than 1,000 bytes takes only 1,000; p99 is held against the same messages, written whole"
    kept = len(told.stored) + others.found["stored"]
    record(
        Finding("Disk: short writes", done, "written whole; nobody notices", kept, others.p99_ms("whole writes"), rss)
    )


@pytest.mark.parametrize(
    ("fault", "error"), [("sync_errno", errno.EIO), ("write_errno", errno.ENOSPC)], ids=["EIO", "ENOSPC"]
)
def test_tables_that_cannot_be_written_keep_nobody_waiting(
    broker: BrokerProcess, shim: Shim, fault: str, error: int
) -> None:
    with Post(broker.url) as post:
        told = Told(post)
        with shim.failing(TABLES, **{fault: error}):
            for number in range(3):  # each of these is a checkpoint, when the store has a chance to make one
                names = [f"box.{number}.{name}" for name in range(7_000)]
                requests = [(f"{MAILBOX}.CREATE", b'{"name": "%b", "ttl": 0}' % name.encode()) for name in names]
                assert all("error" not in answer for answer in post.ask_all(requests))
                told.send(post, 5)
            deadline = time.monotonic() + 20
            while shim.calls("failed", TABLES) < 2:
                assert time.monotonic() < deadline, "no checkpoint was made"
                time.sleep(0.05)
        assert not told.refused
        before = shim.calls("syncs", TABLES)
        deadline = time.monotonic() + 20
        while shim.calls("syncs", TABLES) == before:
            assert time.monotonic() < deadline, "no checkpoint was made when it was possible again"
            time.sleep(0.05)
        told.check(post)
        errors = lines(broker.log(), "ERROR")
        assert len(errors) == 1, errors
    broker.kill()
    broker.start()
    with Post(broker.url) as post:
        told.check(post)
        assert post.create(name="box.2.6999")["is_new"] is False
    assert "ERROR" not in broker.log()
    if fault == "sync_errno" and error == errno.EIO:
        done = "EIO of every fsync of the tables' file while 21,000 mailboxes are created; then kill -9"
        found = "nobody waits for it and nothing is refused: the journal has it all; the next checkpoint succeeds"
        record(Finding("Disk: tables EIO", done, found, len(told.stored) + 21_000, log=errors[0]))


def test_without_space_for_the_journal_sends_are_refused_and_deletions_go_on(broker: BrokerProcess, shim: Shim) -> None:
    with Post(broker.url) as post:
        told = Told(post)
        with shim.failing(JOURNAL | OTHER, space_errno=errno.ENOSPC):
            while not told.refused:
                told.send(post, size=500_000)
            assert told.codes == {507}
            for msg_id in list(told.stored)[:5]:
                assert post.delete("box", msg_id) == {"deleted": True}
                del told.stored[msg_id]
            told.check(post)
        told.recover(post)
        told.check(post)
        errors = lines(broker.log(), "ERROR")
        assert errors == ["ERROR cannot store messages: the disk is full"], errors
        assert lines(broker.log(), "works again") == ["WARNING the storage works again"]
    broker.kill()
    broker.start()
    with Post(broker.url) as post:
        told.check(post)


def test_a_full_disk_is_told_and_left_behind(tmp_path: Path) -> None:
    with (
        small_disk(tmp_path / "disk", 48 * MIB) as disk,
        BrokerProcess(disk / "data") as broker,
        Post(broker.url) as post,
        Beside(broker) as others,
    ):
        told = Told(post)
        told.send(post, 10, 100_000)
        in_the_way = fill(disk)
        while not told.refused:
            told.send(post, size=100_000)
        for _ in range(20):
            told.send(post, size=100_000)
        assert told.codes == {507}
        told.check(post)
        for msg_id in list(told.stored)[:5]:
            assert post.delete("box", msg_id) == {"deleted": True}
            del told.stored[msg_id]
        told.check(post)
        in_the_way.unlink()
        told.recover(post)
        told.send(post, 10, 100_000)
        told.check(post)
        others.end(refused=True)
        rss = others.rss_both_mb()
        errors = lines(broker.log(), "ERROR")
        # Once, or now and then while others' smaller messages still fit.
        assert set(errors) == {"ERROR cannot store messages: the disk is full"}, errors
        assert len(errors) <= 3
        assert 1 <= len(lines(broker.log(), "works again")) <= len(errors)
        refused = len(told.refused)
        broker.kill()
        broker.start()
        with Post(broker.url) as again:
            told.check(again)
    done = "a file system of 48 MB filled up by somebody else while messages come; the file removed; kill -9"
    found = f"507 ({refused} sends), deletions and reading go on; sends again without a restart"
    record(Finding("Disk: full", done, found, len(told.stored) + others.found["stored"], rss_mb=rss, log=errors[0]))
