"""Leased work: what a FETCH leases and how it is answered, and what an ACK settles (docs/protocol.md §4).

The groups decide who gets what; here that becomes replies, once the leases are durable and the bytes of the messages
are at hand.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection, Coroutine
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from mq9.mailboxes.group import Group, Handout
from mq9.mailboxes.groups import Fetch
from mq9.mailboxes.leased import compose, leased_item
from mq9.mailboxes.mailbox import Mailbox
from mq9.mailboxes.office import PostOffice
from mq9.mailboxes.operations import NO_GROUP, NO_MAILBOX, look_whether_refused
from mq9.mailboxes.reading import read_message
from mq9.mailboxes.settling import settle
from mq9.protocol import PRIORITIES, AckRequest, LeaseRequest, ProtocolError, dump
from mq9.store.contract import StoreError

if TYPE_CHECKING:
    from mq9.server.blockreader import BlockReader
    from mq9.server.config import Config
    from mq9.server.mail import MailSession

log = logging.getLogger("mq9")

# As a mask: messages of all priorities, and those that are delayed.
_ALL = 63
_REPLY_OVERHEAD = 64
# Blocks that are kept in memory for one answer.
_BLOCKS_MAX = 16


class Leasing:
    """Carries out FETCH and ACK.

    Arguments:
        office: the post office.
        blocks: reads blocks.
        config: the limits.
        now: gives Unix ms.
        is_connected: whether the client of this number is.
    """

    def __init__(
        self,
        office: PostOffice,
        blocks: BlockReader,
        config: Config,
        now: Callable[[], int],
        is_connected: Callable[[int], bool],
    ) -> None:
        self.office = office
        self.blocks = blocks
        self.payload_max = config.max_payload
        self.adopt(config)
        self.now = now
        self._is_connected = is_connected
        self._tasks: set[asyncio.Task[None]] = set()
        # For each client what it waits for: FETCHes, and requests that look for the message to begin with.
        self._under_way: dict[int, set[object]] = {}
        self.under_way = 0
        # For each group that is not ready what is to be asked of it, in the order in which it came.
        self._postponed: dict[Group, deque[Callable[[], None]]] = {}

    def adopt(self, config: Config) -> None:
        """Go by the limits of `config` from now on."""
        self._groups_max = config.max_groups
        self._total_groups_max = config.max_total_groups
        self._requests_max = config.max_requests
        self._total_requests_max = config.max_total_requests
        self.office.groups.unfinished_max = config.max_unfinished

    def fetch(self, session: MailSession, mailbox: Mailbox, request: LeaseRequest, reply: bytes | None) -> None:
        """Begin a FETCH; its answer goes to `reply`.

        Raises ProtocolError: 429 when the client has too many under way or there are too many groups, 503 or 507 when
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

        Raises ProtocolError 404 when there is no such group.
        """
        group = self.office.groups.find(mailbox, request.group.encode())
        if group is None:
            raise ProtocolError(404, NO_GROUP)

        def carry_out() -> None:
            if group.gone:
                session.refuse(subject, reply, ProtocolError(404, NO_MAILBOX))
                return
            refused = settle(group, request, session.client_id, self.now(), self._is_connected)
            # A refusal waits as well: that a message is done, or another's, must not be told before it is certain.
            self.office.then(_Settled(session, subject, reply, refused, named=bool(request.msg_ids)))

        self.when_ready(group, carry_out)

    def left(self, session: MailSession) -> None:
        """A client has gone: nobody waits for what it waited for."""
        self._withdraw(self._under_way.get(session.client_id, ()))

    async def stop(self) -> None:
        """End everything that is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def when_ready(self, group: Group, carry_out: Callable[[], None]) -> None:
        """Ask something of a group: at once, unless it has a lot to hear of first."""
        postponed = self._postponed.get(group)
        if postponed is not None:
            postponed.append(carry_out)
        elif group.ready():
            carry_out()
        else:
            self._postponed[group] = deque([carry_out])
            self.spawn(self._carry_out_postponed(group))

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something that has to wait for the store."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry_out_postponed(self, group: Group) -> None:
        postponed = self._postponed[group]
        try:
            while postponed:
                while not group.gone and not group.ready():  # noqa: ASYNC110 - each time it does a slice of what there is to do
                    await asyncio.sleep(0)
                postponed.popleft()()
        finally:
            del self._postponed[group]

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
            self.read(_Reading(self, session, mailbox, None, request, reply), [max(first_id - 1, 0)] * len(PRIORITIES))
            return
        name = request.group.encode()
        group = self.office.groups.find(mailbox, name)
        if group is None:
            group = self._create(mailbox, name, first_id)
        elif request.force_deliver:
            self.when_ready(group, partial(group.start, max(first_id, 1)))
        self._lease(session, mailbox, group, request, reply)

    def read(self, reading: _Reading, after: list[int]) -> None:
        """Answer a FETCH without a group with what comes after these msg_ids, one for each priority, or let it wait."""
        reading.after = after
        if not reading.look():
            self._wait(reading)

    def _create(self, mailbox: Mailbox, name: bytes, first_id: int) -> Group:
        look_whether_refused(self.office)
        if mailbox.groups is not None and len(mailbox.groups.by_name) >= self._groups_max:
            raise ProtocolError(429, f"a mailbox has at most {self._groups_max} groups", "max_groups")
        if self.office.groups.groups >= self._total_groups_max:
            raise ProtocolError(429, f"the broker has at most {self._total_groups_max} groups", "max_total_groups")
        return self.office.groups.create(mailbox, name, max(first_id, 1))

    def _lease(self, session: MailSession, mailbox: Mailbox, group: Group, request: LeaseRequest, reply: bytes) -> None:
        self.lease(_Lease(self, session, mailbox, group, request, reply))

    def lease(self, fetch: _Lease) -> None:
        """Answer a FETCH of a group with what there is for it, or let it wait."""
        self.when_ready(fetch.group, lambda: self._lease_now(fetch))

    def _lease_now(self, fetch: _Lease) -> None:
        group = fetch.group
        if group.gone:
            fetch.mailbox_ended()
            return
        handout = None
        if not group.fetches:  # else those that wait already come first
            handout = group.lease(fetch.limit, self.payload_max, fetch.lease_ms, fetch.holder, self.now())
        if handout is not None or self.office.groups.is_full(group):
            fetch.answer(handout)
        else:
            self._wait(fetch)

    def _wait(self, fetch: Fetch) -> None:
        if fetch.deadline_ms > self.now():
            self.office.groups.wait(fetch)
        else:
            fetch.answer(None)

    def _first_id(self, mailbox: Mailbox, request: LeaseRequest) -> int:
        """Where a FETCH begins that does not begin at a time."""
        if request.deliver == "from_id":
            return request.from_id or 0
        return mailbox.last_id(self.now()) if request.deliver == "latest" else 0

    async def _first_since(self, mailbox: Mailbox, since_ms: int) -> int:
        """The msg_id of the first message sent at `since_ms` (Unix ms) or later: msg_ids rise with the time of the send.

        Those that are delayed are looked at as well: they may appear behind what is found.
        """
        low, high = 0, self.office.last_msg_id + 1
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
        self.under_way += 1

    def done(self, session: MailSession, what: object) -> None:
        """A FETCH of the client is answered, or will never be."""
        mine = self._under_way[session.client_id]
        mine.remove(what)
        self.under_way -= 1
        if not mine:
            del self._under_way[session.client_id]

    def _look_whether_too_many(self, session: MailSession) -> None:
        mine = self._under_way.get(session.client_id, set())
        if len(mine) >= self._requests_max:
            self._withdraw([fetch for fetch in mine if isinstance(fetch, Fetch) and not fetch.is_open()])
        if len(mine) >= self._requests_max:
            sentence = f"at most {self._requests_max} FETCHes of one client may be under way"
            raise ProtocolError(429, sentence, "max_requests")
        # Who has none yet may have one all the same: those who have many are not to keep others from working.
        if mine and self.under_way >= self._total_requests_max:
            sentence = f"at most {self._total_requests_max} FETCHes of all clients may be under way"
            raise ProtocolError(429, sentence, "max_total_requests")

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
        self._request = request
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

    def respond(self, messages: bytes) -> None:
        """Answer with these messages, which are JSON with commas between."""
        self._leasing.done(self._session, self)
        self._session.respond(self._reply, b'{"error": "", "messages": [%b]}' % messages)

    def again(self) -> Self:
        """The same FETCH once more, which waits as long as is left, since all that was chosen for it is gone."""
        self._leasing.done(self._session, self)
        request = replace(self._request, wait_ms=max(0, self.deadline_ms - self._leasing.now()))
        return type(self)(self._leasing, self._session, self.mailbox, self.group, request, self._reply)

    def refuse(self, error: ProtocolError) -> None:
        """Answer with an error."""
        self._leasing.done(self._session, self)
        self._session.respond_error(self._reply, error)


