"""Backups of a broker that is busy: each has everything that was told before it was begun, and is consistent; and copies that are killed.

docs/command-line.md, "mq9 backup": what is restored is what a crash at some moment of the copy would have left.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from mq9.server.checking import check
from mq9.store.contract import StoreFormatError
from mq9.store.directory import BACKUP_FILE, FORMAT_FILE
from tests.crash.ledger import Box, Fate, Ledger, Message
from tests.crash.load import Load
from tests.crash.rounds import Rounds
from tests.store.post import MAILBOX, Mail, Post
from tests.support.broker import BrokerProcess, clean_environment

if TYPE_CHECKING:
    from collections.abc import Sequence

ROUNDS: Final = 6
PATIENCE_S: Final = 60.0


@dataclass(repr=False)
class Told:
    """What clients had been told at one moment."""

    there: list[Message]
    gone: list[Message]
    boxes: list[Box]

    @classmethod
    def by(cls, ledger: Ledger) -> Told:
        """What is certain now."""
        messages = list(ledger.messages.values())
        return cls(
            [message for message in messages if message.fate is Fate.THERE],
            [message for message in messages if message.fate is Fate.GONE and message.msg_id],
            [box for box in ledger.boxes.values() if box.fate is Fate.THERE],
        )


def command(*arguments: object) -> list[str]:
    """`mq9` with arguments."""
    return [sys.executable, "-m", "mq9", *map(str, arguments)]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run `mq9` to its end."""
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=PATIENCE_S, env=clean_environment(), check=False
    )


async def back_up_under_load(rounds: Rounds, data: Path, target: Path) -> Told:
    """Have the broker be busy, back it up meanwhile; what had been told when the backup was begun."""
    load = Load(rounds.ledger, rounds.chance)
    await load.begin(rounds.broker.url)
    await asyncio.sleep(rounds.chance.uniform(0.1, 0.5))
    told = Told.by(rounds.ledger)
    copying = await asyncio.create_subprocess_exec(
        *command("backup", target, "--data-dir", data),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=clean_environment(),
    )
    said, _ = await copying.communicate()
    assert copying.returncode == 0, said.decode()
    await asyncio.to_thread(rounds.broker.kill)
    await load.end()
    return told


def found(post: Post, boxes: Sequence[Box]) -> dict[str, list[Mail]]:
    """What is in mailboxes, of those that are there."""
    there = [box for box in boxes if "error" not in post.ask(f"{MAILBOX}.LIST.{box.mail_id}", {"limit": 1})]
    return {box.mail_id: post.fetch(box.mail_id, limit=200) for box in there}


def compare(restored: Path, told: Told, ledger: Ledger) -> int:
    """Compare what a restored broker has with what was told; returns how many messages there were."""
    boxes = [*ledger.boxes.values(), *ledger.gone.values(), *told.boxes]
    with BrokerProcess(restored) as broker:
        assert "ERROR" not in broker.log()
        with Post(broker.url) as post:
            mails = found(post, list({box.mail_id: box for box in boxes}.values()))
            answer = post.send(post.new(), b"life goes on")
        broker.stop()
    here = {int(mail.payload.partition(b" ")[0]): mail for some in mails.values() for mail in some}
    for box in told.boxes:
        assert box.mail_id in mails or box.fate is not Fate.THERE or box.busy, f"{box.mail_id} is not in the backup"
    for message in told.there:
        kept = message.fate is Fate.THERE and message.box.fate is Fate.THERE
        assert not kept or message.token in here, f"message {message.token} ({message.msg_id}) is not in the backup"
    for message in told.gone:
        assert message.token not in here, f"message {message.token} was deleted before the backup was begun"
    for token, mail in here.items():
        message = ledger.messages[token]
        assert mail == Mail(message.msg_id or mail.msg_id, message.priority, message.payload, message.headers)
        assert mail.msg_id < answer["msg_id"]
    return len(here)


