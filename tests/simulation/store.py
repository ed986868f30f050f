"""A store that is slow, fails, is full, and is cut by a crash, as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from mq9.store.contract import BlockMissingError, Commit, StoreFailedError, StoreFullError, Table, Usage
from mq9.store.memory_engine import MemoryStore


@dataclass
class Trouble:
    """What befalls commits and reads now. `slow_ms`: how long each takes, at most."""

    slow_ms: int = 0
    fails: bool = False
    full: bool = False
    reads_fail: bool = False


@dataclass
class Durable:
    """What a store holds, whichever process looks at it."""

    blocks: dict[int, bytes] = field(default_factory=dict)
    tables: dict[Table, dict[bytes, bytes]] = field(default_factory=lambda: {table: {} for table in Table})


class SimulatedStore(MemoryStore):
    """One process's way to what is durable.

    Arguments:
        durable: what outlives the process.
        trouble: what befalls it.
        pick: gives a number from 0 to the given one.
        begun: called when a commit is handed over.
        ended: called with a commit, and whether it is durable.
        troubled: called when a read fails.
    """

    def __init__(
        self,
        durable: Durable,
        trouble: Trouble,
        pick: Callable[[int], int],
        begun: Callable[[], None],
        ended: Callable[[Commit, bool], None],
        troubled: Callable[[], None],
    ) -> None:
        super().__init__()
        self._blocks = durable.blocks
        self._tables = durable.tables
        self.trouble = trouble
        self.in_flight: Commit | None = None
        self._pick = pick
        self._begun = begun
        self._ended = ended
        self._troubled = troubled
        self._dead = False

    def crash(self, *, survives: bool) -> None:
        """The process is gone; a commit in flight is wholly durable, or not at all."""
        commit, self.in_flight = self.in_flight, None
        self._dead = True
        if commit is not None and survives:
            self._keep(commit)

    async def commit(self, commit: Commit) -> None:
        """See Store.commit."""
        assert self.in_flight is None, "more commits in flight than the store takes"
        held = set(self._blocks)
        for number, _ in commit.blocks:
            assert not held or number > max(held), "the numbers of blocks rise"
        self.in_flight = commit
        self._begun()
        trouble = self.trouble
        fails, full = trouble.fails, trouble.full and not commit.may_use_reserve
        await asyncio.sleep(self._pick(trouble.slow_ms) / 1_000)
        assert not self._dead
        self.in_flight = None
        if fails or full:
            self._ended(commit, False)
            raise StoreFailedError("the disk has failed") if fails else StoreFullError("the disk is full")
        self._keep(commit)

    def _keep(self, commit: Commit) -> None:
        for number, data in commit.blocks:
            self._blocks[number] = bytes(data)
        for number in commit.dropped:
            self._blocks.pop(number, None)
        for table, key, value in commit.rows:
            if value is None:
                self._tables[table].pop(key, None)
            else:
                self._tables[table][key] = value
        self._ended(commit, True)

    async def read_block(self, number: int) -> bytes:
        """See Store.read_block."""
        fails = self.trouble.reads_fail
        await asyncio.sleep(self._pick(self.trouble.slow_ms) / 1_000)
        if fails:
            self._troubled()
            raise StoreFailedError("the disk cannot be read")
        try:
            return self._blocks[number]
        except KeyError:
            raise BlockMissingError(f"there is no block {number}") from None

    async def usage(self) -> Usage:
        """See Store.usage."""
        return Usage(bytes_stored=sum(map(len, self._blocks.values())), durable=True)
