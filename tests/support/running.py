"""A broker on a thread of this process, whose clock runs as all clocks do and can be set forward: an hour later in no time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from tests.server.support import START_MS, Clock, ThreadedServer

if TYPE_CHECKING:
    from mq9.store.contract import Store


class RunningClock(Clock):
    """Unix ms: the time of this machine, and as much more as the test has let pass."""

    def __call__(self) -> int:
        return time.time_ns() // 1_000_000 + self.now - START_MS


class RunningServer(ThreadedServer):
    """A broker for clients that wait for real time to pass; `pass_time` sets it ahead of them."""

    def __init__(self, store: Store | None = None, **config: Any) -> None:
        super().__init__(store, **config)
        self.clock = RunningClock()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"nats://127.0.0.1:{self.server.port}"
