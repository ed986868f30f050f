"""The store alone, killed again and again while its segments are filled, recycled and removed: it holds what was said to be durable.

docs/design.md §4: what was answered is there; what was not, wholly or not at all.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Final

import pytest

from mq9.store.disk_engine import DiskStore
from tests.crash.committing import SEGMENT_BYTES, apply, commit_of, state_after
from tests.crash.rounds import SEED
from tests.store.contents import stored
from tests.support.broker import clean_environment

if TYPE_CHECKING:
    from pathlib import Path

KILLS: Final = max(int(os.environ.get("MQ9_KILLS", "50")) // 2, 10)


def commit_until_killed(directory: Path, done: int, after_s: float) -> int:
    """Let a process commit from number `done` on, and kill it `after_s` seconds later; how many were durable by then."""
    command = [sys.executable, "-m", "tests.crash.committing", str(directory), str(SEED), str(done)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=clean_environment()) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        time.sleep(after_s)
        process.kill()
        said = process.stdout.read().split()
    return int(said[-1]) if said else done


@pytest.mark.slow
@pytest.mark.timeout(120 + 4 * KILLS)
def test_a_store_that_is_killed_holds_what_was_durable(tmp_path: Path) -> None:
    print(f"MQ9_SEED={SEED}")  # noqa: T201
    chance = random.Random(SEED)
    done, undecided = 0, 0
    for _ in range(KILLS):
        done = commit_until_killed(tmp_path, done, chance.uniform(0.0, 0.3))
        found = stored(DiskStore(tmp_path, segment_bytes=SEGMENT_BYTES))
        expected = state_after(SEED, done)
        if found != expected:  # then the commit that was under way is there too, wholly
            apply(expected, commit_of(SEED, done, expected))
            assert found == expected
            done += 1
            undecided += 1
    files = list((tmp_path / "journal").iterdir())
    print(f"killed {KILLS} times, {done} commits, {undecided} of them not told")  # noqa: T201
    assert done > 20 * KILLS
    # Segments were used again: there are those in which something is left, and a few besides.
    assert len(files) <= len(expected.blocks) + 8
