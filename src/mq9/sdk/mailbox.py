"""`AsyncMailbox` and what belongs to it: the one text of both faces.

`blocking.py` is made from this file by tools/sync_face.py, which leaves out every `async` and `await` and takes `Async` off the
names; so nothing here may know of an event loop. What the two faces do differently is in `async_face.py` and `blocking_face.py`.
"""
# ruff: noqa: SLF001 - a mailbox, its handles and its messages are parts of one thing

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from mq9.protocol import FETCH_LIMIT_DEFAULT
from mq9.sdk import asking, tracing
from mq9.sdk.async_face import AsyncFace, AsyncHandleFace
from mq9.sdk.credentials import take_credentials
from mq9.sdk.errors import BadRequest, MailboxError, plain
from mq9.sdk.inflow import Happenings, Inflow
from mq9.sdk.lease import nack_details
from mq9.sdk.link import checked_url
from mq9.sdk.message import BaseMessage, Record
from mq9.sdk.operations import checked_group, fetch_filters, lots, send_options
from mq9.sdk.values import MailboxEvent, MailboxInfo, Page, Sent, Status
from mq9.sdk.work import Work

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime
    from types import TracebackType
    from typing import Self, TypeAlias

    from mq9.sdk.lease import Lease

    Mailboxes: TypeAlias = list[MailboxInfo]

RecordT = TypeVar("RecordT")
ItemT = TypeVar("ItemT")

LEASE_S = 30.0


class AsyncMessage(BaseMessage):
    """A message that was received or fetched.

    Printing one shows its number, priority and payload, shortened and with private mail_ids and drop_ids cut off.
    """

    __slots__ = ("__weakref__", "_handle", "_mailbox")

    def __init__(self, record: Record, mailbox: AsyncMailbox, handle: AsyncReceiver | None = None) -> None:
        super().__init__(record)
        self._mailbox = mailbox
        self._handle = handle  # kept alive, since without it nothing is leased any more

    @plain
    async def reply(
        self,
        payload: Any,
        *,
        priority: str | None = None,
        ttl: int | None = None,
        delay: float | None = None,
        key: str | None = None,
        tags: Iterable[str] | None = None,
        dedup_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        reply_to: str | None = None,
        timeout: float | None = None,
    ) -> Sent:
        """Send an answer to the mailbox that the sender named in `reply_to`, with the sender's correlation id.

        The arguments, the result and the errors are those of `AsyncMailbox.send`; besides, BadRequest is raised when the
        sender named no mailbox.
        """
        if self.reply_to is None:
            raise BadRequest(f"message {self.msg_id} cannot be replied to: its sender named no reply_to")
        return await self._mailbox.send(
            self.reply_to,
            payload,
            priority=priority,
            ttl=ttl,
            delay=delay,
            key=key,
            tags=tags,
            dedup_id=dedup_id,
            headers=headers,
            reply_to=reply_to,
            correlation_id=self.correlation_id,
            timeout=timeout,
        )

    @plain
    async def ack(self, *, timeout: float | None = None) -> None:
        """Leased work is done: nobody of the group gets the message again. On the broker's disk when this returns.

        Raises:
            MailboxError: Conflict when the lease was lost and another worker has the message, or when it was given back or
                declared dead before; BadRequest when it is not leased; else see `AsyncMailbox`. Acking twice is fine.
        """
        await self._mailbox._ask(self._leased().settle("ack", {}, timeout))

    @plain
    async def nack(self, delay: float = 0.0, reason: str | None = None, *, timeout: float | None = None) -> None:
        """Leased work is not done: give the message back. At its 16th attempt it is then dead for the group.

        Arguments:
            delay: nobody gets it for as many seconds.
            reason: why, for those who look at dead messages; at most 256 bytes.

        Raises:
            MailboxError: as for `ack`.
        """
        await self._mailbox._ask(self._leased().settle("nack", nack_details(delay, reason), timeout))

    @plain
    async def dead(self, reason: str | None = None, *, timeout: float | None = None) -> None:
        """Leased work cannot be done by anybody: see `AsyncMailbox.dead`.

        Arguments:
            reason: why, for those who look at dead messages; at most 256 bytes.

        Raises:
            MailboxError: as for `ack`.
        """
        await self._mailbox._ask(self._leased().settle("dead", {"reason": reason}, timeout))

    @plain
    async def extend(self, *, timeout: float | None = None) -> None:
        """Begin the lease anew, now. That happens by itself at each third of it, so this is a way to ask whether it is still held.

        Raises:
            MailboxError: as for `ack`.
        """
        await self._mailbox._ask(self._leased().extend(timeout))


