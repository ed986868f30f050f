"""What the state machines share: a post office that begins with what a store holds, as a broker does when it is started."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mq9.mailboxes.format import MARKS_KEY
from mq9.mailboxes.loading import Loading
from mq9.mailboxes.office import PostOffice
from mq9.store.contract import Table

if TYPE_CHECKING:
    import asyncio

    from mq9.store.contract import Store


def rows_of(store: Store, loop: asyncio.AbstractEventLoop, table: Table) -> list[tuple[bytes, bytes]]:
    """All rows of a table."""

    async def scan() -> list[tuple[bytes, bytes]]:
        return [row async for rows in store.scan_rows(table) for row in rows]

    return loop.run_until_complete(scan())


def started(store: Store, loop: asyncio.AbstractEventLoop, now: int) -> PostOffice:
    """A post office that has taken over everything at `now` (Unix ms)."""
    office = PostOffice(now, lambda: None, lambda event, mailbox: None, lambda: None)
    loading = Loading(office)
    for key, value in rows_of(store, loop, Table.META):
        if key == MARKS_KEY:
            loading.load_marks(value)
    for key, value in rows_of(store, loop, Table.MAILBOXES):
        loading.load_mailbox(key, value, now)
    for key, value in rows_of(store, loop, Table.GROUPS):
        loading.load_group(key, value)
    for key, value in rows_of(store, loop, Table.DEAD):
        loading.load_dead(key, value)

    async def load() -> None:
        async for blocks in store.scan_blocks():
            for number, data in blocks:
                loading.load_block(number, data, now)

    loop.run_until_complete(load())
    loading.finish_loading(set(), now)
    return office
