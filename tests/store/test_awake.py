"""Commits that follow each other, for which neither the committing thread nor the loop goes to sleep, and those that do not."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Final

from mq9.store.contract import Commit, Store
from mq9.store.disk_engine import DiskStore
from tests.store.contents import contents, run

if TYPE_CHECKING:
    from pathlib import Path

COMMITS: Final = 600
# The middle one about as long as either side stays awake; a large block takes longer than the loop looks for its end.
PAUSES_S: Final = (0, 0, 0.0002, 0.002)
SIZES: Final = (1, 100, 10_000, 2_000_000)
WEIGHTS: Final = (8, 8, 4, 1)


def test_every_commit_is_told_of_whoever_sleeps_when_it_ends(tmp_path: Path) -> None:
    chance = random.Random(7)
    blocks = {number: chance.randbytes(chance.choices(SIZES, WEIGHTS)[0]) for number in range(1, COMMITS + 1)}

    async def body(store: Store) -> None:
        for number, block in blocks.items():
            await asyncio.wait_for(store.commit(Commit(blocks=[(number, block)])), 30)
            if pause := chance.choice(PAUSES_S):
                await asyncio.sleep(pause)
        assert (await contents(store)).blocks == blocks

    run(DiskStore(tmp_path / "data"), body)


def test_with_nothing_to_commit_both_sleep(tmp_path: Path) -> None:
    async def body(store: Store) -> None:
        for number in range(1, 101):
            await store.commit(Commit(blocks=[(number, b"one after the other")]))
        used = time.process_time()
        await asyncio.sleep(0.5)
        assert time.process_time() - used < 0.1

    run(DiskStore(tmp_path / "data"), body)
