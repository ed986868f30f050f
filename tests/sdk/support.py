"""What the SDK's tests share."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, TypeVar

from mq9 import AsyncMailbox

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mq9 import Mailbox

ResultT = TypeVar("ResultT")

READ_AHEAD = 1_000  # how many messages a level keeps in the tests, so that they need not send ten thousand to fill it


def run(use: Callable[[AsyncMailbox], Awaitable[ResultT]], mailbox: Mailbox | str) -> ResultT:
    """Run `use` on an event loop of its own, with an asynchronous client of the broker of `mailbox` (or of this URL)."""
    url = mailbox if isinstance(mailbox, str) else f"nats://{mailbox._operations.connection.address}"

    async def main() -> ResultT:
        async with AsyncMailbox(url) as client:
            return await use(client)

    return asyncio.run(main())


def eventually(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    """Wait until `condition()` is true; fails when that takes longer than `timeout_s` seconds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"it did not become true within {timeout_s} s"
        time.sleep(0.01)


async def eventually_async(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    """Like `eventually`, letting the event loop run."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - any condition may be waited for, not only an event
            await asyncio.sleep(0.01)
