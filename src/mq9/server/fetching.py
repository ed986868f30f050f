"""Fetch: read messages without consuming them (docs/protocol.md §3, fetch).

The index says which messages there are; their bytes come from the blocks, which may have to be read from the store, so
a fetch is a task that gives way between blocks.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from mq9.mailboxes.groups import Groups
from mq9.mailboxes.mailbox import Mailbox
from mq9.mailboxes.operations import NO_GROUP, NO_MAILBOX
from mq9.mailboxes.reading import StoredMessage, read_message
from mq9.protocol import HEADER_KEY, HEADER_TAGS, PRIORITIES, FetchRequest, ProtocolError, dump
from mq9.store.contract import StoreError

if TYPE_CHECKING:
    from mq9.mailboxes.blocks import Block
    from mq9.mailboxes.group import Group
    from mq9.server.blockreader import BlockReader
    from mq9.server.config import Config
    from mq9.server.mail import MailSession

log = logging.getLogger("mq9")

_PAGE = 128
# How soon it is seen that a client that was behind has read what was sent to it.
_LOOK_AGAIN_S = 0.01


class Fetcher:
    """Carries out fetches.

    Arguments:
        blocks: reads blocks.
        groups: of the post office.
        config: the limits.
        now: gives Unix ms.
    """

    def __init__(self, blocks: BlockReader, groups: Groups, config: Config, now: Callable[[], int]) -> None:
        self._blocks = blocks
        self._groups = groups
        self._payload_max = config.max_payload
        self.adopt(config)
        self._now = now
        self._tasks: set[asyncio.Task[None]] = set()
        self._under_way: dict[int, int] = {}
        # The fetches of a client are answered one after the other: each answer may be large.
        self._turns: dict[int, asyncio.Lock] = {}

    @property
    def under_way(self) -> int:
        """How many fetches are."""
        return len(self._tasks)

    def adopt(self, config: Config) -> None:
        """Go by the limits of `config` from now on."""
        self._requests_max = config.max_requests
        self._total_requests_max = config.max_total_requests

    def fetch(
        self,
        session: MailSession,
        mailbox: Mailbox,
        request: FetchRequest,
        reply: bytes | None,
        shape: Shape | None = None,
    ) -> None:
        """Begin a fetch; its answer goes to `reply`, in the shape of docs/protocol.md §3 unless another is given.

        Raises ProtocolError 429 when this client, or all together, have too many under way.
        """
        if reply is None:
            return
        client = session.client_id
        mine = self._under_way.get(client, 0)
        if mine >= self._requests_max:
            sentence = f"at most {self._requests_max} fetches of one client may be under way"
            raise ProtocolError(429, sentence, "max_requests")
        if mine and self.under_way >= self._total_requests_max:  # as in Leasing
            sentence = f"at most {self._total_requests_max} fetches of all clients may be under way"
            raise ProtocolError(429, sentence, "max_total_requests")
        self._under_way[client] = mine + 1
        self._turns.setdefault(client, asyncio.Lock())
        task = asyncio.get_running_loop().create_task(
            self._answer(session, mailbox, request, reply, shape or ListShape(payload=request.payload))
        )
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._done(client, task))

    async def stop(self) -> None:
        """End all fetches."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _done(self, client: int, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._under_way[client] -= 1
        if not self._under_way[client]:
            del self._under_way[client]
            del self._turns[client]

    async def _answer(
        self, session: MailSession, mailbox: Mailbox, request: FetchRequest, reply: bytes, shape: Shape
    ) -> None:
        try:
            async with self._turns[session.client_id]:
                # Who asks and does not read is not answered yet. (One task of such a client looks, the others wait for it.)
                while session.write_paused and not session.closed:  # noqa: ASYNC110 - the transport knows no events
                    await asyncio.sleep(_LOOK_AGAIN_S)
                if session.closed:
                    return
                items, following = await self._collect(mailbox, request, shape)
                session.respond(reply, shape.reply(mailbox, items, following))
        except ProtocolError as error:
            session.respond_error(reply, error)
        except StoreError as error:
            log.error("cannot read for a fetch: %s", error)  # noqa: TRY400 - the sentence says it all
            session.respond_error(reply, ProtocolError(503, "the storage is unavailable"))

    def _group(self, mailbox: Mailbox, request: FetchRequest) -> Group | None:
        """The group whose dead messages are asked for, None: all messages are."""
        if request.dead is None:
            return None
        group = self._groups.find(mailbox, request.dead.encode())
        if group is None:
            raise ProtocolError(404, NO_GROUP)
        return group

    def _page(self, mailbox: Mailbox, after: int, mask: int, group: Group | None) -> _Page:
        """The next messages; with a group those that are dead for it, without a look at the others."""
        now = self._now()
        if group is None:
            places = mailbox.page(after, mask, _PAGE, now)
            return _Page(places, {}, places[-1][0] if places else None)
        dead, end = self._groups.dead(group, after, _PAGE, now)
        pages = [mailbox.page(msg_id - 1, mask, 1, now) for msg_id, *_ in dead]
        places = [page[0] for (msg_id, *_), page in zip(dead, pages, strict=True) if page and page[0][0] == msg_id]
        details = {
            msg_id: {"attempts": attempts, "reason": reason.decode("utf-8", "replace")}
            for msg_id, attempts, reason in dead
        }
        return _Page(places, details, end)

    async def _collect(self, mailbox: Mailbox, request: FetchRequest, shape: Shape) -> tuple[list[bytes], int | None]:
        """The items of the reply, and the msg_id to go on behind, or None when there is nothing more."""
        group = self._group(mailbox, request)
        mask = 31 if request.priority is None else 1 << PRIORITIES.index(request.priority)
        items: list[bytes] = []
        size = len(mailbox.name) + 64
        after = request.after
        number, data = 0, None
        while (page := self._page(mailbox, after, mask, group)).end is not None:
            for msg_id, block, offset, _, expires_ms in page.places:
                if block != number:
                    number, data = block, await self._blocks.read(block)
                place = mailbox.where(msg_id, self._now())
                found = (data, offset) if place == (block, offset) else None
                if place is not None and found is None:  # its block was rewritten meanwhile
                    found = await self._blocks.find(mailbox, msg_id, self._now)
                if found is not None and found[0] is not None:
                    message = read_message(found[0], found[1])
                    if _matches(message, request):
                        end_ms = _earlier(expires_ms, mailbox.expires_ms)
                        details = {"expires_at": end_ms // 1_000 if end_ms else None}
                        item = shape.item(message, found[0], found[1], details | page.details.get(msg_id, {}))
                        full = len(items) == request.limit or (items and size + len(item) + 2 > self._payload_max)
                        if full:
                            return items, after
                        items.append(item)
                        size += len(item) + 2
                after = msg_id
            after = page.end
            await asyncio.sleep(0)
            if mailbox.is_expired(self._now()):
                raise ProtocolError(404, NO_MAILBOX)
        return items, None


class Shape(Protocol):
    """How the messages that were found become an answer."""

    def item(self, message: StoredMessage, data: bytes | Block, offset: int, details: dict[str, Any]) -> bytes:
        """One message, whose record begins at `offset` of the block's `data`, with what the index knows besides."""

    def reply(self, mailbox: Mailbox, items: list[bytes], following: int | None) -> bytes:
        """The whole answer; `following` is the msg_id to go on behind, or None."""


class ListShape:
    """The answer of docs/protocol.md §3, with or without payloads."""

    def __init__(self, *, payload: bool) -> None:
        self._payload = payload

    def item(self, message: StoredMessage, data: bytes | Block, offset: int, details: dict[str, Any]) -> bytes:
        """One message."""
        item: dict[str, Any] = {
            "msg_id": message.msg_id,
            "priority": PRIORITIES[message.rank],
            "ts": message.time_ms // 1_000,
            "create_time": message.time_ms // 1_000,
            "size": len(message.payload),
            "headers": message.headers,
            "tags": _tags(message),
            "key": message.header(HEADER_KEY),
            **details,
        }
        if self._payload:
            try:
                item["payload"] = message.payload.decode()
                item["encoding"] = "utf-8"
            except UnicodeDecodeError:
                item["payload"] = base64.b64encode(message.payload).decode()
                item["encoding"] = "base64"
        return dump(item)

    def reply(self, mailbox: Mailbox, items: list[bytes], following: int | None) -> bytes:
        """The whole answer."""
        head = json.dumps({"mail_id": mailbox.name.decode()})[:-1].encode()
        return b'%b, "messages": [%b], "next": %b}' % (head, b", ".join(items), json.dumps(following).encode())


class _Page(NamedTuple):
    """The next messages.

    Attributes:
        places: as Mailbox.page gives them.
        details: what there is to say of some of them besides, by msg_id.
        end: the msg_id up to which they were looked for, None when there are no more.
    """

    places: list[tuple[int, int, int, int, int]]
    details: dict[int, dict[str, Any]]
    end: int | None


def _earlier(one_ms: int, other_ms: int) -> int:
    """The earlier of two times, of which 0 is never."""
    return min(one_ms or other_ms, other_ms or one_ms)


def _matches(message: StoredMessage, request: FetchRequest) -> bool:
    if request.since is not None and message.time_ms < request.since * 1_000:
        return False
    if request.key is not None and message.header(HEADER_KEY) != request.key:
        return False
    return not request.tags or set(request.tags) <= set(_tags(message))


def _tags(message: StoredMessage) -> list[str]:
    return [tag.strip() for tag in (message.header(HEADER_TAGS) or "").split(",") if tag.strip()]
