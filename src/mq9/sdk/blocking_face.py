"""What the blocking classes stand on: the asynchronous engine on a loop thread of its own, and threads for the callbacks.

`blocking.py` is made from `mailbox.py` by tools/sync_face.py and uses these classes where the asynchronous text uses those of
`async_face.py`. Callbacks run on threads of their own, so they may call the mailbox themselves.
"""
# ruff: noqa: SLF001 - a mailbox and its handles are two halves of one thing

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
import time
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from mq9.sdk import tracing
from mq9.sdk.connection import Connection
from mq9.sdk.errors import ConnectionFailed, MailboxError
from mq9.sdk.operations import Operations

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from mq9.sdk.credentials import Credentials
    from mq9.sdk.feed import Feed

ResultT = TypeVar("ResultT")
ItemT = TypeVar("ItemT")
HandleT = TypeVar("HandleT", bound="BlockingHandleFace[Any, Any]")
logger = logging.getLogger("mq9")

EXIT_TIMEOUT_S: Final = 1.0
# Engines that a fork has left without their thread: never touched, never collected, because their sockets are the parent's.
_left_to_the_parent: list[object] = []


class _Call(Generic[ResultT]):
    """A coroutine that the loop's thread runs, and another one waits for; with less between them than a concurrent Future has."""

    def __init__(self, work: Coroutine[Any, Any, ResultT]) -> None:
        self._work = work
        self._task: asyncio.Task[ResultT] | None = None
        self._is_over = threading.Lock()
        self._is_over.acquire()

    def begin(self) -> None:
        """Run it; on the loop."""
        self._task = asyncio.get_running_loop().create_task(self._work)
        self._task.add_done_callback(self._end)

    def cancel(self) -> None:
        """Nobody waits any more; on the loop."""
        if self._task is not None:
            self._task.cancel()

    def wait(self) -> asyncio.Task[ResultT]:
        """What has its result, or the exception it ended with, when it has; on the other thread."""
        self._is_over.acquire()
        assert self._task is not None  # noqa: S101 - `_end` was called with it
        return self._task

    def _end(self, _: asyncio.Task[ResultT]) -> None:
        self._is_over.release()


class LoopThread:
    """An event loop on a thread of its own, started at the first use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self.closed = False

    def run(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        """Run `work` on the loop and wait for its result, or for the exception it ends with.

        Raises:
            ConnectionFailed: the thread has been stopped.
        """
        with self._lock:
            if self.closed:
                work.close()
                raise ConnectionFailed("this mailbox client is closed")
            loop = self._started()
            call = _Call(work)
            loop.call_soon_threadsafe(call.begin)
        try:
            ended = call.wait()
        except BaseException:
            with suppress(RuntimeError):  # the loop may be closed by now
                loop.call_soon_threadsafe(call.cancel)
            raise
        if ended.cancelled():
            raise ConnectionFailed("this mailbox client is closed")
        return ended.result()

    @property
    def started(self) -> bool:
        """Whether anything was ever run."""
        return self._loop is not None

    def stop(self, *, wait: bool) -> None:
        """End the loop with everything that still runs on it; with `wait`, return when the thread has ended."""
        with self._lock:
            self.closed = True
            loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        if not loop.is_closed():
            try:
                loop.call_soon_threadsafe(loop.stop)
            except RuntimeError:  # it was closed in this very moment
                return
        if wait and thread is not threading.current_thread():
            thread.join()

    def _started(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=_run_loop, args=(self._loop,), name="mq9 loop", daemon=True)
            self._thread.start()
        return self._loop


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    """The thread's life: run until stopped, then clear up as `asyncio.run` does."""
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


class Engine:
    """What a blocking mailbox owns: the loop thread, the operations on it, and the handles that are open."""

    def __init__(self, url: str, credentials: Credentials, timeout: float, connect_timeout: float) -> None:
        self.made_in = os.getpid()
        self.thread = LoopThread()
        self.operations = Operations(Connection(url, credentials, connect_timeout), timeout)
        self.handles: weakref.WeakSet[BlockingHandleFace[Any, Any]] = weakref.WeakSet()

    def close(self, timeout_s: float) -> None:
        """End the handles, waiting up to `timeout_s` seconds for their callbacks, then connection and thread."""
        if self.made_in == os.getpid():
            with suppress(ConnectionFailed):  # it is closed already, or another thread is quicker
                self._close(time.monotonic() + timeout_s)

    def _close(self, deadline: float) -> None:
        handles = list(self.handles)
        for handle in handles:
            self.thread.run(handle._feed.finish())
        for handle in handles:
            if not handle._joined(max(0.0, deadline - time.monotonic())):
                handle._feed.clear()
            self.thread.run(handle._feed.release())
        if self.thread.started:
            self.thread.run(self.operations.connection.close(max(0.01, deadline - time.monotonic())))
        self.thread.stop(wait=True)

    def release(self) -> None:
        """Close for an owner that was collected: at any time, without waiting for anything."""
        if self.made_in == os.getpid():
            self.thread.stop(wait=False)


