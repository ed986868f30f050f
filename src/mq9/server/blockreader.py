"""Reads blocks that are not in memory: for receivers that are behind, and for fetch."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from mq9.mailboxes.blocks import Block
from mq9.mailboxes.delivery import Delivery
from mq9.mailboxes.format import DamagedError, check_block
from mq9.mailboxes.mailbox import Mailbox
from mq9.store.contract import BlockMissingError, Store, StoreError

log = logging.getLogger("mq9")

READS_MAX = 4
RETRY_S = 1.0


class BlockReader:
    """Brings blocks from the store into memory.

    Arguments:
        store: where they are.
        delivery: whose receivers want them.
        deliver: called when receivers may go on.
    """

    def __init__(self, store: Store, delivery: Delivery, deliver: Callable[[], None]) -> None:
        self._store = store
        self._delivery = delivery
        self._deliver = deliver
        self._room = asyncio.Semaphore(READS_MAX)
        self._reading: dict[int, asyncio.Task[bytes | None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def want(self) -> None:
        """Begin to read what the receivers want."""
        for number in self._delivery.take_wanted():
            task = asyncio.get_running_loop().create_task(self._bring(number))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def read(self, number: int, *, keep: bool = True) -> Block | bytes | None:
        """The bytes of a block, from memory or the store; None when it is gone or damaged. Raises StoreError.

        With `keep` it stays in memory for a while: who wants one message of a block wants the next one soon.
        """
        block = self._delivery.cache.find(number)
        if block is not None:
            return block
        task = self._reading.get(number)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._read(number))
            self._reading[number] = task
            task.add_done_callback(lambda task: self._has_read(number, task))
        data = await asyncio.shield(task)
        if keep and data is not None:
            self._delivery.keep(number, data)
        return data

    async def find(
        self, mailbox: Mailbox, msg_id: int, now: Callable[[], int]
    ) -> tuple[Block | bytes | None, int] | None:
        """The block that a message is in, or None when that is damaged, and where in it; None when there is no such message.

        A block may be rewritten while it is read: the message is then looked for anew. Raises StoreError.
        """
        place = mailbox.where(msg_id, now())
        while place is not None:
            data = await self.read(place[0])
            before, place = place, mailbox.where(msg_id, now())
            if place is not None and (data is not None or place == before):
                return data, before[1]
        return None

    async def stop(self) -> None:
        """End all reading."""
        tasks = [*self._tasks, *self._reading.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _has_read(self, number: int, task: asyncio.Task[bytes | None]) -> None:
        del self._reading[number]
        if not task.cancelled():
            task.exception()  # whoever wanted the block may have gone away, and then nobody asks for the error

    async def _read(self, number: int) -> bytes | None:
        async with self._room:
            try:
                data = await self._store.read_block(number)
                check_block(data, number)
            except BlockMissingError:
                return None
            except DamagedError as error:
                log.error("block %d %s: its messages are lost", number, error)  # noqa: TRY400 - the sentence says it all
                return None
            return data

    async def _bring(self, number: int) -> None:
        """Read a block for the receivers that wait for it."""
        try:
            data = await self.read(number)
        except StoreError as error:
            log.error("cannot read block %d: %s", number, error)  # noqa: TRY400
            await asyncio.sleep(RETRY_S)
            self._delivery.look_again(number)
        else:
            if data is None:
                self._delivery.damaged(number)
            else:
                self._delivery.look_again(number)
        self._deliver()
