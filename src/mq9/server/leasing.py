"""Leased work: what a FETCH leases and how it is answered, and what an ACK settles (docs/protocol.md §4).

The groups decide who gets what; here that becomes replies, once the leases are durable and the bytes of the messages
are at hand.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine
from typing import TYPE_CHECKING, Any

from mq9.mailboxes.group import Group, Handout
from mq9.mailboxes.groups import Fetch
from mq9.mailboxes.mailbox import Mailbox
from mq9.mailboxes.office import PostOffice
from mq9.mailboxes.operations import NO_GROUP, NO_MAILBOX
from mq9.mailboxes.reading import leased_item, read_message
from mq9.mailboxes.settling import settle
from mq9.protocol import PRIORITIES, AckRequest, LeaseRequest, ProtocolError, dump
from mq9.store.contract import StoreError

if TYPE_CHECKING:
    from mq9.server.blockreader import BlockReader
    from mq9.server.mail import MailSession

log = logging.getLogger("mq9")

# FETCHes of one client that may wait or be under way at a time.
LEASES_MAX = 64
_ALL = 31
_REPLY_OVERHEAD = 64


class Leasing:
    """Carries out FETCH and ACK.

    Arguments:
        office: the post office.
        blocks: reads blocks.
        payload_max: bytes that a reply may have.
        groups_max: how many groups a mailbox may have.
        now: gives Unix ms.
    """

    def __init__(
        self, office: PostOffice, blocks: BlockReader, payload_max: int, groups_max: int, now: Callable[[], int]
    ) -> None:
        self.office = office
        self.blocks = blocks
        self.payload_max = payload_max
        self.groups_max = groups_max
        self.now = now
        self._tasks: set[asyncio.Task[None]] = set()
        # For each client what it waits for: FETCHes, and requests that look for the message to begin with.
        self._under_way: dict[int, set[object]] = {}

    def fetch(self, session: MailSession, mailbox: Mailbox, request: LeaseRequest, reply: bytes | None) -> None:
        """Begin a FETCH; its answer goes to `reply`.

        Raises ProtocolError: 429 when the client has too many under way or the mailbox too many groups, 503 or 507 when
        a group is to be created and nothing can be stored.
        """
        if reply is None:
            return
        self._look_whether_too_many(session)
        group = None
        if request.group is not None:
            group = self.office.groups.find(mailbox, request.group.encode())
            if group is not None and not request.force_deliver:
                self._lease(session, mailbox, group, request, reply)
                return
        if request.deliver == "from_time":
            search = object()
            self.begun(session, search)
            self.spawn(self._begin_at_time(session, mailbox, request, reply, search))
        else:
            self._begin(session, mailbox, request, reply, self._first_id(mailbox, request))

    def join(self, mailbox: Mailbox, name: bytes) -> Group:
        """The group that a queue-group receiver joins; a new one starts with the oldest message.

        Raises ProtocolError as `fetch`.
        """
        group = self.office.groups.find(mailbox, name)
        return self._create(mailbox, name, 0) if group is None else group

    def acknowledge(
        self, session: MailSession, mailbox: Mailbox, request: AckRequest, subject: bytes, reply: bytes | None
    ) -> None:
        """Carry out an ACK that came on `subject`; it is answered when it is durable.

        Raises ProtocolError: 404 when there is no such group or message, 409 when a message is not this client's to settle.
        """
        group = self.office.groups.find(mailbox, request.group.encode())
        if group is None:
            raise ProtocolError(404, NO_GROUP)
        refused = settle(group, request, session.client_id, self.now())
        settled = _Settled(session, subject, reply, refused, named=bool(request.msg_ids))
        if len(refused) == max(1, len(request.msg_ids)):
            settled.apply(self.now())
        else:
            self.office.then(settled)

    def left(self, session: MailSession) -> None:
        """A client has gone: nobody waits for what it waited for."""
        self._withdraw(self._under_way.get(session.client_id, ()))

    async def stop(self) -> None:
        """End everything that is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something that has to wait for the store."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # beginning

    async def _begin_at_time(
        self, session: MailSession, mailbox: Mailbox, request: LeaseRequest, reply: bytes, search: object
    ) -> None:
        try:
            first = await self._first_since(mailbox, int((request.from_time or 0) * 1_000))
            if mailbox.is_expired(self.now()):
                raise ProtocolError(404, NO_MAILBOX)
            self._begin(session, mailbox, request, reply, first)
        except ProtocolError as error:
            session.respond_error(reply, error)
        except StoreError as error:
            session.respond_error(reply, _unreadable(error))
        finally:
            self.done(session, search)

    def _begin(
        self, session: MailSession, mailbox: Mailbox, request: LeaseRequest, reply: bytes, first_id: int
    ) -> None:
        """A FETCH that begins at a message: without a group, of a new group, or with force_deliver."""
        if request.group is None:
            reading = _Reading(self, session, mailbox, None, request, reply)
            if not reading.begin(first_id):
                self._wait(reading, request)
            return
        name = request.group.encode()
        group = self.office.groups.find(mailbox, name)
        if group is None:
            group = self._create(mailbox, name, first_id)
        elif request.force_deliver:
            group.start(max(first_id, 1))
        self._lease(session, mailbox, group, request, reply)

    def _create(self, mailbox: Mailbox, name: bytes, first_id: int) -> Group:
        if self.office.refusal is not None:
            raise self.office.refusal
        if mailbox.groups is not None and len(mailbox.groups.by_name) >= self.groups_max:
            raise ProtocolError(429, f"a mailbox has at most {self.groups_max} groups")
        return self.office.groups.create(mailbox, name, max(first_id, 1))

    def _lease(self, session: MailSession, mailbox: Mailbox, group: Group, request: LeaseRequest, reply: bytes) -> None:
        fetch = _Lease(self, session, mailbox, group, request, reply)
        handout = None
        if not group.fetches:  # else those that wait already come first
            handout = group.lease(request.limit, self.payload_max, request.lease_ms, session.client_id, self.now())
        if handout is not None:
            fetch.answer(handout)
        else:
            self._wait(fetch, request)

    def _wait(self, fetch: Fetch, request: LeaseRequest) -> None:
        if request.wait_ms:
            self.office.groups.wait(fetch)
        else:
            fetch.answer(None)

    def _first_id(self, mailbox: Mailbox, request: LeaseRequest) -> int:
        """Where a FETCH begins that does not begin at a time."""
        if request.deliver == "from_id":
            return request.from_id or 0
        return mailbox.last_id(self.now()) if request.deliver == "latest" else 0

    async def _first_since(self, mailbox: Mailbox, since_ms: int) -> int:
        """The msg_id of the first message sent at `since_ms` (Unix ms) or later: msg_ids rise with the time of the send."""
        low, high = 0, mailbox.last_id(self.now()) + 1
        while low < high:
            middle = (low + high) // 2
            page = mailbox.page(middle, _ALL, 1, self.now())
            if not page or page[0][0] > high:
                high = middle
                continue
            msg_id = page[0][0]
            found = await self.blocks.find(mailbox, msg_id, self.now)
            if found is None:  # it has ended meanwhile
                continue
            if found[0] is not None and read_message(found[0], found[1]).time_ms < since_ms:
                low = msg_id
            else:
                high = middle
        return low + 1

    # answering

    def begun(self, session: MailSession, what: object) -> None:
        """A client waits for something; `done` is to be called once."""
        self._under_way.setdefault(session.client_id, set()).add(what)

    def done(self, session: MailSession, what: object) -> None:
        """A FETCH of the client is answered, or will never be."""
        mine = self._under_way[session.client_id]
        mine.remove(what)
        if not mine:
            del self._under_way[session.client_id]

    def _look_whether_too_many(self, session: MailSession) -> None:
        mine = self._under_way.get(session.client_id, set())
        if len(mine) >= LEASES_MAX:
            self._withdraw([fetch for fetch in mine if isinstance(fetch, Fetch) and not fetch.is_open()])
        if len(mine) >= LEASES_MAX:
            raise ProtocolError(429, f"at most {LEASES_MAX} FETCHes of one client may be under way")

    def _withdraw(self, fetches: Collection[object]) -> None:
        for fetch in list(fetches):
            if isinstance(fetch, Fetch) and fetch.waits:
                self.office.groups.withdraw(fetch)


