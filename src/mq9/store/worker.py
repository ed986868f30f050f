"""A thread that does one thing after the other for an event loop.

As ThreadPoolExecutor(1) with run_in_executor does, for two thirds of the processor's time: handing a commit of one message to
another thread and back costs more than preparing it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

_Result = TypeVar("_Result")
_Job = tuple[asyncio.AbstractEventLoop | None, "asyncio.Future[Any] | None", Callable[..., Any], tuple[Any, ...]]


class Worker:
    """A running thread.

    Arguments:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    async def run(self, function: Callable[..., _Result], *arguments: Any) -> _Result:
        """Call `function` on the thread, after everything that was asked for before; its result or error is this call's."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_Result] = loop.create_future()
        self._jobs.put((loop, future, function, arguments))
        return await future

    def tell(self, function: Callable[..., None], *arguments: Any) -> None:
        """As `run`, and nobody waits for it; it must raise nothing."""
        self._jobs.put((None, None, function, arguments))

    def stop(self) -> None:
        """End the thread when everything that was asked for is done; returns when it has ended."""
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            loop, future, function, arguments = job
            try:
                result = function(*arguments)
            except BaseException as error:
                _tell(loop, _fail, future, error)
            else:
                _tell(loop, _finish, future, result)
            del job, loop, future, function, arguments


def _tell(
    loop: asyncio.AbstractEventLoop | None, told: Callable[..., None], future: asyncio.Future[Any] | None, what: Any
) -> None:
    if loop is not None and not loop.is_closed():
        loop.call_soon_threadsafe(told, future, what)


def _finish(future: asyncio.Future[Any], result: Any) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
