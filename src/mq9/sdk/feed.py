"""What keeps a subscription alive: it subscribes, comes back after every lost connection, and knows when it is over.

`Feed` is the part that receivers and watchers share; a subclass says what is subscribed to, what becomes of what comes, and
what is ready to be taken. Taking is for any thread; everything else happens on the event loop. A feed never refers to the handle
that the user holds, so a handle that is dropped can be collected and takes its feed along.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from mq9.sdk.errors import BadRequest, ConnectionFailed, Forbidden, MailboxError, NotFound
from mq9.sdk.link import InboxRefused, LinkLost, SubscriptionRefused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mq9.sdk.link import Attachment, Handler, Link
    from mq9.sdk.operations import Operations

ItemT = TypeVar("ItemT")
logger = logging.getLogger("mq9")

FIRST_ATTEMPTS_MAX: Final = 3
RETRY_S: Final = 0.5


class Feed(ABC, Generic[ItemT]):
    """See the module.

    Arguments:
        operations: the way to the broker.
        timeout_s: how long the first subscribing may take, in seconds; after that it is tried for ever.

    Attributes:
        over: nothing more will come.
        ended: how what was listened to has ended, or None while it has not.
        error: why the feed is over, when that is not as it should be.
        mail_id: the mailbox that it is of, empty when it is of many.
        group: the group that its messages are leased for, if any.
    """

    def __init__(self, operations: Operations, timeout_s: float) -> None:
        self.operations = operations
        self.over = False
        self.ended: str | None = None
        self.error: MailboxError | None = None
        self.mail_id = ""
        self.group: str | None = None
        self._timeout_s = timeout_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._helper: asyncio.Task[None] | None = None
        self._link: Link | None = None
        self._attachment: Attachment | None = None
        self._started = asyncio.Event()
        self._news = asyncio.Event()
        self._work = asyncio.Event()

    @abstractmethod
    def take(self) -> ItemT | None:
        """The next thing to hand over, or None when there is none right now. From any thread."""

    @property
    @abstractmethod
    def available(self) -> bool:
        """Whether `take` has something right now."""

    @abstractmethod
    def settle(self) -> None:
        """Called when the feed is over: only what is here can still be taken."""

    @abstractmethod
    def clear(self) -> None:
        """Forget everything that has not been taken."""

    @abstractmethod
    def handlers(self) -> Mapping[str, Handler]:
        """The subjects to subscribe to, in this order, each with what handles its messages."""

    @abstractmethod
    async def refusal(self) -> MailboxError:
        """Why the broker has refused the subscription."""

    @abstractmethod
    async def catch_up(self) -> None:
        """One piece of the work that was asked for by `want_work`; asks again when there is more."""

    def returned(self) -> None:
        """Called after each subscribing but the first, when the broker has begun to repeat itself."""

    async def start(self) -> None:
        """Begin, if that has not happened; returns when the broker has taken the subscription.

        Raises:
            MailboxError: why there is none.
        """
        if self._task is None and not self.over:
            self._loop = asyncio.get_running_loop()
            self._task = asyncio.create_task(self._run(), name="mq9 feed")
            self._helper = asyncio.create_task(self._help(), name="mq9 feed helper")
        await self._started.wait()
        self._raise_error()

    async def ready(self, timeout_s: float | None = None) -> bool:
        """Wait until `take` has something (True), or never will again or not within `timeout_s` seconds (False).

        Starts the feed if need be.

        Raises:
            MailboxError: the feed is over because of this.
        """
        await self.start()
        if not (self.available or self.over) and not await self._heard(timeout_s):
            return False
        if not self.available:
            self._raise_error()
        return self.available

    async def _heard(self, timeout_s: float | None) -> bool:
        """Wait until there is something to take or the feed is over; False when it takes too long."""
        try:
            async with asyncio.timeout(timeout_s):
                while not (self.available or self.over):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return False
        return True

    async def completed(self, timeout_s: float | None = None) -> bool:
        """Wait until the feed is over (True), but no longer than `timeout_s` seconds (False).

        Raises:
            MailboxError: it is over because of this.
        """
        await self.start()
        if self._task is not None and not self._task.done():
            done, _ = await asyncio.wait([self._task], timeout=timeout_s)
            if not done:
                return False
        self._raise_error()
        return True

    async def finish(self) -> None:
        """Listen no more; what has arrived can still be taken."""
        if self._task is None:
            self._close()
        elif not self._task.done():
            self._cancel()
            await asyncio.wait([self._task])

    async def release(self) -> None:
        """Called after `finish`, when the last callback has returned."""

    def abandon(self) -> None:
        """Like finish for a handle that is gone: from any thread, at any time, without waiting for anything."""
        loop, task = self._loop, self._task
        if loop is None or task is None:
            self.over = True
        elif not loop.is_closed():
            try:
                loop.call_soon_threadsafe(self._cancel)
            except RuntimeError:  # the loop was closed in this very moment, and the task with it
                return

    def announce(self) -> None:
        """Wake whoever waits in `ready`."""
        self._news.set()

    def want_work(self) -> None:
        """Have `catch_up` called soon. From any thread."""
        if self._loop is None or self.over or self._work.is_set():
            return
        try:
            self._loop.call_soon_threadsafe(self._work.set)
        except RuntimeError:  # the loop is closed, so nobody needs it any more
            return

    def end(self, how: str | None, error: MailboxError | None = None) -> None:
        """Be over because what was listened to has ended, as `how` says, or because of `error`."""
        if self.over:
            return
        self.ended = how
        self.error = error
        self._cancel()

    def _cancel(self) -> None:
        """Cancel what keeps it alive, unless that is clearing up already."""
        if self._task is not None and not self.over:
            self._task.cancel()

    def _close(self) -> None:
        self.over = True
        self.settle()
        self._started.set()
        self._news.set()

    def _raise_error(self) -> None:
        if self.error is not None:
            # A fresh one each time, so that no traceback piles up in it.
            raise type(self.error)(self.error.sentence, self.error.code)

    async def _run(self) -> None:
        """Subscribe, stay until the link is lost, do it again. Cancelling is how every feed ends that has no error."""
        try:
            link: Link | None = await self._attach_first()
            self._started.set()
            while link is not None:
                await link.lost.wait()
                link = await self._attach_again()
        except MailboxError as error:
            self.error = error
        except asyncio.CancelledError:
            return
        except Exception:
            logger.exception("a subscription ended because of a fault in the SDK")
            self.error = MailboxError("the subscription ended because of a fault in the SDK; the log tells more")
        finally:
            await self._leave()

    async def _leave(self) -> None:
        self._close()
        if self._helper is not None:
            self._helper.cancel()
            await asyncio.wait([self._helper])
        if self._attachment is not None:
            await self._attachment.detach()

    async def _attach_first(self) -> Link:
        for _ in range(FIRST_ATTEMPTS_MAX):
            link = await self.operations.connection.link(self._timeout_s)
            if await self._attach(link):
                return link
        raise ConnectionFailed(
            f"the broker at {self.operations.connection.address} drops the connection again and again"
        )

    async def _attach_again(self) -> Link | None:
        """A link on which the subscription lives again, or None when what it was for has ended meanwhile."""
        connection = self.operations.connection
        while not connection.closed:
            try:
                link = await connection.link(None)
                if await self._attach(link):
                    self.returned()
                    return link
            except NotFound:
                self.ended = "gone"
                return None
            except (BadRequest, Forbidden):
                raise
            except MailboxError:
                await asyncio.sleep(RETRY_S)
        return None

    async def _attach(self, link: Link) -> bool:
        """Subscribe on `link`; False when it broke meanwhile."""
        try:
            if not link.speaks_mq9:
                # A plain NATS server takes any subscription, and then nothing would ever come.
                await self.operations.probe()
            async with asyncio.timeout(self._timeout_s):
                self._attachment = await link.attach(self.handlers())
        except LinkLost:
            return False
        except TimeoutError:
            raise self.operations.connection.silent(self._timeout_s) from None
        except SubscriptionRefused:
            raise await self.refusal() from None
        except InboxRefused:
            raise self.operations.connection.deaf() from None
        return True

    async def _help(self) -> None:
        """Run `catch_up` whenever there is work, again and again until it succeeds."""
        while True:
            await self._work.wait()
            self._work.clear()
            try:
                await self.catch_up()
            except NotFound:
                self.end("gone")
            except (BadRequest, Forbidden) as error:
                self.end(None, error)
            except MailboxError:
                await asyncio.sleep(RETRY_S)
                self._work.set()