def _unreadable(error: StoreError) -> ProtocolError:
    """What a client is told when its messages cannot be read."""
    log.error("cannot read for a FETCH: %s", error)
    return ProtocolError(503, "the storage is unavailable")


class _Asked(Fetch):
    """A FETCH of a client, under way from now until it is answered or nobody waits for it any more."""

    def __init__(
        self,
        leasing: Leasing,
        session: MailSession,
        mailbox: Mailbox,
        group: Group | None,
        request: LeaseRequest,
        reply: bytes,
    ) -> None:
        super().__init__(
            leasing.office.groups,
            mailbox,
            group,
            request.limit,
            leasing.payload_max,
            request.lease_ms,
            session.client_id,
            leasing.now() + request.wait_ms,
        )
        self._leasing = leasing
        self._session = session
        self._reply = reply
        leasing.begun(session, self)

    def is_open(self) -> bool:
        """Whether its client still waits for the answer, and may: to take a FETCH back, it ends the subscription for it."""
        return self._session.listens(self._reply) and self._session.may_lease(self.mailbox)

    def abandoned(self) -> None:
        """Its client waits no more."""
        self._leasing.done(self._session, self)

    def mailbox_ended(self) -> None:
        """There is nothing to wait for any more."""
        self.refuse(ProtocolError(404, NO_MAILBOX))

    def respond(self, items: list[bytes]) -> None:
        """Answer with these messages."""
        self._leasing.done(self._session, self)
        self._session.respond(self._reply, b'{"error": "", "messages": [%b]}' % b", ".join(items))

    def refuse(self, error: ProtocolError) -> None:
        """Answer with an error."""
        self._leasing.done(self._session, self)
        self._session.respond_error(self._reply, error)


