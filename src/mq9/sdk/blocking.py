"""`Mailbox` and what belongs to it: the blocking face of the SDK.

Made from `mailbox.py` by tools/sync_face.py. Do not edit: change that text and run the tool.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from mq9.protocol import FETCH_LIMIT_DEFAULT, HEADER_CORRELATION_ID, HEADER_REPLY_TO, HEADER_TTL
from mq9.sdk.blocking_face import BlockingFace, BlockingHandleFace
from mq9.sdk.errors import BadRequest, plain
from mq9.sdk.inflow import Happenings, Inflow
from mq9.sdk.message import BaseMessage, Record
from mq9.sdk.operations import fetch_filters
from mq9.sdk.values import MailboxEvent, MailboxInfo, Page

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from types import TracebackType
    from typing import Self, TypeAlias

    Mailboxes: TypeAlias = list[MailboxInfo]

RecordT = TypeVar("RecordT")
ItemT = TypeVar("ItemT")


class Message(BaseMessage):
    """A message that was received or fetched.

    Printing one shows its number, priority and payload, shortened and with the mail_ids of private mailboxes cut off.
    """

    __slots__ = ("_mailbox",)

    def __init__(self, record: Record, mailbox: Mailbox) -> None:
        super().__init__(record)
        self._mailbox = mailbox

    @plain
    def reply(
        self,
        payload: Any,
        *,
        priority: str | None = None,
        ttl: int | None = None,
        headers: Mapping[str, str] | None = None,
        reply_to: str | None = None,
        timeout: float | None = None,
    ) -> int:
        """Send an answer to the mailbox that the sender named in `reply_to`, with the sender's correlation id.

        The arguments, the result and the errors are those of `Mailbox.send`; besides, BadRequest is raised when the
        sender named no mailbox.
        """
        if self.reply_to is None:
            raise BadRequest(f"message {self.msg_id} cannot be replied to: its sender named no reply_to")
        return self._mailbox.send(
            self.reply_to,
            payload,
            priority=priority,
            ttl=ttl,
            headers=headers,
            reply_to=reply_to,
            correlation_id=self.correlation_id,
            timeout=timeout,
        )


class Handle(BlockingHandleFace[RecordT, ItemT], Generic[RecordT, ItemT]):
    """Something that goes on in the background until it is stopped or what it listens to has ended.

    As a context manager it is stopped at the end of the block.
    """

    @property
    def running(self) -> bool:
        """Whether more can come."""
        return not self._feed.over

    @property
    def ended(self) -> str | None:
        """How the mailbox has ended: "expired", "removed", or "gone" when it was found gone after a reconnect; else None."""
        return self._feed.ended

    @plain
    def next(self, timeout: float | None = None) -> ItemT | None:
        """The next item, or None when there is none within `timeout` seconds or there will be none any more.

        Without a timeout it waits as long as something can come. Not for handles that have a callback.
        """
        while (record := self._feed.take()) is None:
            if not self._ask(self._feed.ready(timeout)):
                return None
        return self._item(record)

    @plain
    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is over and the last callback has returned.

        Arguments:
            timeout: how long, in seconds; None: for ever.

        Returns:
            False when it still goes on after `timeout` seconds.

        Raises:
            MailboxError: why it is over, when that is not because of `stop`, `close` or the end of the mailbox.
        """
        return self._ask(self._feed.completed(timeout)) and self._delivered(timeout)

    @plain
    def stop(self) -> None:
        """Stop listening, forget what has not been handed over, and wait for the callback that is running.

        What was forgotten is not lost: it stays in the mailbox, and the next receiver gets it.
        """
        self._ask(self._feed.finish())
        self._feed.clear()
        self._delivered(None)

    def _item(self, record: RecordT) -> ItemT:
        raise NotImplementedError

    def _deliver(self) -> None:
        for item in self:
            self._call(item)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ItemT:
        self._breathe()
        item = self.next()
        if item is None:
            raise StopIteration
        return item

    @plain
    def __enter__(self) -> Self:
        self._ask(self._feed.start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "running" if self.running else self.ended or "stopped"
        return f"<{type(self).__name__} {state}>"


class Receiver(Handle[Record, "Message"]):
    """What `receive` returns: an iterator over the messages, or, with a callback, the means to stop it.

    The iteration ends when the mailbox does.
    """

    _mailbox: Mailbox

    def _item(self, record: Record) -> Message:
        return Message(record, self._mailbox)


class Watch(Handle[MailboxEvent, MailboxEvent]):
    """What `list` with a callback returns: the means to stop it."""

    def _item(self, record: MailboxEvent) -> MailboxEvent:
        return record


class Mailbox(BlockingFace):
    """A client of an mq9 broker: the six operations on mailboxes.

    It connects at the first call and again, with growing pauses, whenever the connection is lost. It may be used as a
    context manager; otherwise `close` it.

    Arguments:
        url: where the broker is, `nats://host:port`, with `user:password@` before the host if need be.
        timeout: how long a call may take that does not say so itself, in seconds.
        connect_timeout: how long the first call tries to reach a broker, in seconds.

    Every operation raises a MailboxError: NotFound when there is no such mailbox, BadRequest for an argument that the
    protocol does not allow, ConnectionFailed when there is no broker, Timeout when it does not answer, and the others as
    docs/protocol.md §3 says. `timeout` is in seconds for each of them.
    """

    def __init__(
        self, url: str = "nats://localhost:4222", *, timeout: float = 5.0, connect_timeout: float = 2.0
    ) -> None:
        super().__init__(url, timeout, connect_timeout)

    @plain
    def create(
        self,
        ttl: int | None = None,
        *,
        public: bool = False,
        name: str | None = None,
        desc: str | None = None,
        renew: bool = False,
        timeout: float | None = None,
    ) -> MailboxInfo:
        """Create a mailbox, or find the one that has this name.

        Arguments:
            ttl: how long it lives, in seconds; 0: for ever; None: as long as the broker is set to, usually a day.
            public: whether `list` shows it; needs a name.
            name: its mail_id; None for a private mailbox, whose mail_id the broker makes up and only its creator learns.
            desc: a description, for `list`.
            renew: restart the clock of the mailbox called `name` (which may be a private one), with `ttl` if given.

        Returns:
            The mailbox: a str, its mail_id, with what the broker said about it. `is_new` is False when it was there already;
            then ttl, desc and end are those of its first creation.

        Raises:
            MailboxError: see the class.
        """
        request = {"ttl": ttl, "public": public, "name": name, "desc": desc, "renew": renew or None}
        return self._ask(self._operations.create(request, timeout))

    @plain
    def send(
        self,
        mail_id: str,
        payload: Any,
        *,
        priority: str | None = None,
        ttl: int | None = None,
        headers: Mapping[str, str] | None = None,
        reply_to: str | None = None,
        correlation_id: str | None = None,
        timeout: float | None = None,
    ) -> int:
        """Store a message in a mailbox; whether anybody is receiving does not matter.

        Arguments:
            mail_id: the mailbox.
            payload: bytes, str, or anything JSON; the `content-type` header says which, unless `headers` has one.
            priority: "high", "normal" or "low" (also "urgent" and "critical", before "high"); None is "normal".
            ttl: how long the message lives, in seconds; never longer than its mailbox, and as long as that with 0 or None.
            headers: more headers, delivered as they are.
            reply_to: the mailbox for answers, see `Message.reply`.
            correlation_id: what answers are to be recognised by.

        Returns:
            The msg_id. Once it is returned, the message is on the broker's disk.

        Raises:
            MailboxError: see the class. After Timeout, or ConnectionFailed because the connection was lost, it is not known
                whether the message was stored.
        """
        options = {HEADER_TTL: ttl, HEADER_REPLY_TO: reply_to, HEADER_CORRELATION_ID: correlation_id}
        return self._ask(self._operations.send(mail_id, payload, priority, headers, options, timeout))

    @plain
    def receive(
        self,
        mail_id: str,
        callback: Callable[[Message], object] | None = None,
        *,
        priority: str | None = None,
        timeout: float | None = None,
    ) -> Receiver:
        """Get everything that is stored in a mailbox, and then what comes, until stopped; nothing is consumed.

        Messages that have not been handed over yet come highest priority first. After a lost connection nothing that was
        handed over comes again, and nothing is missed.

        Arguments:
            mail_id: the mailbox.
            callback: called with each message, one at a time, in the background; may be a coroutine function where there
                is an event loop, which it must not block. What it raises is logged. Without one, iterate over the result.
            priority: only this level.

        Returns:
            An iterator that is also the handle to `stop` it.

        Raises:
            MailboxError: see the class.
        """
        limit = self._operations.limit(timeout)
        return self._begin(Receiver(self, Inflow(self._operations, mail_id, priority, limit), callback))

    @plain
    def fetch(
        self,
        mail_id: str,
        *,
        limit: int | None = FETCH_LIMIT_DEFAULT,
        after: int = 0,
        priority: str | None = None,
        since: datetime | float | None = None,
        payload: bool = True,
        timeout: float | None = None,
    ) -> Page[Message]:
        """Look at what a mailbox holds, in the order of msg_id; nothing is consumed.

        Arguments:
            mail_id: the mailbox.
            limit: how many messages at most; None for all that are there.
            after: only messages with a higher msg_id.
            priority: only this level.
            since: only messages from this time on, a datetime or Unix seconds.
            payload: False leaves the payloads out.

        Returns:
            A list of messages; its `next` is the `after` to go on with, or None when there are no more.

        Raises:
            MailboxError: see the class.
        """
        filters = fetch_filters(priority, since, payload)
        page = self._ask(self._operations.fetch(mail_id, limit, after, filters, timeout))
        return Page((Message(record, self) for record in page), page.next)

    @plain
    def delete(self, mail_id: str, msg_id: int, *, timeout: float | None = None) -> bool:
        """Delete one message of a mailbox; True when it was there.

        Raises:
            MailboxError: see the class.
        """
        return self._ask(self._operations.delete(mail_id, msg_id, timeout))

    @plain
    def remove(self, mail_id: str, *, timeout: float | None = None) -> bool:
        """End a mailbox at once, with all its messages; its receivers end as well.

        Raises:
            MailboxError: see the class.
        """
        return self._ask(self._operations.remove(mail_id, timeout))

    @overload
    def list(self, callback: None = None, *, prefix: str = "", timeout: float | None = None) -> Mailboxes: ...

    @overload
    def list(
        self, callback: Callable[[MailboxEvent], object], *, prefix: str = "", timeout: float | None = None
    ) -> Watch: ...

    @plain
    def list(
        self,
        callback: Callable[[MailboxEvent], object] | None = None,
        *,
        prefix: str = "",
        timeout: float | None = None,
    ) -> Mailboxes | Watch:
        """The public mailboxes, or with a callback also what happens to them from now on.

        Arguments:
            callback: called with a MailboxEvent for each mailbox that is there ("created"), and then for each that is
                created, renewed, expires or is removed.
            prefix: only those whose name begins with this.

        Returns:
            The mailboxes by name; with a callback, the handle to stop it.

        Raises:
            MailboxError: see the class.
        """
        if callback is None:
            return self._ask(self._operations.list(prefix, timeout))
        feed = Happenings(self._operations, prefix, self._operations.limit(timeout))
        return self._begin(Watch(self, feed, callback))

    def close(self, timeout: float = 5.0) -> None:
        """Stop listening, hand over what has arrived, wait for what is under way, and disconnect. Closing twice is fine.

        Arguments:
            timeout: how long to wait for callbacks and answers, in seconds.
        """
        self._shut(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.close(timeout=0.5)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._operations.connection.address}>"
