"""Everything that a store holds, read in every way that the contract has, and the stores that tests run."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

from mq9.store.contract import Store, Table

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_Result = TypeVar("_Result")
# What a scan may hold at once beside the block that makes it full.
SLICE_BYTES_MAX: Final = 8 * 1024 * 1024


@dataclass
class Contents:
    """What is stored: blocks by their numbers, and the rows of each table by their keys."""

    blocks: dict[int, bytes] = field(default_factory=dict)
    rows: dict[Table, dict[bytes, bytes]] = field(default_factory=lambda: {table: {} for table in Table})


async def contents(store: Store) -> Contents:
    """Everything in `store`; fails when a scan is not in order, or does not find what reading finds."""
    found = Contents()
    async for blocks in store.scan_blocks():
        assert blocks, "a scan gave an empty slice"
        sizes = [len(data) for _, data in blocks]
        assert sum(sizes) - max(sizes) <= SLICE_BYTES_MAX, f"a slice holds {sum(sizes)} bytes at once"
        for number, data in blocks:
            assert number > max(found.blocks, default=-1), "blocks are scanned in the order of their numbers, once"
            assert await store.read_block(number) == data
            found.blocks[number] = bytes(data)
    for table in Table:
        last: bytes | None = None
        async for rows in store.scan_rows(table):
            assert rows, "a scan gave an empty slice"
            for key, value in rows:
                assert last is None or key > last, "rows are scanned in the order of their keys, once"
                last = key
                found.rows[table][key] = bytes(value)
    return found


def run(store: Store, body: Callable[[Store], Awaitable[_Result]]) -> _Result:
    """What `body` gives for `store`, opened before and closed after it."""

    async def main() -> _Result:
        await store.open()
        try:
            return await body(store)
        finally:
            await store.close()

    return asyncio.run(main())


def stored(store: Store) -> Contents:
    """Everything in `store`, which is opened for it."""
    return run(store, contents)
