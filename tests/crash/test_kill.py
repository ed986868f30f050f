"""A broker that is killed at any moment, again and again over the same data: nothing that anybody was told is lost or changed.

docs/design.md §4: an answered send, create, delete and remove survives kill -9; what was not answered is wholly there or not at all.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.crash.rounds import Rounds, seeded
from tests.store.post import Post
from tests.support.broker import BrokerProcess, clean_environment

if TYPE_CHECKING:
    import random

# How often the broker is killed under load; more for a long run.
KILLS: Final = int(os.environ.get("MQ9_KILLS", "50"))


@pytest.mark.slow
@pytest.mark.timeout(120 + 8 * KILLS)
def test_nothing_that_was_told_is_lost_when_the_broker_is_killed(tmp_path: Path) -> None:
    with Rounds(tmp_path / "data") as rounds:
        for _ in range(KILLS):
            rounds.work_until(rounds.broker.kill, 0.05, 0.6)
            rounds.compare()
    rounds.report(f"killed {KILLS} times")
    assert rounds.ledger.sends_told > 20 * KILLS
    assert rounds.ledger.deletes_told > 5 * KILLS
    assert rounds.ledger.others_told > KILLS
    assert rounds.ledger.shown_count > KILLS


@pytest.mark.slow
def test_a_msg_id_is_never_given_out_again(tmp_path: Path) -> None:
    highest = 0
    with BrokerProcess(tmp_path / "data") as broker:
        for number in range(6):
            with Post(broker.url) as post:
                post.create(name="box")
                other = post.new()
                msg_ids = post.send_all(other, [b"gone with its mailbox"] * 3)
                assert min(msg_ids) > highest
                assert post.remove(other) == {"deleted": True}
                for _ in range(3):
                    msg_ids.append(post.send("box", b"alone in its block")["msg_id"])
                    assert post.delete("box", msg_ids[-1]) == {"deleted": True}
                assert msg_ids == sorted(set(msg_ids))
                highest = msg_ids[-1]
                if number % 2:
                    # By now a commit has dropped the blocks, with everything that they say of numbers.
                    post.new()
            broker.kill()
            broker.start()


def kill_while_starting(data_dir: Path, chance: random.Random) -> None:
    """Start a broker and kill it before it is ready or just after: mostly when it has touched its data, else at any time."""
    command = [sys.executable, "-m", "mq9", "serve", "--port", "0", "--data-dir", str(data_dir)]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=clean_environment()
    ) as process:
        until = time.monotonic() + chance.uniform(0.0, 0.4)
        if chance.random() < 0.7:
            deadline = time.monotonic() + 10
            while not has_open(process.pid, data_dir):
                assert time.monotonic() < deadline, "it has not opened its data"
            until = time.monotonic() + chance.uniform(0.0, 0.02)
        while time.monotonic() < until:
            pass
        process.kill()


def has_open(pid: int, directory: Path) -> bool:
    """Whether the process has opened a file of `directory`."""
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if descriptor.readlink().is_relative_to(directory):
                return True
        except OSError:  # closed meanwhile
            continue
    return False


@pytest.mark.slow
def test_a_first_start_that_was_killed_is_taken_up(tmp_path: Path) -> None:
    chance = seeded()
    for number in range(8):
        kill_while_starting(tmp_path / f"data {number}", chance)
        with BrokerProcess(tmp_path / f"data {number}") as broker, Post(broker.url) as post:
            assert post.new(name="box") == "box"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_nothing_is_lost_when_the_broker_is_killed_while_it_starts(tmp_path: Path) -> None:
    with Rounds(tmp_path / "data") as rounds:
        for _ in range(4):
            rounds.work_until(rounds.broker.kill, 0.2, 0.6)
            for _ in range(4):
                kill_while_starting(tmp_path / "data", rounds.chance)
            rounds.compare()
    rounds.report("killed 4 times, and 16 times while starting")