class _Lease(_Asked):
    """A FETCH of a group."""

    group: Group

    def answer(self, handout: Handout | None) -> None:
        """It is answered when its leases, and the group itself, are durable."""
        self._handout = handout
        self._leasing.office.then(self)

    def apply(self, now: int) -> None:
        """The leases are durable."""
        if self._handout is None:
            self.respond([])
            return
        if self.mailbox.is_expired(now):
            self.mailbox_ended()
            return
        items: list[tuple[int, bytes]] = []
        listing = self._handout.leased() if self.is_open() else []
        for at, (msg_id, attempt) in enumerate(listing):
            place = self.mailbox.where(msg_id, now)
            if place is None:
                continue
            block = self._leasing.office.delivery.cache.find(place[0])
            if block is None:
                self._leasing.spawn(self._read_rest(self._handout, items, listing[at:]))
                return
            items.append((msg_id, leased_item(block, place[1], attempt)))
        self._respond_fitting(self._handout, items)

    def fail(self, error: ProtocolError) -> None:
        """The leases are not: whatever comes next may be leased anew."""
        if self._handout is not None:
            self.group.give_back(self._handout, (), self._leasing.now())
        self.refuse(error)

    async def _read_rest(
        self, handout: Handout, items: list[tuple[int, bytes]], listing: list[tuple[int, int]]
    ) -> None:
        try:
            for msg_id, attempt in listing:
                found = await self._leasing.blocks.find(self.mailbox, msg_id, self._leasing.now)
                if found is not None and found[0] is None:
                    self.group.discard(msg_id)
                elif found is not None and found[0] is not None:
                    items.append((msg_id, leased_item(found[0], found[1], attempt)))
        except StoreError as error:
            # Refused when the leases are given back for certain: none of them may be left after a crash.
            self.group.give_back(handout, (), self._leasing.now())
            self._leasing.office.then(_Refused(self, _unreadable(error)))
            return
        now = self._leasing.now()
        if self.group.gone or self.mailbox.is_expired(now):
            self.mailbox_ended()
            return
        # While they were read, they may have ended, or a short lease may have run out, and another have got them.
        held = {msg_id for msg_id, _ in handout.leased() if self.mailbox.where(msg_id, now) is not None}
        self._respond_fitting(handout, [(msg_id, item) for msg_id, item in items if msg_id in held])

    def _respond_fitting(self, handout: Handout, items: list[tuple[int, bytes]]) -> None:
        """Answer with as many items as fit into a reply; the others go to somebody else."""
        size, fitting = _REPLY_OVERHEAD, 0
        for _, item in items if self.is_open() else ():
            size += len(item) + 2
            if fitting and size > self._leasing.payload_max:
                break
            fitting += 1
        if fitting < len(items) or not self.is_open():
            reached = {msg_id for msg_id, _ in items[:fitting]}
            self.group.give_back(handout, reached, self._leasing.now())
        self.respond([item for _, item in items[:fitting]])


