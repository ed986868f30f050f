"""The rewriter: copies what is left of regions that are mostly dead, a little at a time, so that disk use follows live data."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from mq9.mailboxes.blocks import Block
from mq9.mailboxes.office import PostOffice
from mq9.server.blockreader import BlockReader
from mq9.store.contract import StoreError

log = logging.getLogger("mq9")

# What one step reads: its copies are at most half of it, which makes the commit that they share about a millisecond longer.
STEP_BYTES = 1 << 20
STEP_BLOCKS = 64
# No step begins before four times as long as the one before took has passed, so that a fifth of the disk's and the loop's time is the
# most that is ever spent on this; and on a machine that is faster than that, 32 MB of old blocks in a second are enough to keep up
# with 16 MB/s of messages that are nearly all deleted, and leave the disk to others.
PAUSE_PER_STEP = 4.0
BYTES_PER_S = 32 << 20
# When to try again what could not be done: the store refuses commits, has no space, or a block is still needed as it is.
RETRY_S = 5.0
# How long a region rests that has come to be mostly dead: a queue that is worked off will be wholly dead in a moment.
REST_S = 1.0
FULL_CODE = 507


class Rewriter:
    """Works as long as there is something to rewrite, and then sleeps until `wake`.

    Arguments:
        office: whose blocks they are.
        blocks: reads them.
        now: gives Unix ms.
    """

    def __init__(self, office: PostOffice, blocks: BlockReader, now: Callable[[], int]) -> None:
        self._office = office
        self._blocks = blocks
        self._now = now
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._stopped = False
        self._waiting: deque[tuple[float, int]] = deque()
        self._retry: asyncio.TimerHandle | None = None
        self.bytes_rewritten = 0

    def wake(self) -> None:
        """There may be something to do."""
        if self._office.blocks.has_sparse and self._task is None and not self._stopped:
            self._task = self._loop.create_task(self._run())
            self._task.add_done_callback(self._ended)

    async def stop(self) -> None:
        """End; what has been asked for of the post office is left to it."""
        self._stopped = True
        if self._retry is not None:
            self._retry.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled() and (error := task.exception()) is not None:
            # Nothing depends on it but space: the broker goes on without.
            log.error("an error of the broker's own while rewriting blocks", exc_info=error)
            self._stopped = True

    async def _run(self) -> None:
        while True:
            # When there is only no space, this is what gets some back.
            if self._office.refusal is not None and self._office.refusal.code != FULL_CODE:
                await asyncio.sleep(RETRY_S)
                continue
            taken = self._office.blocks.take_sparse(STEP_BYTES, STEP_BLOCKS)
            if not taken:
                if not self._office.blocks.has_sparse:
                    return
                await asyncio.sleep(REST_S)
                self._office.blocks.rested()
                continue
            started = self._loop.time()
            size = await self._step(taken)
            took = self._loop.time() - started
            await asyncio.sleep(max(took * PAUSE_PER_STEP, size / BYTES_PER_S))

    async def _step(self, numbers: list[int]) -> int:
        """Rewrite some blocks; returns how many bytes were read for it, when the copies are durable."""
        sources: list[tuple[int, Block | bytes]] = []
        for number in numbers:
            try:
                data = await self._blocks.read(number, keep=False)
            except StoreError as error:
                log.error("cannot read block %d: %s", number, error)  # noqa: TRY400 - the sentence says it all
                self._later([number])
            else:
                if data is not None:  # otherwise it is damaged, and stays as it is
                    sources.append((number, data))
        done: asyncio.Future[bool] = self._loop.create_future()
        waiting, begun = self._office.rewrite(sources, self._now(), lambda stored: _set(done, stored))
        self._later(waiting)
        if begun and not await done:
            self._later([number for number, _ in sources if number not in waiting])
            return 0
        size = sum(len(data) for number, data in sources if number not in waiting)
        self.bytes_rewritten += size
        return size

    def _later(self, numbers: list[int]) -> None:
        """Try these again after a while."""
        again = self._loop.time() + RETRY_S
        self._waiting.extend((again, number) for number in numbers)
        if self._waiting and self._retry is None:
            self._retry = self._loop.call_later(RETRY_S, self._look_again)

    def _look_again(self) -> None:
        self._retry = None
        now = self._loop.time()
        while self._waiting and self._waiting[0][0] <= now:
            self._office.blocks.rewrite_again(self._waiting.popleft()[1])
        if self._waiting:
            self._retry = self._loop.call_at(self._waiting[0][0], self._look_again)
        self.wake()


def _set(done: asyncio.Future[bool], stored: bool) -> None:
    if not done.done():
        done.set_result(stored)
