"""Leased work for one worker: asks for as much as can be begun at once, and gives back what was not begun (docs/protocol.md §4).

A FETCH waits at the broker for as long as somebody waits here. It has a reply subject of its own: when nobody waits any more, that is
given up, which takes the FETCH back, so that no message is leased to a worker that does not want it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from mq9 import protocol
from mq9.protocol import masked
from mq9.sdk.errors import BadRequest, Conflict, Forbidden, MailboxError, NotFound, Unavailable
from mq9.sdk.feed import RETRY_S, Feed
from mq9.sdk.inflow import ENDINGS, json_object
from mq9.sdk.lease import Lease, milliseconds, nack_details
from mq9.sdk.link import InboxRefused, LinkLost, NoBroker
from mq9.sdk.message import Record
from mq9.sdk.operations import checked_group, checked_mail_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mq9.sdk.link import Handler, Inbox
    from mq9.sdk.operations import Operations

logger = logging.getLogger("mq9")

CONCURRENCY_MAX: Final = protocol.LEASED_MAX
POLL_S: Final = 5.0
POLL_IN_TURN_S: Final = 1.0  # when more workers of this client wait than may at once
WITHDRAW_S: Final = 1.0
EVENT_S: Final = 1.0
NOT_SETTLED_S: Final = 5.0
DELAY_FIRST_S: Final = 1.0
DELAY_MAX_S: Final = 300.0


def retry_delay_s(attempt: int) -> float:
    """How long a message rests that has failed at this attempt, the first being 1, in seconds: longer each time."""
    return min(DELAY_MAX_S, DELAY_FIRST_S * math.pow(2, attempt - 1))


class Work(Feed[Record]):
    """See the module.

    Arguments:
        operations: the way to the broker.
        mail_id: the mailbox.
        group: the group that this worker is in.
        concurrency: how many messages it may hold at once.
        lease_s: how long a message stays with a worker that has gone silent, in seconds.
        calls_back: whoever takes a message begins a callback, which must not be disturbed.
        timeout_s: how long the first subscribing may take, in seconds.

    Raises:
        BadRequest: one of the arguments is not what it should be.
    """

    def __init__(
        self,
        operations: Operations,
        mail_id: str,
        group: str,
        *,
        concurrency: int,
        lease_s: float,
        calls_back: bool,
        timeout_s: float,
    ) -> None:
        super().__init__(operations, timeout_s)
        self.mail_id = checked_mail_id(mail_id)
        self.group: str = checked_group(group)
        if isinstance(concurrency, bool) or not isinstance(concurrency, int) or not 1 <= concurrency <= CONCURRENCY_MAX:
            raise BadRequest(f"concurrency must be a whole number from 1 to {CONCURRENCY_MAX}")
        lease_max_s = protocol.LEASE_MAX_MS // 1000
        if isinstance(lease_s, bool) or not isinstance(lease_s, (int, float)) or not 0.001 <= lease_s <= lease_max_s:
            raise BadRequest(f"lease must be a number of seconds from 0.001 to {lease_max_s}")
        self._concurrency = concurrency
        self._lease_s = float(lease_s)
        self._calls_back = calls_back
        self._not_begun: deque[Record] = deque()
        self._held: set[Lease] = set()
        self._deadlines: dict[object, float] = {}  # until when each of those waits who wait, by the event loop's clock
        self._sleeping: deque[asyncio.Event] = deque()
        self._inbox: Inbox | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._returning: asyncio.Task[None] | None = None
        self._abandoned = False
        self._released = False
        self._reminder: asyncio.TimerHandle | None = None
        self._last_problem = ""

    def take(self) -> Record | None:
        """The message that was leased first."""
        try:
            record = self._not_begun.popleft()
        except IndexError:
            return None
        if record.lease is not None:
            record.lease.busy = self._calls_back
        if self._deadlines:
            self.want_work()
        return record

    @property
    def available(self) -> bool:
        """Whether there is one."""
        return bool(self._not_begun)

    def settle(self) -> None:
        """Nothing: what has not been begun is given back."""

    def clear(self) -> None:
        """Nothing: see `settle`."""

    def handlers(self) -> Mapping[str, Handler]:
        """The events of the mailbox; messages are asked for."""
        return {protocol.EVENTS + self.mail_id: self._on_event}

    async def refusal(self) -> MailboxError:
        """The broker refuses without a reason; a fetch of the same mailbox is told it."""
        return await self.operations.why_not(self.mail_id)

    def abandon(self) -> None:
        """Give back what was handed over as well: there is nobody left who could settle it."""
        self._abandoned = True
        super().abandon()

    async def release(self) -> None:
        """Give back what has been handed over and not settled, unless a callback is at work on it."""
        self._released = True
        await self._give_back(lease for lease in self._held if not lease.busy)

    # what has become of a message

    async def accept(self, lease: Lease) -> None:
        """Ack a message, however long that takes, unless the lease is lost or has ended otherwise."""
        await self._insist(lease, "ack", {})

    async def give_back(self, lease: Lease, error: BaseException | None = None) -> None:
        """Let somebody else have a message at once."""
        await lease.give_back(None if error is None else _reason(error))

    async def called(self, lease: Lease, error: Exception | None, *, auto_ack: bool) -> None:
        """A callback has returned, or has raised `error`."""
        lease.busy = False
        if lease.ended is not None:
            return
        if error is not None:
            delay_s = retry_delay_s(lease.attempt)
            logger.warning(
                "message %d failed at attempt %d; it comes again after %g s", lease.msg_id, lease.attempt, delay_s
            )
            await self._insist(lease, "nack", nack_details(delay_s, _reason(error)))
        elif auto_ack:
            await self.accept(lease)
        elif self._released:
            await lease.give_back()

    async def _insist(self, lease: Lease, op: str, details: Mapping[str, Any]) -> None:
        """Settle a message, again and again until that succeeds or there is no sense in it any more."""
        while lease.ended is None:
            try:
                await lease.settle(op, details, None)
            except (BadRequest, Forbidden, NotFound, Conflict) as error:
                level = logging.INFO if isinstance(error, NotFound) else logging.WARNING
                logger.log(level, "the %s of message %d was refused: %s", op, lease.msg_id, error)
                lease.end(f"could not be settled: {error.sentence}")
            except MailboxError as error:
                if self.over:
                    logger.warning("message %d could not be settled before the end: %s", lease.msg_id, error)
                    lease.end("could not be settled in time")
                else:
                    await asyncio.sleep(RETRY_S)

    async def _give_back(self, leases: Iterable[Lease]) -> None:
        await asyncio.gather(*[lease.give_back() for lease in leases])

    def _let_go(self, lease: Lease) -> None:
        self._held.discard(lease)
        if self._deadlines:
            self.want_work()

    # waiting and asking

    async def _heard(self, timeout_s: float | None) -> bool:
        """Wait for a message; the broker is asked for one for as long as somebody waits."""
        self._deadlines[waiter := object()] = (
            math.inf if timeout_s is None else asyncio.get_running_loop().time() + timeout_s
        )
        self.want_work()
        try:
            async with asyncio.timeout(timeout_s):
                while not (self.available or self.over):
                    await self._sleep()
        except TimeoutError:
            if len(self._deadlines) == 1:
                await self._take_back()
            return self.available
        except asyncio.CancelledError:
            if len(self._deadlines) == 1 and not self.over:
                self._returning = asyncio.create_task(self._return(), name="mq9 work")
            raise
        finally:
            del self._deadlines[waiter]
        return True

    async def _sleep(self) -> None:
        """Wait for `_wake`."""
        woken = asyncio.Event()
        self._sleeping.append(woken)
        try:
            await woken.wait()
        finally:
            if not woken.is_set():
                self._sleeping.remove(woken)

    def _wake(self, count: int) -> None:
        for _ in range(min(count, len(self._sleeping))):
            self._sleeping.popleft().set()

    async def _return(self) -> None:
        """Give back what comes for those who have ceased to wait."""
        await self._take_back()
        if not self._deadlines:
            await self._give_back(self._unbegun())

    def _unbegun(self) -> list[Lease]:
        """Everything that nobody has taken, no longer to be taken."""
        leases: list[Lease] = []
        while True:
            try:
                record = self._not_begun.popleft()
            except IndexError:  # asking before would not do: another thread may take it in between
                return leases
            if record.lease is not None:
                leases.append(record.lease)

    async def catch_up(self) -> None:
        """Ask for as many messages as can be begun at once."""
        if not self._demand():
            self._remind_later()
            return
        try:
            async with self.operations.connection.fetch_turns:
                await self._ask()
            self._last_problem = ""
        except LinkLost:
            pass  # there is a new one soon
        except (BadRequest, Forbidden):
            raise
        except NotFound as error:
            await self._not_found(error)
        except MailboxError as error:
            if error.sentence != self._last_problem and not self.operations.connection.closed:
                logger.warning("no work can be had, which is tried again: %s", error)
            self._last_problem = error.sentence
            raise
        if self._demand():
            self.want_work()

    def _demand(self) -> int:
        """How many messages can be begun at once."""
        if self.over:
            return 0
        return max(0, min(len(self._deadlines) - len(self._not_begun), self._concurrency - len(self._held)))

    async def _ask(self) -> None:
        link = await self.operations.connection.link(None)
        if self._inbox is None or self._inbox.link is not link:
            self._inbox = await link.open_inbox()
        count = self._demand()  # now, after all the waiting
        if not count:
            return
        # In a task of its own: cancelling this must not cancel that, because the answer may be on its way.
        self._fetching = asyncio.create_task(self._fetch(self._inbox, count), name="mq9 fetch")
        await asyncio.wait({self._fetching})
        self._fetching.result()

    def _patience(self) -> float:
        """How long to let a FETCH wait, in seconds: not much longer than anybody waits here."""
        longest_s = max(self._deadlines.values(), default=0.0) - asyncio.get_running_loop().time()
        poll_s = POLL_IN_TURN_S if self.operations.connection.fetch_turns.locked() else POLL_S
        return min(poll_s, max(0.0, longest_s))

    async def _fetch(self, inbox: Inbox, count: int) -> None:
        """One FETCH. Whatever is the matter with the connection, the next one will tell."""
        connection = self.operations.connection
        wait_s = self._patience()
        body = {
            "group_name": self.group,
            "config": {"num_msgs": count, "max_wait_ms": milliseconds(wait_s)},
            "lease_ms": milliseconds(self._lease_s),
        }
        try:
            async with asyncio.timeout(wait_s + self._timeout_s):
                reply = await inbox.request(protocol.LEASE + self.mail_id, json.dumps(body).encode())
        except LinkLost:
            return
        except TimeoutError:
            self._inbox = None
            await inbox.withdraw(WITHDRAW_S)
            return
        except NoBroker:
            raise connection.no_broker() from None
        except InboxRefused:
            raise connection.deaf() from None
        answer = connection.object_of(reply)
        if not isinstance(answer.get("messages"), list):
            raise Unavailable(f"what answers at {connection.address} is not an mq9 broker")
        for item in answer["messages"]:
            record = Record.leased(item)
            lease = Lease(
                self.operations,
                self.mail_id,
                self.group,
                record.msg_id,
                record.attempts or 0,
                self._lease_s,
                self._let_go,
            )
            self._held.add(lease)
            self._not_begun.append(replace(record, lease=lease))
        self._wake(len(answer["messages"]))

    async def _not_found(self, error: NotFound) -> None:
        """The mailbox has ended, which its event says better, or this broker knows no leased work."""
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=EVENT_S)
        if isinstance(await self.operations.why_not(self.mail_id), NotFound):
            self.end("gone")
        else:
            self.end(None, Unavailable(f"the broker does not lease messages: {error.sentence}"))

    async def _take_back(self) -> None:
        """End the FETCH that waits at the broker; what it was answered with before is here then."""
        if self._fetching is None or self._fetching.done():
            return
        inbox, self._inbox = self._inbox, None
        if inbox is not None:
            await inbox.withdraw(WITHDRAW_S)
        await asyncio.wait({self._fetching})

    def _remind_later(self) -> None:
        """Say it when somebody waits for a message who has only forgotten to settle the last one."""
        if self._deadlines and self._reminder is None and self._loop is not None and not self._calls_back:
            self._reminder = self._loop.call_later(NOT_SETTLED_S, self._remind)

    def _remind(self) -> None:
        if self._deadlines and len(self._held) >= self._concurrency:
            logger.warning(
                "no message is asked for until one of the %d that are held is settled with ack(), nack() or dead()",
                len(self._held),
            )

    # the end

    def _on_event(self, _subject: str, _headers: Mapping[str, str], data: bytes) -> None:
        event = json_object(data).get("event")
        if event in ENDINGS:
            self.end(event)

    def _close(self) -> None:
        super()._close()
        self._wake(len(self._sleeping))
        if self._reminder is not None:
            self._reminder.cancel()

    async def _leave(self) -> None:
        self._close()
        await self._take_back()
        if self._returning is not None:
            await asyncio.wait({self._returning})
        leases = self._unbegun()
        if self._abandoned:
            leases += [lease for lease in self._held if not lease.busy and lease not in leases]
        if self.ended is None and self.error is None:
            await self._give_back(leases)
        for lease in leases:
            lease.end("has ended with its mailbox")
        if self._inbox is not None:
            await self._inbox.withdraw(WITHDRAW_S)
        await super()._leave()


def _reason(error: BaseException) -> str:
    """What to say of a message on which a worker has failed, as short as the protocol wants it."""
    said = masked(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
    return said.encode("utf-8", "replace")[: protocol.REASON_BYTES_MAX].decode("utf-8", "ignore")