_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


@atexit.register
def _close_at_exit() -> None:
    """Close what nobody has closed, while threads can still run."""
    for engine in list(_engines):
        engine.close(EXIT_TIMEOUT_S)


class BlockingFace:
    """The ground of Mailbox; see AsyncFace for the arguments."""

    def __init__(self, url: str, credentials: Credentials, timeout: float, connect_timeout: float) -> None:
        self._arguments = (url, credentials, timeout, connect_timeout)
        self._open_engine()

    @property
    def _engine(self) -> Engine:
        """The engine of this process: a fork takes no threads along, so a child opens one of its own."""
        if self._its_engine.made_in != os.getpid():
            _left_to_the_parent.append(self._its_engine)
            self._open_engine()
        return self._its_engine

    @property
    def _operations(self) -> Operations:
        return self._engine.operations

    def _open_engine(self) -> None:
        self._its_engine = Engine(*self._arguments)
        _engines.add(self._its_engine)
        weakref.finalize(self, self._its_engine.release).atexit = False

    def _ask(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        return self._engine.thread.run(work)

    def _begin(self, handle: HandleT) -> HandleT:
        """The handle, subscribed."""
        handle._opened()
        return handle

    def _shut(self, timeout: float) -> None:
        self._engine.close(timeout)


class BlockingHandleFace(Generic[ResultT, ItemT]):
    """The ground of everything that goes on in the background; see AsyncHandleFace."""

    def __init__(
        self,
        mailbox: BlockingFace,
        feed: Feed[ResultT],
        callback: Callable[[ItemT], object] | None,
        concurrency: int = 1,
    ) -> None:
        self._mailbox = mailbox
        self._engine = mailbox._engine
        self._feed = feed
        self._callback = callback
        self._concurrency = concurrency
        self._deliveries: list[threading.Thread] = []
        self._has_told = False
        self._engine.handles.add(self)
        weakref.finalize(self, feed.abandon).atexit = False

    def _ask(self, work: Coroutine[Any, Any, Any]) -> Any:
        """What the feed answers; after the end of the thread it is over, and has nothing to wait for any more."""
        if not self._engine.thread.closed:
            return self._engine.thread.run(work)
        try:
            work.send(None)
        except StopIteration as answered:
            return answered.value
        work.close()
        raise ConnectionFailed("this mailbox client is closed")

    def _opened(self) -> None:
        """Subscribe now, and begin to call back."""
        self._engine.thread.run(self._feed.start())
        if self._callback is not None:
            self._deliveries = [
                threading.Thread(target=self._deliver_in_background, name="mq9 receive", daemon=True)
                for _ in range(self._concurrency)
            ]
            for delivery in self._deliveries:
                delivery.start()

    def _breathe(self) -> None:
        """Nothing: other threads run by themselves."""

    def _around(self, item: ItemT) -> tracing.Around:
        """What is around each call of the callback."""
        return tracing.nothing()

    def _call(self, item: ItemT) -> Exception | None:
        """Call the callback; what it raises is logged and returned, and the next item comes."""
        assert self._callback is not None  # noqa: S101 - there is no delivery without one
        with self._around(item) as told:
            try:
                self._callback(item)
            except Exception as error:
                logger.exception("a callback raised an exception; going on with the next item")
                told(error)
                return error
        return None

    def _deliver(self) -> None:
        raise NotImplementedError

    def _deliver_in_background(self) -> None:
        try:
            self._deliver()
        except MailboxError as error:
            if not self._engine.thread.closed and not self._has_told:
                self._has_told = True
                logger.error("nothing is received any more: %s", error)  # noqa: TRY400 - a sentence says it all

    def _delivered(self, timeout: float | None) -> bool:
        return self._joined(timeout)

    def _joined(self, timeout: float | None) -> bool:
        """Wait until the last callback has returned; True at once when called by a callback itself."""
        if threading.current_thread() in self._deliveries:
            return True
        deadline = None if timeout is None else time.monotonic() + timeout
        for delivery in self._deliveries:
            delivery.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
        return not any(delivery.is_alive() for delivery in self._deliveries)
