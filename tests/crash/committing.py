"""A process that commits to a store until it is killed: `python -m tests.crash.committing DIRECTORY SEED DONE`.

It makes the commits of the seed from number DONE on, and says the number of each that is durable.
"""

from __future__ import annotations

import asyncio
import random
import sys
from typing import Final

from mq9.store.contract import Commit, Table
from mq9.store.disk_engine import DiskStore
from tests.store.contents import Contents

SEGMENT_BYTES: Final = 64 * 1024
_SIZES: Final = (40, 300, 3_000, 20_000, 100_000)


def commit_of(seed: int, number: int, state: Contents) -> Commit:
    """Commit `number` of a seed on a store that holds `state`: blocks, most of which are dropped soon, and rows."""
    chance = random.Random(f"{seed} {number}")
    commit = Commit()
    for extra in range(chance.choice((0, 1, 1, 1, 2))):
        commit.blocks.append((number * 4 + extra, chance.randbytes(chance.choice(_SIZES))))
    living = list(state.blocks)
    for _ in range(len(living) - chance.randrange(1, 30)):
        commit.dropped.append(living.pop(chance.randrange(len(living)) if chance.random() < 0.3 else 0))
    for _ in range(chance.choice((0, 1, 3))):
        value = None if chance.random() < 0.3 else chance.randbytes(chance.choice((0, 20, 500)))
        commit.rows.append((chance.choice(list(Table)), b"%d" % chance.randrange(40), value))
    return commit


def apply(state: Contents, commit: Commit) -> None:
    """What a commit does to what a store holds."""
    state.blocks |= {number: bytes(data) for number, data in commit.blocks}
    for number in commit.dropped:
        state.blocks.pop(number, None)
    for table, key, value in commit.rows:
        if value is None:
            state.rows[table].pop(key, None)
        else:
            state.rows[table][key] = value


def state_after(seed: int, done: int) -> Contents:
    """What a store holds after so many commits of a seed."""
    state = Contents()
    for number in range(done):
        apply(state, commit_of(seed, number, state))
    return state


async def _main(directory: str, seed: int, done: int) -> None:
    state = state_after(seed, done)
    store = DiskStore(directory, segment_bytes=SEGMENT_BYTES)
    await store.open()
    print("open", flush=True)  # noqa: T201
    while True:
        commit = commit_of(seed, done, state)
        await store.commit(commit)
        apply(state, commit)
        done += 1
        print(done, flush=True)  # noqa: T201


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