class AsyncHandle(AsyncHandleFace[RecordT, ItemT], Generic[RecordT, ItemT]):
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
    async def next(self, timeout: float | None = None) -> ItemT | None:
        """The next item, or None when there is none within `timeout` seconds or there will be none any more.

        Without a timeout it waits as long as something can come. Not for handles that have a callback.
        """
        while (record := self._feed.take()) is None:
            if not await self._ask(self._feed.ready(timeout)):
                return None
        return self._item(record)

    @plain
    async def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is over and the last callback has returned.

        Arguments:
            timeout: how long, in seconds; None: for ever.

        Returns:
            False when it still goes on after `timeout` seconds.

        Raises:
            MailboxError: why it is over, when that is not because of `stop`, `close` or the end of the mailbox.
        """
        return await self._ask(self._feed.completed(timeout)) and await self._delivered(timeout)

    @plain
    async def stop(self) -> None:
        """Stop listening, forget what has not been handed over, and wait for the callbacks that are running.

        What was forgotten is not lost: it stays in the mailbox, and the next receiver gets it. Leased work that is not settled
        then is given back at once.
        """
        await self._ask(self._feed.finish())
        self._feed.clear()
        await self._delivered(None)
        await self._ask(self._feed.release())

    def _item(self, record: RecordT) -> ItemT:
        raise NotImplementedError

    async def _deliver(self) -> None:
        async for item in self:
            await self._call(item)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ItemT:
        await self._breathe()
        item = await self.next()
        if item is None:
            raise StopAsyncIteration
        return item

    @plain
    async def __aenter__(self) -> Self:
        await self._ask(self._feed.start())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    def __repr__(self) -> str:
        state = "running" if self.running else self.ended or "stopped"
        return f"<{type(self).__name__} {state}>"


class AsyncReceiver(AsyncHandle[Record, "AsyncMessage"]):
    """What `receive` returns: an iterator over the messages, or, with a callback, the means to stop it.

    The iteration ends when the mailbox does.
    """

    _mailbox: AsyncMailbox

    def _item(self, record: Record) -> AsyncMessage:
        return AsyncMessage(record, self._mailbox)

    def _around(self, item: AsyncMessage) -> tracing.Around:
        return tracing.processing(self._feed.mail_id, item, self._feed.group)


class AsyncWorker(AsyncReceiver):
    """What `receive` returns for leased work; a Receiver that settles what it hands over, see `AsyncMailbox.receive`.

    Arguments:
        mailbox: what it belongs to.
        feed: where the messages come from.
        callback: what is called with each, or None when the user iterates.
        concurrency: how many callbacks may run at once.
        auto_ack: whether the messages are settled here, or by the user.
    """

    _feed: Work

    def __init__(
        self,
        mailbox: AsyncMailbox,
        feed: Work,
        callback: Callable[[AsyncMessage], object] | None,
        concurrency: int,
        auto_ack: bool,
    ) -> None:
        super().__init__(mailbox, feed, callback, concurrency)
        self._auto_ack = auto_ack
        self._last: Lease | None = None

    @plain
    async def next(self, timeout: float | None = None) -> AsyncMessage | None:
        """The next message, or None when there is none within `timeout` seconds or there will be none any more.

        With `auto_ack` the one before is acked. Without a timeout it waits as long as something can come. Not for handles
        that have a callback.
        """
        if self._last is not None:
            last, self._last = self._last, None
            await self._ask(self._feed.accept(last))
        return await super().next(timeout)

    def _item(self, record: Record) -> AsyncMessage:
        if self._auto_ack or record.lease is None:
            self._last = record.lease if self._callback is None else None
            return super()._item(record)
        message = AsyncMessage(record, self._mailbox, self)
        weakref.finalize(message, record.lease.drop).atexit = False
        return message

    async def _deliver(self) -> None:
        async for message in self:
            await self._work_on(message)
            del message  # so that it is noticed when nobody else holds it

    async def _work_on(self, message: AsyncMessage) -> None:
        lease = message._leased()
        try:
            error = await self._call(message)
        except BaseException:
            await self._ask(self._feed.give_back(lease))
            raise
        await self._ask(self._feed.called(lease, error, auto_ack=self._auto_ack))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._last is not None:
            last, self._last = self._last, None
            await self._ask(self._feed.accept(last) if error is None else self._feed.give_back(last, error))
        await self.stop()


class AsyncWatch(AsyncHandle[MailboxEvent, MailboxEvent]):
    """What `list` with a callback returns: the means to stop it."""

    def _item(self, record: MailboxEvent) -> MailboxEvent:
        return record


class AsyncMailbox(AsyncFace):
    """A client of an mq9 broker: everything that can be done with mailboxes.

    It connects at the first call and again, with growing pauses, whenever the connection is lost. It may be used as a
    context manager; otherwise `close` it.

    Arguments:
        url: where the broker is, `nats://host:port`, or `tls://host:port` for a connection that is secured or does not come about. A
            `user:password@` or `token@` before the host is taken unless one of the next arguments is given.
        timeout: how long a call may take that does not say so itself, in seconds.
        connect_timeout: how long the first call tries to reach a broker, in seconds.
        user, password: who this client is.
        token: in the place of the two.
        nkey: the seed of a user's nkey (`SU…`), in the place of those.
        credentials: a file with such a seed, alone or in a .creds file, in the place of those. A JWT in it is not looked at.
        inbox_prefix: where answers come in, for a user who may subscribe to no other place than this; `_INBOX` by default.
        tls_ca: a file with the certificates that the broker's may be signed by; by default those that the system trusts.
        tls_cert, tls_key: files with a certificate to show to the broker, and its key, which may be in the same file. PEM, all of these.
        tls_hostname: whom the broker's certificate must be for, when that is not the host of `url`.
        tls_first: begin with TLS, before the broker has said anything; for a broker with `tls_handshake_first`.

    Every operation raises a MailboxError: NotFound when there is no such mailbox, BadRequest for an argument that the
    protocol does not allow, ConnectionFailed when there is no broker, Timeout when it does not answer, and the others as
    docs/protocol.md §3 says. `timeout` is in seconds for each of them.
    """

    def __init__(
        self,
        url: str = "nats://localhost:4222",
        *,
        timeout: float = 5.0,
        connect_timeout: float = 2.0,
        user: str | None = None,
        password: str | None = None,
        token: str | None = None,
        nkey: str | None = None,
        credentials: str | os.PathLike[str] | None = None,
        inbox_prefix: str | None = None,
        tls_ca: str | os.PathLike[str] | None = None,
        tls_cert: str | os.PathLike[str] | None = None,
        tls_key: str | os.PathLike[str] | None = None,
        tls_hostname: str | None = None,
        tls_first: bool = False,
    ) -> None:
        bare, taken = take_credentials(
            checked_url(url),
            user=user,
            password=password,
            token=token,
            nkey=nkey,
            credentials=credentials,
            inbox_prefix=inbox_prefix,
            tls_ca=tls_ca,
            tls_cert=tls_cert,
            tls_key=tls_key,
            tls_hostname=tls_hostname,
            tls_first=tls_first,
        )
        super().__init__(bare, taken, timeout, connect_timeout)

    @plain
    async def create(
        self,
        ttl: int | None = None,
        *,
        public: bool = False,
        name: str | None = None,
        desc: str | None = None,
        renew: bool = False,
        owner_only: bool = False,
        timeout: float | None = None,
    ) -> MailboxInfo:
        """Create a mailbox, or find the one that has this name.

        Arguments:
            ttl: how long it lives, in seconds; 0: for ever; None: as long as the broker is set to, usually a day.
            public: whether `list` shows it; needs a name.
            name: its mail_id; None for a private mailbox, whose mail_id the broker makes up and only its creator learns.
            desc: a description, for `list`.
            renew: restart the clock of the mailbox called `name` (which may be a private one), with `ttl` if given.
            owner_only: nobody but the user who creates it, by whatever connection, may do more with it than send and ask for
                `status`. Needs a broker with users; Conflict is raised when there is one of this name that is not so.

        Returns:
            The mailbox: a str, its mail_id, with what the broker said about it. `is_new` is False when it was there already;
            then ttl, desc and end are those of its first creation.

        Raises:
            MailboxError: see the class.
        """
        request = {"ttl": ttl, "public": public, "name": name, "desc": desc, "renew": renew or None}
        request["owner_only"] = owner_only or None
        return await self._ask(self._operations.create(request, timeout))

    @plain
    async def send(
        self,
        mail_id: str,
        payload: Any,
        *,
        priority: str | None = None,
        ttl: int | None = None,
        delay: float | None = None,
        key: str | None = None,
        tags: Iterable[str] | None = None,
        dedup_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        reply_to: str | None = None,
        correlation_id: str | None = None,
        timeout: float | None = None,
    ) -> Sent:
        """Store a message in a mailbox; whether anybody is receiving does not matter.

        Arguments:
            mail_id: the mailbox, or its drop_id.
            payload: bytes, str, or anything JSON; the `content-type` header says which, unless `headers` has one.
            priority: "high", "normal" or "low" (also "urgent" and "critical", before "high"); None is "normal".
            ttl: how long the message lives, in seconds; never longer than its mailbox, and as long as that with 0 or None.
            delay: for how many seconds nobody can see it; rounded up to whole milliseconds.
            key: replaces every earlier message of the mailbox that has the same key; at most 256 bytes.
            tags: words for `fetch` to look for; at most 64 of them, without commas.
            dedup_id: a second message with the same one within two minutes is not stored, see `Sent`; at most 256 bytes. None:
                one that is never used again.
            headers: more headers, delivered as they are.
            reply_to: the mailbox for answers, best its drop_id, see `AsyncMessage.reply`.
            correlation_id: what answers are to be recognised by.

        Returns:
            The msg_id, with what else the broker said. Once it is returned, the message is on the broker's disk. When the
            connection is lost before that, it is sent again within `timeout`, and still stored once.

        Raises:
            MailboxError: see the class. After Timeout, or ConnectionFailed because the connection was lost, it is not known
                whether the message was stored; sending it again with the same `dedup_id` is safe for two minutes.
        """
        options = send_options(
            ttl=ttl,
            delay=delay,
            key=key,
            tags=tags,
            dedup_id=dedup_id,
            reply_to=reply_to,
            correlation_id=correlation_id,
        )
        return await self._ask(self._operations.send(mail_id, payload, priority, headers, options, timeout))

    @plain
    async def send_many(
        self,
        mail_id: str,
        payloads: Iterable[Any],
        *,
        priority: str | None = None,
        ttl: int | None = None,
        delay: float | None = None,
        tags: Iterable[str] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> list[Sent]:
        """Store a message for each payload, without waiting for one to be answered before the next is sent.

        Many times as fast as `send` one after the other, with the same promise for each of them.

        Arguments:
            payloads: as for `send`; taken some at a time, so that they may be made meanwhile.
            timeout: how long to wait for the next answer, in seconds.

        The other arguments are those of `send`, for all of them.

        Returns:
            The msg_ids in the order of the payloads, when all are on the broker's disk. When the connection is lost before
            that, those that were not answered are sent again, and still stored once.

        Raises:
            MailboxError: see the class, for the first message that is not stored, or of which that is not known. Then no more
                payloads are taken; `sent` of the error says for each one that was whether it is stored.
        """
        options = send_options(
            ttl=ttl, delay=delay, key=None, tags=tags, dedup_id=None, reply_to=None, correlation_id=None
        )
        sent: list[Sent] = []
        for lot in lots(payloads, sent):
            try:
                sent += await self._ask(self._operations.send_many(mail_id, lot, priority, headers, options, timeout))
            except MailboxError as error:
                error.sent = [*sent, *error.sent]
                raise
        return sent

    @plain
    async def request(
        self,
        mail_id: str,
        payload: Any,
        timeout: float | None = None,
        *,
        priority: str | None = None,
        ttl: int | None = None,
        delay: float | None = None,
        key: str | None = None,
        tags: Iterable[str] | None = None,
        dedup_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        correlation_id: str | None = None,
    ) -> AsyncMessage:
        """Send a message and wait for the answer to it, which may come after any number of lost connections.

        A mailbox is made for the answer, lives a minute longer than `timeout`, and is removed when the answer has come.
        `reply_to` of the message is its drop_id; the answer is what comes there, with the correlation id of the message or with
        none. Whoever answers does so with `AsyncMessage.reply`, and need not be there yet.

        Arguments:
            timeout: how long the whole may take, in seconds.
            correlation_id: what the answer is to be recognised by; None for a random one.

        The other arguments are those of `send`.

        Returns:
            The answer.

        Raises:
            MailboxError: see the class; Timeout when no answer has come in time.
        """
        options = send_options(
            ttl=ttl,
            delay=delay,
            key=key,
            tags=tags,
            dedup_id=dedup_id,
            reply_to=None,
            correlation_id=correlation_id,
        )
        work = asking.request(self._operations, mail_id, payload, priority, headers, options, timeout)
        return AsyncMessage(await self._ask(work), self)

    @plain
    def receive(
        self,
        mail_id: str,
        callback: Callable[[AsyncMessage], object] | None = None,
        *,
        priority: str | None = None,
        timeout: float | None = None,
        resume: str | None = None,
        concurrency: int = 1,
        auto_ack: bool = True,
        lease: float = LEASE_S,
    ) -> AsyncReceiver:
        """Get everything that is stored in a mailbox, and then what comes, until stopped; nothing is consumed.

        Messages that have not been handed over yet come highest priority first. After a lost connection nothing that was
        handed over comes again, and nothing is missed.

        With `resume` it is leased work: each message goes to one worker of that group only, is that worker's until it has been
        settled, and comes to another when that one crashes; the group goes on where it was when all have gone. No more messages
        are leased than can be begun at once. A lease is extended at each third of it.

        - With a callback a message is acked when it returns, and given back when it raises: for one second, two, four and so on
          with each attempt, five minutes at most.
        - In an iteration it is acked when the next one is asked for, or when the `with` block around the iteration is left
          without an exception; it is given back at once when that is left by one, and when the handle is stopped or let go of.
        - With `auto_ack=False` it is settled by `ack()`, `nack()` or `dead()`, which may also happen elsewhere and later, and
          is given back when the handle is stopped before. Its lease is extended as long as the message is held by anybody here. A
          callback that raises gives it back as above.

        Arguments:
            mail_id: the mailbox.
            callback: called with each message, one at a time, in the background; may be a coroutine function where there
                is an event loop, which it must not block. What it raises is logged. Without one, iterate over the result.
            priority: only this level; not for leased work.
            resume: the name of the group: 1 to 128 bytes, no space, `*` or `>`. A new group begins at the oldest message.
            concurrency: for leased work: how many callbacks may run, or messages may be held, at once.
            auto_ack: for leased work: whether the messages are settled by the receiver.
            lease: for leased work: after how many seconds another worker gets the message of one that has gone silent.

        Returns:
            An iterator that is also the handle to `stop` it.

        Raises:
            MailboxError: see the class.
        """
        limit = self._operations.limit(timeout)
        if resume is None:
            if concurrency != 1 or not auto_ack or lease != LEASE_S:
                raise BadRequest("concurrency, auto_ack and lease are for leased work: resume must name the group")
            return self._begin(AsyncReceiver(self, Inflow(self._operations, mail_id, priority, limit), callback))
        if priority is not None:
            raise BadRequest("priority cannot be combined with resume: leased work comes from all levels")
        work = Work(
            self._operations,
            mail_id,
            resume,
            concurrency=concurrency,
            lease_s=lease,
            calls_back=callback is not None,
            timeout_s=limit,
        )
        return self._begin(AsyncWorker(self, work, callback, concurrency, auto_ack))

    @plain
    async def fetch(
        self,
        mail_id: str,
        *,
        limit: int | None = FETCH_LIMIT_DEFAULT,
        after: int = 0,
        priority: str | None = None,
        key: str | None = None,
        tags: Iterable[str] | None = None,
        since: datetime | float | None = None,
        payload: bool = True,
        timeout: float | None = None,
    ) -> Page[AsyncMessage]:
        """Look at what a mailbox holds, in the order of msg_id; nothing is consumed.

        Arguments:
            mail_id: the mailbox.
            limit: how many messages at most; None for all that are there.
            after: only messages with a higher msg_id.
            priority: only this level.
            key: only the message with this key.
            tags: only messages that have all of these tags.
            since: only messages from this time on, a datetime or Unix seconds.
            payload: False leaves the payloads out.

        Returns:
            A list of messages; its `next` is the `after` to go on with, or None when there are no more.

        Raises:
            MailboxError: see the class.
        """
        filters = fetch_filters(priority, since, payload, key, tags)
        page = await self._ask(self._operations.fetch(mail_id, limit, after, filters, timeout))
        return Page((AsyncMessage(record, self) for record in page), page.next)

    @plain
    async def status(self, mail_id: str, msg_id: int, *, timeout: float | None = None) -> Status:
        """What has become of a message: whether it is still there, was offered to anybody, and how far each group is with it.

        Arguments:
            mail_id: the mailbox, or its drop_id.
            msg_id: what `send` returned.

        Raises:
            MailboxError: see the class; NotFound also when no message ever had this number.
        """
        return await self._ask(self._operations.status(mail_id, msg_id, timeout))

    @plain
    async def dead(
        self,
        mail_id: str,
        group: str,
        *,
        limit: int | None = FETCH_LIMIT_DEFAULT,
        after: int = 0,
        payload: bool = True,
        timeout: float | None = None,
    ) -> Page[AsyncMessage]:
        """The messages that a group has given up: those that `dead()` was said of, and those that 16 attempts were not enough for.

        They stay in the mailbox until they expire or are deleted; `revive` returns one to the group.

        Arguments:
            mail_id: the mailbox.
            group: the group.
            limit: how many messages at most; None for all that are there.
            after: only messages with a higher msg_id.
            payload: False leaves the payloads out.

        Returns:
            A list as of `fetch`, of messages that also tell `attempts` and `reason`.

        Raises:
            MailboxError: see the class; NotFound also when there is no such group.
        """
        filters = fetch_filters(None, None, payload, dead=checked_group(group))
        page = await self._ask(self._operations.fetch(mail_id, limit, after, filters, timeout))
        return Page((AsyncMessage(record, self) for record in page), page.next)

    @plain
    async def revive(self, mail_id: str, group: str, msg_id: int, *, timeout: float | None = None) -> None:
        """Return a dead message to its group, with all attempts before it again.

        Raises:
            MailboxError: see the class; Conflict when it is not dead, NotFound also when there is no such group or message.
        """
        await self._ask(self._operations.settle(mail_id, group, msg_id, {"op": "revive"}, timeout))

    @plain
    async def delete(self, mail_id: str, msg_id: int, *, timeout: float | None = None) -> bool:
        """Delete one message of a mailbox; True when it was there.

        Raises:
            MailboxError: see the class.
        """
        return await self._ask(self._operations.delete(mail_id, msg_id, timeout))

    @plain
    async def remove(self, mail_id: str, *, timeout: float | None = None) -> bool:
        """End a mailbox at once, with all its messages; its receivers end as well.

        Raises:
            MailboxError: see the class.
        """
        return await self._ask(self._operations.remove(mail_id, timeout))

    @overload
    async def list(self, callback: None = None, *, prefix: str = "", timeout: float | None = None) -> Mailboxes: ...

    @overload
    async def list(
        self, callback: Callable[[MailboxEvent], object], *, prefix: str = "", timeout: float | None = None
    ) -> AsyncWatch: ...

    @plain
    async def list(
        self,
        callback: Callable[[MailboxEvent], object] | None = None,
        *,
        prefix: str = "",
        timeout: float | None = None,
    ) -> Mailboxes | AsyncWatch:
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
            return await self._ask(self._operations.list(prefix, timeout))
        feed = Happenings(self._operations, prefix, self._operations.limit(timeout))
        return await self._begin(AsyncWatch(self, feed, callback))

    async def close(self, timeout: float = 5.0) -> None:
        """Stop listening, hand over what has arrived, wait for what is under way, and disconnect. Closing twice is fine.

        Leased work that has not been begun is given back at once, and so is what is not settled when the callbacks have ended.

        Arguments:
            timeout: how long to wait for callbacks and answers, in seconds.
        """
        await self._shut(timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            await self.close()
        else:
            await self.close(timeout=0.5)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._operations.connection.address}>"
