"""What the broker asks of a store.

Eight methods. All that touch the store are awaitable, because an engine may be remote and take milliseconds: several
commits may be in flight, and reads are waited for. What a block or a row contains is decided above this contract.
tests/store/test_conformance.py is the same in code: every engine passes it.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Final

# What blocks and rows mean. A broker takes data of an older format over and marks it as its own when it opens it, so that no older
# broker misreads what it adds: 2 has delayed and keyed messages, groups, and copies of rewritten blocks; 3 has the
# blocks in a journal; 4 has owners of mailboxes.
FORMAT_VERSION: Final = 4


class Table(enum.Enum):
    """The tables beside the blocks: small rows under keys of at most 500 bytes, kept in the order of their keys."""

    META = "meta"
    MAILBOXES = "mailboxes"
    DEAD = "dead"
    GROUPS = "groups"
    DEDUP = "dedup"

    # Every row of a commit is looked up by it, and an enumeration's own is Python.
    __hash__ = object.__hash__


class StoreError(Exception):
    """The store cannot do what was asked; the text is one sentence for the person who runs the broker."""


class StoreLockedError(StoreError):
    """Another broker has the data directory open."""


class StoreFormatError(StoreError):
    """The data is not ours, or of a version that this program does not know. Nothing was touched."""


class StoreFullError(StoreError):
    """There is no space for this commit. What frees space may still succeed."""


class StoreFailedError(StoreError):
    """The engine failed. Nothing of the commit is there, or all of it; the next commit may succeed."""


class BlockMissingError(StoreError):
    """There is no block of this number."""


@dataclass(slots=True)
class Commit:
    """Everything that becomes durable together.

    Attributes:
        blocks: new blocks as (number, bytes); numbers rise within the commit and above all that the store ever held. The
            bytes may be any contiguous buffer and must not change before the commit has returned.
        dropped: numbers of blocks to remove; unknown ones are ignored.
        rows: changes to tables in their order, as (table, key, value); a value of None removes the row.
        may_use_reserve: whether it may take the space that the engine keeps back for what must succeed when it is full
            otherwise: deletions, and the copying of what is left of a region, which need space before they free any.
    """

    blocks: list[tuple[int, memoryview | bytes]] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)
    rows: list[tuple[Table, bytes, bytes | None]] = field(default_factory=list)
    may_use_reserve: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """How much an engine holds: bytes on disk (or in memory), and whether that survives the process."""

    bytes_stored: int
    durable: bool


class Store(ABC):
    """An engine. Opened and closed once; all methods are called from one event loop.

    `commits_in_flight_max` says how many commits the engine works on at a time; the caller starts no more.

    Blocks lie in regions, whose numbers rise with those of their blocks. `region_bytes` is the space that a region takes however
    little is left in it: that of a block comes back when all blocks of its region were dropped. 0: it comes back at once.
    """

    commits_in_flight_max: int = 1
    region_bytes: int = 0

    @abstractmethod
    async def open(self) -> None:
        """Make the store usable, creating it when there is none.

        Afterwards this process is the only one that has it open. Raises StoreLockedError when another process has,
        StoreFormatError when the data is of no format up to FORMAT_VERSION, StoreFailedError otherwise; then nothing was changed.
        """

    @abstractmethod
    async def close(self) -> None:
        """End: waits for commits in flight, releases the data. Calling it again does nothing."""

    @abstractmethod
    async def commit(self, commit: Commit) -> None:
        """Make `commit` durable, all or nothing.

        When it returns, all of it survives the end of the process and of the machine's power, and every later read sees
        it. Commits become durable in the order in which they were started. Raises StoreFullError or StoreFailedError:
        then nothing of it is seen by any later read.
        """

    @abstractmethod
    async def read_block(self, number: int) -> bytes:
        """The bytes of one block, as they were committed. Raises BlockMissingError or StoreFailedError."""

    @abstractmethod
    def scan_blocks(self) -> AsyncIterator[Sequence[tuple[int, bytes]]]:
        """All blocks in the order of their numbers, some at a time; at most a few megabytes are held at once."""

    @abstractmethod
    def scan_rows(self, table: Table) -> AsyncIterator[Sequence[tuple[bytes, bytes]]]:
        """All rows of a table in the order of their keys, some at a time."""

    @abstractmethod
    def region(self, number: int) -> int:
        """The number of the region that a stored block lies in."""

    @abstractmethod
    async def usage(self) -> Usage:
        """How much is held."""
