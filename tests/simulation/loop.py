"""An event loop whose time is a number: the broker's own tasks and timers run on it, one callback after the other."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from heapq import heappop, heappush
from math import ceil
from typing import Any

# More callbacks than this without a pause: somebody keeps waking himself up.
SPIN_MAX = 200_000


class SimulatedLoop(asyncio.AbstractEventLoop):
    """What asyncio asks of a loop, and no more of it than the broker uses.

    Arguments:
        now: Unix ms at the beginning.
        after: called after every callback.
    """

    def __init__(self, now: int, after: Callable[[], None]) -> None:
        self.now = now
        # The last moment at which everything was done that there was to do.
        self.idle_at = now
        self.failures: list[str] = []
        self.protocol_factory: Callable[[], Any] | None = None
        self._epoch = now
        self._after = after
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._added = 0
        self._tasks: list[asyncio.Task[Any]] = []

    # what the simulation does with it

    @property
    def busy(self) -> bool:
        """Whether something can be run without letting time pass."""
        return bool(self._ready)

    def run(self, callbacks: int = SPIN_MAX) -> None:
        """Run at most so many callbacks; with the default all there are, until nothing is left to do at this moment."""
        for _ in range(callbacks):
            if not self._ready:
                self.idle_at = self.now
                return
            handle = self._ready.popleft()
            if not handle.cancelled():
                handle._run()
                self._after()
        if callbacks == SPIN_MAX:
            self.failures.append("the broker spins")

    def pass_time(self, milliseconds: int, *, asleep: bool = False) -> None:
        """Let time pass. `asleep`: nobody runs meanwhile, as on a machine that was suspended."""
        until = self.now + milliseconds
        while not asleep and self._timers and (due := self._due()) <= until:
            self.now = max(self.now, due)
            self._release()
            self.run()
        self.now = until
        self._release()

    def finish(self, task: asyncio.Task[Any]) -> bool:
        """Run until the task is done, letting time pass for it, 20 s at most; returns whether it is."""
        self.run()
        for _ in range(2_000):
            if task.done():
                break
            self.pass_time(10)
            self.run()
        return task.done()

    def abandon(self) -> None:
        """Everything that runs here is gone, as when the process is killed."""
        for task in self._tasks:
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined] # nobody else can say that this is meant
                task.get_coro().close()
        self._tasks.clear()
        self._ready.clear()
        self._timers.clear()

    def _due(self) -> int:
        due = ceil(self._timers[0][0] * 1_000)
        # Never a moment too early, whatever floats make of it: who looks at the time would only wait again.
        return self._epoch + (due if due / 1_000 >= self._timers[0][0] else due + 1)

    def _release(self) -> None:
        while self._timers and self._due() <= self.now:
            handle = heappop(self._timers)[2]
            if not handle.cancelled():
                self._ready.append(handle)

    # what asyncio and the broker do with it

    def time(self) -> float:
        """Seconds since the beginning."""
        return (self.now - self._epoch) / 1_000

    def call_soon(  # type: ignore[override] # typeshed's star arguments are its own
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """See asyncio."""
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """See asyncio."""
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """See asyncio."""
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._added += 1
        heappush(self._timers, (when, self._added, handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is passed over when its time comes."""

    def create_future(self) -> asyncio.Future[Any]:
        """See asyncio."""
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, Any], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[Any]:
        """See asyncio."""
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        self._tasks = [other for other in self._tasks if not other.done()] if len(self._tasks) > 50 else self._tasks
        self._tasks.append(task)
        return task

    async def create_server(self, protocol_factory: Any, **_: Any) -> Any:  # type: ignore[override]
        """A listener to which the simulation connects by calling `protocol_factory`."""
        self.protocol_factory = protocol_factory
        return Listener()

    def get_debug(self) -> bool:
        """See asyncio."""
        return False

    def is_running(self) -> bool:
        """See asyncio."""
        return True

    def is_closed(self) -> bool:
        """See asyncio."""
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """An error that nobody caught is the broker's."""
        error = context.get("exception")
        self.failures.append(f"{context['message']}: {error!r}{_place(error)}")


class Listener:
    """What listens to nobody: a socket and an asyncio server in one."""

    def close(self) -> None:
        """Nothing to close."""

    async def wait_closed(self) -> None:
        """Nothing to wait for."""

    def getsockname(self) -> tuple[str, int]:
        """Where a broker would listen."""
        return "127.0.0.1", 4222


def _place(error: BaseException | None) -> str:
    """Where an error was raised."""
    traceback = None if error is None else error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return "" if traceback is None else f" ({traceback.tb_frame.f_code.co_filename}:{traceback.tb_lineno})"
