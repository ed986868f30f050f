"""What the asynchronous classes stand on: how they wait, call back and end. `blocking_face.py` is the same for the other face.

`mailbox.py` is written on top of these few methods, so that its text can be turned into the blocking classes by leaving out
every `async` and `await` (tools/sync_face.py).
"""
# ruff: noqa: SLF001 - a mailbox and its handles are two halves of one thing

from __future__ import annotations

import asyncio
import inspect
import logging
import weakref
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from mq9.sdk import tracing
from mq9.sdk.connection import Connection
from mq9.sdk.errors import MailboxError
from mq9.sdk.operations import Operations

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator
    from typing import Self

    from mq9.sdk.credentials import Credentials
    from mq9.sdk.feed import Feed

ResultT = TypeVar("ResultT")
ItemT = TypeVar("ItemT")
HandleT = TypeVar("HandleT", bound="AsyncHandleFace[Any, Any]")
logger = logging.getLogger("mq9")

TAKEN_BEFORE_OTHERS_RUN = 64


class AsyncFace:
    """The ground of AsyncMailbox.

    Arguments:
        url: where the broker is, without secrets.
        credentials: who this client is.
        timeout: how long a call may take, in seconds.
        connect_timeout: how long the first connecting may take, in seconds.
    """

    def __init__(self, url: str, credentials: Credentials, timeout: float, connect_timeout: float) -> None:
        connection = Connection(url, credentials, connect_timeout)
        self._operations = Operations(connection, timeout)
        self._handles: weakref.WeakSet[AsyncHandleFace[Any, Any]] = weakref.WeakSet()
        weakref.finalize(self, connection.abandon)

    async def _ask(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        return await work

    def _begin(self, handle: HandleT) -> HandleT:
        """The handle as it is: awaiting it, or its first item, subscribes."""
        return handle

    async def _shut(self, timeout: float) -> None:
        """End every handle, waiting up to `timeout` seconds for its callbacks, then the connection."""
        handles = list(self._handles)
        for handle in handles:
            await handle._feed.finish()
        deliveries = {delivery for handle in handles for delivery in handle._deliveries}
        deliveries.discard(asyncio.current_task())
        if deliveries:
            _, late = await asyncio.wait(deliveries, timeout=timeout)
            for delivery in late:
                delivery.cancel()
            await asyncio.wait(deliveries)
        for handle in handles:
            await handle._feed.release()
        await self._operations.connection.close(timeout)


class AsyncHandleFace(Generic[ResultT, ItemT]):
    """The ground of everything that goes on in the background: a feed, and the callback that its items are for.

    Arguments:
        mailbox: what it belongs to; kept alive by it.
        feed: where the items come from.
        callback: what is called with each item, or None when the user iterates.
        concurrency: how many callbacks may run at once.
    """

    def __init__(
        self,
        mailbox: AsyncFace,
        feed: Feed[ResultT],
        callback: Callable[[ItemT], object] | None,
        concurrency: int = 1,
    ) -> None:
        self._mailbox = mailbox
        self._feed = feed
        self._callback = callback
        self._awaited = False
        self._taken = 0
        self._deliveries: list[asyncio.Task[None]] = []
        self._has_told = False
        mailbox._handles.add(self)
        weakref.finalize(self, feed.abandon)
        if callback is not None:
            self._deliveries = [
                asyncio.create_task(self._deliver_in_background(), name="mq9 receive") for _ in range(concurrency)
            ]

    def __await__(self) -> Generator[Any, None, Self]:
        """Wait until the broker has taken the subscription."""
        self._awaited = True
        try:
            yield from self._feed.start().__await__()
        except MailboxError as error:
            raise error.with_traceback(None) from None
        return self

    async def _ask(self, work: Coroutine[Any, Any, Any]) -> Any:
        return await work

    async def _breathe(self) -> None:
        """Let others run now and then, also while there is always something to take."""
        self._taken += 1
        if self._taken % TAKEN_BEFORE_OTHERS_RUN == 0:
            await asyncio.sleep(0)

    def _around(self, item: ItemT) -> tracing.Around:
        """What is around each call of the callback."""
        return tracing.nothing()

    async def _call(self, item: ItemT) -> Exception | None:
        """Call the callback; what it raises is logged and returned, and the next item comes."""
        assert self._callback is not None  # noqa: S101 - there is no delivery without one
        with self._around(item) as told:
            try:
                result = self._callback(item)
                if inspect.isawaitable(result):
                    await result
            except Exception as error:
                logger.exception("a callback raised an exception; going on with the next item")
                told(error)
                return error
        return None

    async def _deliver(self) -> None:
        raise NotImplementedError

    async def _deliver_in_background(self) -> None:
        try:
            await self._deliver()
        except MailboxError as error:
            if not self._awaited and not self._has_told:
                self._has_told = True
                logger.error("nothing is received any more: %s", error)  # noqa: TRY400 - a sentence says it all

    async def _delivered(self, timeout: float | None) -> bool:
        """Wait until the last callback has returned; True at once when called by a callback itself."""
        if not self._deliveries or asyncio.current_task() in self._deliveries:
            return True
        _, late = await asyncio.wait(self._deliveries, timeout=timeout)
        return not late
