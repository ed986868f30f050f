"""The committer: one commit for everything that arrived while the one before was on its way to the disk.

At the end of the turn in which something was asked for, the open batch is sealed and given to the store; when its fsync
has returned, the post office settles it and whoever waits is told. With nothing under way a single message is committed
at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable

from mq9.mailboxes.batch import Batch
from mq9.mailboxes.office import PostOffice
from mq9.protocol import ProtocolError
from mq9.store.contract import Commit, Store, StoreError, StoreFullError, Table

log = logging.getLogger("mq9")

PROBE_S = 0.5
# For so long the same trouble is not told again: on a disk that is nearly full it comes and goes with the sizes of messages.
TROUBLE_S = 10.0
_PROBE_KEY = b"probe"
_FULL = ProtocolError(507, "the storage is full", "max_store")
_UNAVAILABLE = ProtocolError(503, "the storage is unavailable")


class Committer:
    """Moves batches from the post office to the store.

    Arguments:
        office, store: from where and to where.
        now: gives Unix ms.
        settled: called after every batch, with how long its commit took in seconds.
        refused: called when batches have failed and whoever waited for them was told.
        failed: called when the committer cannot go on.
    """

    def __init__(
        self,
        office: PostOffice,
        store: Store,
        now: Callable[[], int],
        settled: Callable[[float], None],
        refused: Callable[[], None],
        failed: Callable[[], None],
    ) -> None:
        self._office = office
        self._store = store
        self._now = now
        self._settled = settled
        self._refused = refused
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._probe: asyncio.Task[None] | None = None
        self._probe_is_due = False
        self._scheduled = False
        self._rows: dict[tuple[Table, bytes], bytes] = {}
        self._trouble = Trouble(self._loop.time)
        self._is_full = False
        self.commits = 0

    def wake(self) -> None:
        """The open batch is no longer empty."""
        if self._task is None and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._begin)

    def put_row(self, table: Table, key: bytes, value: bytes) -> None:
        """Store a row that no batch has, as soon as that succeeds."""
        self._rows[table, key] = value
        self.wake()

    async def drain(self) -> None:
        """Wait until nothing is left to commit."""
        while self._task is not None or self._scheduled:
            if self._task is None:
                await asyncio.sleep(0)
            else:
                await asyncio.wait([self._task])
        if self._probe is not None:
            self._probe.cancel()
            await asyncio.gather(self._probe, return_exceptions=True)

    def _begin(self) -> None:
        self._scheduled = False
        self._task = self._loop.create_task(self._run())
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("an error of the broker's own while committing", exc_info=error)
            self._failed()

    async def _run(self) -> None:
        try:
            while True:
                await self._try_again()
                await self._put_rows()
                if (batch := self._office.seal(self._now())) is None:
                    return
                started = time.perf_counter()
                try:
                    await self._commit(batch)
                except StoreError as error:
                    self._fail(batch, error)
                    return
                self.commits += 1
                if batch.count:
                    self._trouble.over()
                self._office.settle(batch, self._now())
                self._settled(time.perf_counter() - started)
        finally:
            # Here and not when the task is seen to have ended: what comes between must be able to wake the committer
            # again.
            self._task = None

    async def _put_rows(self) -> None:
        """Store the rows that no batch has. What cannot be stored is tried again with the next batch."""
        if rows := dict(self._rows):
            commit = Commit(rows=[(table, key, value) for (table, key), value in rows.items()], may_use_reserve=True)
            with contextlib.suppress(StoreError):
                await self._store.commit(commit)
                self._rows = {row: value for row, value in self._rows.items() if rows.get(row) != value}

    async def _commit(self, batch: Batch) -> None:
        """Commit the batch; when there is no space for its messages, refuse them and commit what else it has."""
        try:
            await self._store.commit(_commit_of(batch))
        except StoreFullError as error:
            if self._office.give_up_rewriting(batch):
                if batch:
                    await self._commit(batch)
                return
            if not batch.blocks:
                raise
            self._trouble.tell(f"cannot store messages: {error}")
            self._is_full = True
            self._office.give_up_messages(batch, _FULL)
            self._recover_later()
            await self._store.commit(_commit_of(batch))

    def _fail(self, batch: Batch, error: StoreError) -> None:
        """A batch could not be committed: nor can those behind it, which may build on it."""
        self._trouble.tell(f"cannot commit: {error}")
        self._is_full = isinstance(error, StoreFullError)
        refusal = _FULL if isinstance(error, StoreFullError) else _UNAVAILABLE
        failed: Batch | None = batch
        while failed is not None:
            self._office.fail(failed, refusal)
            failed = self._office.seal_full(self._now())
        self._refused()
        self._recover_later()

    def _recover_later(self) -> None:
        if self._probe is None or self._probe.done():
            self._probe = self._loop.create_task(self._recover())

    async def _recover(self) -> None:
        """Have it tried now and then whether a commit succeeds again."""
        while self._office.refusal is not None:
            await asyncio.sleep(PROBE_S)
            self._probe_is_due = True
            self.wake()

    async def _try_again(self) -> None:
        """Accept messages again if a commit succeeds: when its turn has come, behind the one that was under way."""
        if not self._probe_is_due:
            return
        self._probe_is_due = False
        if self._office.refusal is None:
            return
        try:
            await self._store.commit(Commit(rows=[(Table.META, _PROBE_KEY, b"")]))
        except StoreError:
            return
        self._office.accept()
        if not self._is_full:  # else the next message shows whether there is space for it
            self._trouble.over()


class Trouble:
    """What the log says of a storage that fails: a line when that begins, and one when it is over.

    Arguments:
        now: gives seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._sentence = ""
        self._told_s = 0.0
        self._is_told = False

    def tell(self, sentence: str) -> None:
        """It fails, or still does."""
        if sentence == self._sentence and (self._is_told or self._now() < self._told_s + TROUBLE_S):
            return
        log.error("%s", sentence)
        self._sentence, self._told_s, self._is_told = sentence, self._now(), True

    def over(self) -> None:
        """It works."""
        if self._is_told:
            self._is_told = False
            log.warning("the storage works again")


def _commit_of(batch: Batch) -> Commit:
    return Commit(
        blocks=[(block.number, memoryview(block)) for block in batch.blocks],
        dropped=batch.dropped,
        rows=batch.rows,
        may_use_reserve=not batch.count,  # deletions, and copies after which more can be dropped
    )
