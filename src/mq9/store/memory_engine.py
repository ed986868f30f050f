"""The engine that keeps nothing: for `mq9 serve --memory` and for tests. The same contract, without the disk."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from mq9.store.contract import BlockMissingError, Commit, Store, Table, Usage

_ROWS_AT_ONCE = 1_000
_BLOCKS_AT_ONCE = 16
_BLOCKS_PER_REGION = 8


class MemoryStore(Store):
    """Blocks and rows in dicts; everything is gone when the object is."""

    def __init__(self) -> None:
        self._blocks: dict[int, bytes] = {}
        self._tables: dict[Table, dict[bytes, bytes]] = {table: {} for table in Table}
        self._bytes = 0

    async def open(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to release: what was committed can be opened again, as with an engine that has a disk."""

    async def commit(self, commit: Commit) -> None:
        """See Store.commit."""
        for number, data in commit.blocks:
            self._blocks[number] = bytes(data)
            self._bytes += len(data)
        for number in commit.dropped:
            self._bytes -= len(self._blocks.pop(number, b""))
        for table, key, value in commit.rows:
            rows = self._tables[table]
            self._bytes -= len(rows.pop(key, b""))
            if value is not None:
                rows[key] = value
                self._bytes += len(value)

    async def read_block(self, number: int) -> bytes:
        """See Store.read_block."""
        try:
            return self._blocks[number]
        except KeyError:
            raise BlockMissingError(f"there is no block {number}") from None

    async def scan_blocks(self) -> AsyncIterator[Sequence[tuple[int, bytes]]]:
        """See Store.scan_blocks."""
        blocks = sorted(self._blocks.items())
        for at in range(0, len(blocks), _BLOCKS_AT_ONCE):
            yield blocks[at : at + _BLOCKS_AT_ONCE]

    async def scan_rows(self, table: Table) -> AsyncIterator[Sequence[tuple[bytes, bytes]]]:
        """See Store.scan_rows."""
        rows = sorted(self._tables[table].items())
        for at in range(0, len(rows), _ROWS_AT_ONCE):
            yield rows[at : at + _ROWS_AT_ONCE]

    def region(self, number: int) -> int:
        """See Store.region: a few blocks in a row."""
        return number // _BLOCKS_PER_REGION

    async def usage(self) -> Usage:
        """See Store.usage."""
        return Usage(bytes_stored=self._bytes, durable=False)
