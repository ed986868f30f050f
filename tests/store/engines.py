"""The engines that the conformance kit is run over: one that is added to ENGINES has to pass all of it.

A place is where one test keeps its data; every store over the same place finds what was committed there before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from mq9.store.contract import Commit, Store, Table
from mq9.store.disk_engine import DiskStore
from mq9.store.memory_engine import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Place(Protocol):
    """Where one test keeps its data."""

    durable: bool
    exclusive: bool
    """Whether a second store over the same place must be refused while the first is open."""

    def store(self) -> Store:
        """A store over this place that has not been opened yet."""

    def impossible(self, highest: int) -> Commit | None:
        """A commit that the engine must refuse when block `highest` is the last one stored; None when there is no such."""


class MemoryPlace:
    """One MemoryStore, which is also the one that is opened again: it has nothing to be found by."""

    durable = False
    exclusive = False

    def __init__(self, _directory: Path) -> None:
        self._store = MemoryStore()

    def store(self) -> Store:
        """The one store."""
        return self._store

    def impossible(self, highest: int) -> None:
        """It refuses nothing."""


class DiskPlace:
    """A directory for DiskStore, whose segments are small, so that there are many."""

    durable = True
    exclusive = True

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def store(self) -> Store:
        """A store over the directory."""
        return DiskStore(self._directory, segment_bytes=SEGMENT_BYTES)

    def impossible(self, highest: int) -> Commit:
        """A block that is not above the others comes behind everything that is in order."""
        return Commit(
            blocks=[(highest + 1, b"never stored"), (highest, b"never stored either")],
            dropped=[highest],
            rows=[(table, b"never stored", b"row") for table in Table],
        )


ENGINES: Final[dict[str, Callable[[Path], Place]]] = {"memory": MemoryPlace, "disk": DiskPlace}
SEGMENT_BYTES: Final = 1024 * 1024
EXCLUSIVE: Final = ["disk"]
REFUSING: Final = ["disk"]
