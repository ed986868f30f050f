"""The two feeds: messages of one mailbox for a receiver, events of the public mailboxes for a watcher."""

from __future__ import annotations

import json
import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from mq9 import protocol
from mq9.sdk.errors import Forbidden, MailboxError
from mq9.sdk.feed import Feed
from mq9.sdk.message import Record
from mq9.sdk.operations import checked_mail_id, checked_priority, fetch_filters
from mq9.sdk.readahead import ReadAhead
from mq9.sdk.values import MailboxEvent, MailboxInfo

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mq9.sdk.link import Handler
    from mq9.sdk.operations import Operations

logger = logging.getLogger("mq9")

ENDINGS: Final = frozenset({"expired", "removed"})
EVENTS_WAITING_MAX: Final = 10_000


class Inflow(Feed[Record]):
    """Everything that a plain receiver of one mailbox gets (docs/protocol.md §3, receive).

    Nothing that was offered once is offered again, whatever the broker repeats after a reconnect.

    Arguments:
        operations: the way to the broker.
        mail_id: the mailbox.
        priority: the only level wanted, or None for all.
        timeout_s: how long the first subscribing may take, in seconds.

    Raises:
        BadRequest: `mail_id` or `priority` is not one.
    """

    def __init__(self, operations: Operations, mail_id: str, priority: str | None, timeout_s: float) -> None:
        super().__init__(operations, timeout_s)
        self.mail_id = checked_mail_id(mail_id)
        self._level = checked_priority(priority)
        self._ahead = ReadAhead()

    def take(self) -> Record | None:
        """The next message by priority; see ReadAhead."""
        ahead = self._ahead
        record = ahead.take()
        if ahead.lacks and ahead.gap() is not None:
            self.want_work()
        return record

    @property
    def available(self) -> bool:
        """Whether there is one."""
        return self._ahead.available

    def settle(self) -> None:
        """Give up what would have to be fetched."""
        self._ahead.settle()

    def clear(self) -> None:
        """Forget the messages that were read ahead."""
        self._ahead.clear()

    def handlers(self) -> Mapping[str, Handler]:
        """The events of the mailbox, and its messages."""
        # The events first: an end that comes between the two is then not missed.
        return {
            protocol.EVENTS + self.mail_id: self._on_event,
            f"{protocol.MESSAGES}{self.mail_id}.{self._level or '*'}": self._on_message,
        }

    async def refusal(self) -> MailboxError:
        """The broker refuses without a reason; a fetch of the same mailbox is told it."""
        return await self.operations.why_not(self.mail_id)

    async def catch_up(self) -> None:
        """Fetch what was let go when there was no room for it."""
        gap = self._ahead.gap()
        if gap is None:
            return
        filters = fetch_filters(gap.priority, None, payload=True)
        page = await self.operations.fetch(self.mail_id, gap.limit, gap.after, filters, None)
        self._ahead.fill(gap, page, complete=page.next is None)
        self.announce()
        if self._ahead.gap() is not None:
            self.want_work()

    def _on_message(self, subject: str, headers: Mapping[str, str], data: bytes) -> None:
        record = Record.delivered(subject, headers, data)
        if record is None:
            logger.warning("a message without a readable msg_id was ignored; nats-py 2.15 or newer reads all headers")
        if record is None or self.over:
            return
        ahead = self._ahead
        ahead.offer(record)
        if ahead.lacks and ahead.gap() is not None:
            self.want_work()
        self.announce()

    def _on_event(self, _subject: str, _headers: Mapping[str, str], data: bytes) -> None:
        event = json_object(data).get("event")
        if event in ENDINGS:
            self.end(event)


class Happenings(Feed[MailboxEvent]):
    """What happens to the public mailboxes: one "created" for each that is there, then each change (docs/protocol.md §3, list).

    After a reconnect, or when more came than could wait here, the difference to what is known is told instead of everything
    again, so that a mailbox that ended meanwhile is told of as well.
    """

    def __init__(self, operations: Operations, prefix: str, timeout_s: float) -> None:
        super().__init__(operations, timeout_s)
        self._prefix = prefix
        self._waiting: deque[MailboxEvent] = deque()
        self._known: dict[str, MailboxInfo] = {}
        self._changed: set[str] = set()  # since the last comparison began
        self._overflowed = False

    def take(self) -> MailboxEvent | None:
        """The next event."""
        try:
            event = self._waiting.popleft()
        except IndexError:
            return None
        if self._overflowed and not self._waiting:
            self.want_work()
        return event

    @property
    def available(self) -> bool:
        """Whether there is one."""
        return bool(self._waiting)

    def settle(self) -> None:
        """Give up the comparison that an overflow has made necessary."""
        self._overflowed = False

    def clear(self) -> None:
        """Forget the events that wait."""
        self._waiting.clear()

    def handlers(self) -> Mapping[str, Handler]:
        """The events of all public mailboxes."""
        return {protocol.PUBLIC_LIST: self._on_event}

    async def refusal(self) -> MailboxError:
        """The broker refuses without a reason; a request for the list is told it."""
        try:
            await self.operations.probe()
        except MailboxError as error:
            return error
        return Forbidden("the broker does not let this client watch the public mailboxes")

    def returned(self) -> None:
        """Find out what happened while the connection was lost."""
        self.want_work()

    async def catch_up(self) -> None:
        """Compare what is known with what is there, and tell the difference."""
        self._overflowed = False
        self._changed.clear()
        before = dict(self._known)
        there = {str(mailbox): mailbox for mailbox in await self.operations.list(self._prefix, None)}
        for mailbox in there.values():
            if mailbox not in self._changed:
                self._tell_difference(mailbox)
        for mail_id, mailbox in before.items():
            if mail_id not in there and mail_id not in self._changed:
                self._tell("expired" if _is_past(mailbox) else "removed", mailbox)

    def _on_event(self, _subject: str, _headers: Mapping[str, str], data: bytes) -> None:
        described = json_object(data)
        event, mail_id = described.get("event"), described.get("mail_id")
        if not isinstance(event, str) or not isinstance(mail_id, str) or not mail_id.startswith(self._prefix):
            return
        mailbox = MailboxInfo(described)
        if event == "created":
            self._tell_difference(mailbox)
        else:
            self._tell(event, mailbox)

    def _tell_difference(self, mailbox: MailboxInfo) -> None:
        known = self._known.get(mailbox)
        if known is None or known.get("created_at") != mailbox.get("created_at"):
            self._tell("created", mailbox)
        elif known.get("expires_at") != mailbox.get("expires_at"):
            self._tell("renewed", mailbox)

    def _tell(self, event: str, mailbox: MailboxInfo) -> None:
        self._changed.add(str(mailbox))
        if len(self._waiting) >= EVENTS_WAITING_MAX:
            self._overflowed = True
            return
        if event in ENDINGS:
            self._known.pop(str(mailbox), None)
        else:
            self._known[str(mailbox)] = mailbox
        self._waiting.append(MailboxEvent(event, mailbox))
        self.announce()


def _is_past(mailbox: MailboxInfo) -> bool:
    """Whether the end of a mailbox that is gone had come, as far as the clocks agree."""
    expires_at = mailbox.get("expires_at")
    return isinstance(expires_at, (int, float)) and 0 < expires_at <= time.time() + 1


def json_object(data: bytes) -> dict[str, Any]:
    """The JSON object in `data`, or an empty one when there is none."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