class _Lease(_Asked):
    """A FETCH of a group."""

    group: Group

    def answer(self, handout: Handout | None) -> None:
        """It is answered when its leases, and the group itself, are durable."""
        if handout is None and self.groups.is_full(self.group):
            sentence = f"a group may have at most {self.groups.unfinished_max} messages unfinished"
            self.refuse(ProtocolError(429, sentence, "max_unfinished"))
            return
        self._handout = handout
        self._leasing.office.then(self)

    def apply(self, now: int) -> None:
        """The leases are durable."""
        if self._handout is None:
            self.respond(b"")
            return
        if self.mailbox.is_expired(now):
            self.mailbox_ended()
            return
        if not self.is_open():
            self._respond_fitting(self._handout, [], ended=False)
            return
        missing = self._compose(self._handout, now)
        if missing is not None:
            self._leasing.spawn(self._read(self._handout, missing))

    def _compose(self, handout: Handout, now: int) -> int | None:
        """Answer, unless a block has to be read for that: its number."""
        bytes_max = self._leasing.payload_max - _REPLY_OVERHEAD
        composed = compose(handout, self.holder, self._leasing.office.delivery.cache, now, bytes_max)
        if isinstance(composed, int):
            return composed
        self._answer(handout, *composed)
        return None

    def fail(self, error: ProtocolError) -> None:
        """The leases are not: whatever comes next may be leased anew."""
        if self._handout is not None:
            self.group.give_back(self._handout, (), self.holder, self._leasing.now())
        self.refuse(error)

    async def _read(self, handout: Handout, missing: int | None) -> None:
        """Bring block `missing`, and whatever else it takes, into memory, and answer."""
        try:
            for _ in range(_BLOCKS_MAX):
                if missing is None or await self._leasing.blocks.read(missing) is None:
                    break
                now = self._leasing.now()
                if self.group.gone or self.mailbox.is_expired(now):
                    self.mailbox_ended()
                    return
                missing = self._compose(handout, now)
            if missing is not None:
                await self._read_each(handout)
        except StoreError as error:
            # Refused when the leases are given back for certain: none of them may be left after a crash.
            self._leasing.when_ready(self.group, partial(self._give_up, handout, _unreadable(error)))

    def _give_up(self, handout: Handout, error: ProtocolError) -> None:
        self.group.give_back(handout, (), self.holder, self._leasing.now())
        self._leasing.office.then(_Refused(self, error))

    async def _read_each(self, handout: Handout) -> None:
        """Read message by message: a block is damaged, or there are more of them than are kept in memory."""
        items: list[tuple[int, bytes]] = []
        listing = handout.leased(self.holder)
        for msg_id, attempt in listing:
            found = await self._leasing.blocks.find(self.mailbox, msg_id, self._leasing.now)
            if found is not None and found[0] is None:
                self.group.discard(msg_id)
            elif found is not None and found[0] is not None:
                items.append((msg_id, leased_item(found[0], found[1], attempt)))
        now = self._leasing.now()
        if self.group.gone or self.mailbox.is_expired(now):
            self.mailbox_ended()
            return
        # While they were read, they may have ended, or a short lease may have run out, and another have got them.
        held = {msg_id for msg_id, _ in handout.leased(self.holder) if self.mailbox.where(msg_id, now) is not None}
        ended = any(self.mailbox.where(msg_id, now) is None for msg_id, _ in listing)
        self._respond_fitting(handout, [(msg_id, item) for msg_id, item in items if msg_id in held], ended=ended)

    def _respond_fitting(self, handout: Handout, items: list[tuple[int, bytes]], *, ended: bool) -> None:
        """Answer with as many items as fit into a reply; the others go to somebody else."""
        size, fitting = _REPLY_OVERHEAD, 0
        for _, item in items if self.is_open() else ():
            size += len(item) + 2
            if fitting and size > self._leasing.payload_max:
                break
            fitting += 1
        reached = None if fitting == len(handout) else {msg_id for msg_id, _ in items[:fitting]}
        self._answer(handout, b", ".join([item for _, item in items[:fitting]]), ended, reached)

    def _answer(self, handout: Handout, messages: bytes, ended: bool, reached: set[int] | None) -> None:
        """Answer with these messages, and give back what is not among those `reached`, when that is not all.

        With nothing left because messages have ended, it goes on waiting; not when its leases have run out, or short ones would
        run out again and again.
        """
        if reached is not None:
            self.group.give_back(handout, reached, self.holder, self._leasing.now())
        if ended and not messages and self.is_open():
            self._leasing.lease(self.again())
        else:
            self.respond(messages)


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

    after: list[int]

    def look(self) -> bool:
        """Whether there is something to answer; then it is answered."""
        found: list[tuple[int, int]] = []
        for rank in range(len(PRIORITIES)):
            page = self.mailbox.page(self.after[rank], 1 << rank, self.limit - len(found), self._leasing.now())
            found += [(rank, msg_id) for msg_id, *_ in page]
            if len(found) == self.limit:
                break
        if found:
            self._leasing.spawn(self._read(found))
        return bool(found)

    def answer(self, handout: Handout | None) -> None:
        """Nothing has come in time."""
        self.respond(b"")

    async def _read(self, chosen: list[tuple[int, int]]) -> None:
        items: list[tuple[int, bytes]] = []
        size = _REPLY_OVERHEAD
        after = list(self.after)
        try:
            for rank, msg_id in chosen:
                found = await self._leasing.blocks.find(self.mailbox, msg_id, self._leasing.now)
                if found is None:
                    continue
                if found[0] is None:  # damaged: passed over
                    after[rank] = msg_id
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
        there = [item for msg_id, item in items if self.mailbox.where(msg_id, now) is not None]
        if there or not self.is_open():
            self.respond(b", ".join(there))
        else:
            self._leasing.read(self.again(), after)


class _Settled:
    """The answer to an ACK, when all that it goes by is durable."""

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
        """What was not refused is durable, and so is what the refusals tell of."""
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