class _Refused:
    """The refusal of a FETCH whose leases were given back, when that is durable, or will be with the next commit that succeeds."""

    def __init__(self, lease: _Lease, error: ProtocolError) -> None:
        self._lease = lease
        self._error = error

    def apply(self, now: int) -> None:
        """It is durable."""
        self._lease.refuse(self._error)

    def fail(self, error: ProtocolError) -> None:
        """It is not yet."""
        self._lease.refuse(error)


class _Reading(_Asked):
    """A FETCH without a group: it reads and remembers nothing."""

    def begin(self, first_id: int) -> bool:
        """Read from this message on; returns whether there is something to answer."""
        self._after = max(first_id - 1, 0)
        return self.look()

    def look(self) -> bool:
        """Whether there is something to answer; then it is answered."""
        found: list[tuple[int, int, int, int, int]] = []
        for rank in range(len(PRIORITIES)):
            found += self.mailbox.page(self._after, 1 << rank, self.limit - len(found), self._leasing.now())
            if len(found) == self.limit:
                break
        if found:
            self._leasing.spawn(self._read([msg_id for msg_id, *_ in found]))
        return bool(found)

    def answer(self, handout: Handout | None) -> None:
        """Nothing has come in time."""
        self.respond([])

    async def _read(self, msg_ids: list[int]) -> None:
        items: list[tuple[int, bytes]] = []
        size = _REPLY_OVERHEAD
        try:
            for msg_id in msg_ids:
                found = await self._leasing.blocks.find(self.mailbox, msg_id, self._leasing.now)
                if found is None or found[0] is None:
                    continue
                item = leased_item(found[0], found[1], 0)
                size += len(item) + 2
                if items and size > self._leasing.payload_max:
                    break
                items.append((msg_id, item))
        except StoreError as error:
            self.refuse(_unreadable(error))
            return
        now = self._leasing.now()
        if self.mailbox.is_expired(now):
            self.mailbox_ended()
            return
        # Some may have ended while blocks were read for others.
        self.respond([item for msg_id, item in items if self.mailbox.where(msg_id, now) is not None])


class _Settled:
    """The answer to an ACK, when what it says is durable."""

    def __init__(
        self,
        session: MailSession,
        subject: bytes,
        reply: bytes | None,
        refused: list[tuple[int, ProtocolError]],
        *,
        named: bool,
    ) -> None:
        self._session = session
        self._subject = subject
        self._reply = reply
        self._refused = refused
        self._named = named

    def apply(self, now: int) -> None:
        """What was not refused is durable."""
        if not self._refused:
            self._session.respond(self._reply, b'{"error": ""}')
            return
        error = self._refused[0][1]
        if self._named and self._reply is not None:
            body = {"error": error.sentence, "code": error.code, "msg_ids": [msg_id for msg_id, _ in self._refused]}
            self._session.respond_error(self._reply, error, dump(body))
        else:
            self._session.refuse(self._subject, self._reply, error)

    def fail(self, error: ProtocolError) -> None:
        """It is not."""
        self._session.refuse(self._subject, self._reply, error)