@pytest.mark.slow
@pytest.mark.timeout(60 + 20 * ROUNDS)
def test_a_backup_under_load_has_what_was_told_before_it_was_begun(tmp_path: Path) -> None:
    compared = 0
    with Rounds(tmp_path / "data") as rounds:
        for number in range(ROUNDS):
            backup, restored = tmp_path / f"backup {number}", tmp_path / f"restored {number}"
            told = asyncio.run(back_up_under_load(rounds, tmp_path / "data", backup))
            assert len(told.there) > 20
            ran = run("restore", backup, "--data-dir", restored)
            assert (ran.returncode, ran.stderr) == (0, ""), ran
            assert check(restored).damage == []
            compared += compare(restored, told, rounds.ledger)
            rounds.compare()
    rounds.report(f"backed up {ROUNDS} times, {compared} messages compared")
    assert compared > 20 * ROUNDS


def fill(url: str, megabytes: int) -> None:
    """Give a broker something that takes a while to copy."""
    with Post(url) as post:
        post.create(name="box")
        for _ in range(megabytes):
            post.send_all("box", [b"x" * 10_000] * 100)


def killed(arguments: Sequence[object], when: Path) -> bool:
    """Start a command, and kill it as soon as there is something at `when`; whether it had not ended by itself."""
    with subprocess.Popen(command(*arguments), env=clean_environment(), stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + PATIENCE_S
        while not when.exists() and process.poll() is None:
            assert time.monotonic() < deadline, f"{when} is not there"
        process.kill()
    return process.returncode < 0


@pytest.mark.slow
def test_a_backup_that_is_killed_is_none_and_keeps_the_broker_from_nothing(tmp_path: Path) -> None:
    data, target = tmp_path / "data", tmp_path / "backup"
    with BrokerProcess(data, http=True) as broker:
        fill(broker.url, 60)
        for number in range(4):
            target = tmp_path / f"backup {number}"
            when = target / ("data.mdb" if number % 2 else "journal")
            assert killed(["backup", target, "--data-dir", data], when)
            assert not (target / BACKUP_FILE).exists()
            ran = run("restore", target, "--data-dir", tmp_path / "restored")
            assert ran.returncode == 1
            assert ran.stderr == f"Error: {target} is not a finished backup: it has no {BACKUP_FILE}\n"
            assert not (tmp_path / "restored").exists()
            with pytest.raises(StoreFormatError):
                check(target)
        with Post(broker.url) as post:
            assert post.remove("box") == {"deleted": True}
            deadline = time.monotonic() + PATIENCE_S
            other = post.new()
            while size_of(data / "journal") > 5 * 8 << 20:
                assert time.monotonic() < deadline, "nothing is used again"
                post.send(other, b"the next commit")
        ran = run("backup", tmp_path / "whole", "--data-dir", data)
        assert (ran.returncode, ran.stderr) == (0, ""), ran
        broker.stop()
    assert check(data).damage == []


def size_of(directory: Path) -> int:
    """Bytes of the files of a directory, in which files come and go."""
    total = 0
    for path in directory.iterdir():
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


@pytest.mark.slow
def test_a_restore_that_is_killed_makes_no_data_directory(tmp_path: Path) -> None:
    data, target, backup = tmp_path / "data", tmp_path / "restored", tmp_path / "backup"
    with BrokerProcess(data) as broker:
        fill(broker.url, 60)
        broker.kill()
    assert run("backup", backup, "--data-dir", data).returncode == 0
    assert killed(["restore", backup, "--data-dir", target], target / "journal")
    assert not (target / FORMAT_FILE).exists()
    ran = run("serve", "--port", 0, "--data-dir", target)
    assert ran.returncode == 1
    assert ran.stderr == f"Error: {target} is not an mq9 data directory, and it is not empty\n"
    ran = run("restore", backup, "--data-dir", target)
    assert ran.returncode == 1
    assert ran.stderr == f"Error: {target} is not an empty directory\n"
    ran = run("restore", backup, "--data-dir", tmp_path / "another")
    assert ran.returncode == 0
    assert check(tmp_path / "another").damage == []
