"""The operations of docs/protocol.md §3 and §4 as coroutines over a connection: arguments checked, requests built, answers read.

Both faces of the SDK call these. What is refused here is what could not be sent safely or would only come back as a refusal;
everything else is the broker's to judge, so that its sentence is the one the user reads.
"""

from __future__ import annotations

import json
import math
import secrets
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from mq9 import protocol
from mq9.protocol import FETCH_LIMIT_MAX, MSG_ID_MAX, PRIORITIES, Priority, bad_mail_id, is_unicode
from mq9.sdk import tracing
from mq9.sdk.connection import ALWAYS, NEVER, checked_seconds
from mq9.sdk.errors import BadRequest, Forbidden, MailboxError
from mq9.sdk.message import Record, encode
from mq9.sdk.values import MailboxInfo, Page, Sent, Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mq9.sdk.connection import Connection

    # The bytes of a payload and its content type.
    Encoded = tuple[bytes, str]

# The broker remembers a Nats-Msg-Id for two minutes from its first arrival; some of that is kept back for a slow network.
REPEATABLE_S: Final = 100.0
# Payloads of `send_many` that are taken at a time, and how many bytes of them; the last one may go beyond.
LOT: Final = 2_000
LOT_BYTES: Final = 16 * 2**20
_HEADER_NAME: Final = frozenset("!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")


def checked_mail_id(mail_id: str) -> str:
    """`mail_id` as a plain str that is safe in a subject; raises BadRequest for anything else."""
    if not isinstance(mail_id, str):
        raise BadRequest(f"mail_id must be a string, not {type(mail_id).__name__}")
    problem = bad_mail_id(str(mail_id)) if is_unicode(mail_id) else "mail_id must be valid Unicode"
    if problem is not None:
        raise BadRequest(problem)
    return str(mail_id)


def checked_priority(priority: str | None) -> str | None:
    """One of the five words as a plain str, or None; raises BadRequest for anything else."""
    if priority is None:
        return None
    if priority not in PRIORITIES:
        raise BadRequest(f"priority must be one of {', '.join(PRIORITIES)}, not {priority!r}")
    return str(Priority(priority))


def checked_msg_id(msg_id: int) -> int:
    """A number that can be a msg_id; raises BadRequest for anything else."""
    if isinstance(msg_id, bool) or not isinstance(msg_id, int) or not 0 <= msg_id <= MSG_ID_MAX:
        raise BadRequest(f"msg_id must be a whole number from 0 to {MSG_ID_MAX}")
    return msg_id


class Operations:
    """See the module.

    Arguments:
        connection: the way to the broker.
        timeout_s: how long a call may take that does not say so itself, in seconds.
    """

    def __init__(self, connection: Connection, timeout_s: float) -> None:
        self.connection = connection
        self.timeout_s = checked_seconds(timeout_s, "timeout") or 0.0

    def limit(self, timeout: float | None) -> float:
        """How long a call may take, in seconds, when the user gave `timeout`."""
        return checked_seconds(timeout, "timeout") or self.timeout_s

    async def create(self, request: Mapping[str, Any], timeout: float | None, *, spare: bool = False) -> MailboxInfo:
        """Create a mailbox from the keys of `request` that are not None.

        `spare`: one more, that nobody knows of, does no harm, so that it is asked again after a lost connection.
        """
        body = {key: value for key, value in request.items() if value is not None}
        # Without a name, doing it twice would leave a mailbox that nobody knows of.
        repeatable_s = ALWAYS if "name" in body or spare else NEVER
        return MailboxInfo(await self._ask(protocol.CREATE, body, "mail_id", timeout, repeatable_s))

    async def send(
        self,
        mail_id: str,
        payload: Any,
        priority: str | None,
        headers: Mapping[str, str] | None,
        options: Mapping[str, Any],
        timeout: float | None,
    ) -> Sent:
        """Store one message, once. `options` are headers by their protocol names; None is left out."""
        word = checked_priority(priority)
        subject = protocol.MESSAGES + checked_mail_id(mail_id) + ("" if word is None else f".{word}")
        body, content_type = encode(payload)
        sent_headers = _checked_headers(headers, options)
        names = {name.lower() for name in sent_headers}
        if protocol.HEADER_CONTENT_TYPE not in names:
            sent_headers[protocol.HEADER_CONTENT_TYPE] = content_type
        by_itself = protocol.HEADER_DEDUP.lower() not in names
        if by_itself:
            sent_headers[protocol.HEADER_DEDUP] = str(_unique())
        with tracing.sending(mail_id, sent_headers, priority=word, size=len(body)) as told:
            answer = await self.connection.request(
                subject,
                body,
                sent_headers,
                expected="msg_id",
                timeout_s=self.limit(timeout),
                repeatable_s=REPEATABLE_S,
            )
            told(answer["msg_id"])
        return _sent_once(answer) if by_itself else Sent(answer)

    async def send_many(
        self,
        mail_id: str,
        lot: Sequence[Encoded],
        priority: str | None,
        headers: Mapping[str, str] | None,
        options: Mapping[str, Any],
        timeout: float | None,
    ) -> list[Sent]:
        """Store several messages, each once, without waiting for each answer: one of `lots`. `options` as for `send`.

        Raises MailboxError, with `sent`, when not all of them are stored: the reason why the first of the others is not.
        """
        word = checked_priority(priority)
        subject = protocol.MESSAGES + checked_mail_id(mail_id) + ("" if word is None else f".{word}")
        common = _checked_headers(headers, options)
        names = {name.lower() for name in common}
        if protocol.HEADER_DEDUP.lower() in names:
            raise BadRequest("with one Nats-Msg-Id for all of them only one message would be stored")
        typed = protocol.HEADER_CONTENT_TYPE in names
        first = _unique()
        with tracing.sending(mail_id, common, priority=word, count=len(lot)):
            requests = []
            for number, (body, content_type) in enumerate(lot):
                own = {**common, protocol.HEADER_DEDUP: str(first + number)}
                if not typed:
                    own[protocol.HEADER_CONTENT_TYPE] = content_type
                requests.append((subject, body, own))
            answers = await self.connection.request_all(
                requests, expected="msg_id", timeout_s=self.limit(timeout), repeatable_s=REPEATABLE_S
            )
            sent = [None if isinstance(answer, MailboxError) else _sent_once(answer) for answer in answers]
            for answer in answers:
                if isinstance(answer, MailboxError):
                    answer.sent = sent
                    raise answer
        return [message for message in sent if message is not None]

    async def fetch(
        self, mail_id: str, limit: int | None, after: int, filters: Mapping[str, Any], timeout: float | None
    ) -> Page[Record]:
        """Up to `limit` messages after msg_id `after` (all when None), by as many requests as that takes."""
        subject = protocol.FETCH + checked_mail_id(mail_id)
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
            raise BadRequest("limit must be a whole number above 0, or None for all")
        page: Page[Record] = Page(following=checked_msg_id(after))
        while page.next is not None and (limit is None or len(page) < limit):
            wanted = FETCH_LIMIT_MAX if limit is None else min(FETCH_LIMIT_MAX, limit - len(page))
            answer = await self._ask(subject, {**filters, "limit": wanted, "after": page.next}, "messages", timeout)
            page.extend(Record.listed(item) for item in answer["messages"])
            page.next = answer.get("next")
        return page

    async def why_not(self, mail_id: str) -> MailboxError:
        """Why the broker has refused a subscription to this mailbox: it says so without a reason, but a fetch is told it."""
        try:
            await self.fetch(mail_id, 1, 0, fetch_filters(None, None, payload=False), None)
        except MailboxError as error:
            return error
        return Forbidden("the broker does not let this client receive from this mailbox")

    async def delete(self, mail_id: str, msg_id: int, timeout: float | None) -> bool:
        """Delete one message; False when there is none of this number."""
        subject = f"{protocol.DELETE}{checked_mail_id(mail_id)}.{checked_msg_id(msg_id)}"
        return bool((await self._ask(subject, {}, "deleted", timeout))["deleted"])

    async def remove(self, mail_id: str, timeout: float | None) -> bool:
        """End a mailbox."""
        answer = await self._ask(protocol.REMOVE + checked_mail_id(mail_id), {}, "deleted", timeout, NEVER)
        return bool(answer["deleted"])

    async def list(self, prefix: str, timeout: float | None) -> list[MailboxInfo]:
        """Every public mailbox whose name begins with `prefix`."""
        found: list[MailboxInfo] = []
        after: str | None = ""
        while after is not None:
            body = {"limit": FETCH_LIMIT_MAX, "after": after, "prefix": prefix}
            answer = await self._ask(protocol.PUBLIC_LIST, body, "mailboxes", timeout)
            found.extend(MailboxInfo(item) for item in answer["mailboxes"])
            after = answer.get("next")
        return found

    async def status(self, mail_id: str, msg_id: int, timeout: float | None) -> Status:
        """What has become of a message."""
        subject = f"{protocol.STATUS}{checked_mail_id(mail_id)}.{checked_msg_id(msg_id)}"
        answer = await self._ask(subject, {}, "state", timeout)
        following = answer.get("next")
        while following is not None:  # more groups than go into one answer
            page = await self._ask(subject, {"after": following}, "state", timeout)
            answer["groups"] |= page["groups"]
            following = page.get("next")
        return Status.told(answer)

    async def settle(
        self, mail_id: str, group: str, msg_id: int, operation: Mapping[str, Any], timeout: float | None
    ) -> None:
        """Tell what has become of one message of a group; `operation` has the `op` of docs/protocol.md §4 and what belongs to it."""
        body = {"group_name": checked_group(group), "msg_ids": [checked_msg_id(msg_id)], **operation}
        # The broker refuses what a worker has no right to any more, so a repeat does nothing that the first has not done.
        await self._ask(protocol.ACK + checked_mail_id(mail_id), body, "error", timeout)

    async def probe(self) -> None:
        """Ask something cheap that only an mq9 broker answers, if only with a refusal; raises what `request` raises."""
        with suppress(Forbidden):
            await self._ask(protocol.PUBLIC_LIST, {"limit": 1}, "mailboxes", None)

    async def _ask(
        self,
        subject: str,
        body: Mapping[str, Any],
        expected: str,
        timeout: float | None,
        repeatable_s: float = ALWAYS,
    ) -> dict[str, Any]:
        try:
            encoded = json.dumps(body).encode()
        except (TypeError, ValueError) as error:
            raise BadRequest(f"an argument cannot be sent: {error}") from None
        return await self.connection.request(
            subject, encoded, expected=expected, timeout_s=self.limit(timeout), repeatable_s=repeatable_s
        )


def fetch_filters(
    priority: str | None,
    since: datetime | float | None,
    payload: bool,
    key: str | None = None,
    tags: Iterable[str] | None = None,
    dead: str | None = None,
) -> dict[str, Any]:
    """The keys of a fetch request that narrow it down."""
    filters: dict[str, Any] = {"payload": bool(payload)}
    word = checked_priority(priority)
    if word is not None:
        filters["priority"] = word
    if since is not None:
        filters["since"] = since.timestamp() if isinstance(since, datetime) else since
    if key is not None:
        filters["key"] = _checked_text(key, "key")
    if tags is not None:
        filters["tags"] = checked_tags(tags)
    if dead is not None:
        filters["dead"] = checked_group(dead)
    return filters


def send_options(
    *,
    ttl: int | None,
    delay: float | None,
    key: str | None,
    tags: Iterable[str] | None,
    dedup_id: str | None,
    reply_to: str | None,
    correlation_id: str | None,
) -> dict[str, Any]:
    """The headers that the options of a send stand for, by their protocol names; raises BadRequest naming the option."""
    if isinstance(ttl, bool) or not isinstance(ttl, (int, type(None))):
        raise BadRequest("ttl must be a whole number of seconds")
    words = None if tags is None else checked_tags(tags)
    return {
        protocol.HEADER_TTL: ttl,
        protocol.HEADER_DELAY: None if delay is None else _delay_text(delay),
        protocol.HEADER_KEY: None if key is None else _checked_text(key, "key"),
        protocol.HEADER_TAGS: ",".join(words) if words else None,
        protocol.HEADER_DEDUP: None if dedup_id is None else _checked_text(dedup_id, "dedup_id"),
        protocol.HEADER_REPLY_TO: reply_to,
        protocol.HEADER_CORRELATION_ID: correlation_id,
    }


def lots(payloads: Iterable[Any], sent: Sequence[Sent]) -> Iterator[list[Encoded]]:
    """The payloads some at a time: enough for a pipeline to be full, few enough to be held twice.

    Arguments:
        sent: what came of all that was taken before; may grow meanwhile.

    Raises BadRequest, with `sent`, when there is one that cannot be sent.
    """
    # A single text is an iterable of characters too, and never what was meant.
    if isinstance(payloads, (str, bytes, bytearray, dict)) or not hasattr(payloads, "__iter__"):
        raise BadRequest(f"payloads must be several, as in a list, not {type(payloads).__name__}")
    lot: list[Encoded] = []
    size = 0
    for payload in payloads:
        try:
            encoded = encode(payload)
        except BadRequest as error:
            error.sent = [*sent, *[None] * (len(lot) + 1)]
            raise
        lot.append(encoded)
        size += len(encoded[0])
        if len(lot) >= LOT or size >= LOT_BYTES:
            yield lot
            lot = []
            size = 0
    if lot:
        yield lot


def _unique() -> int:
    """What makes a dedup id of our own; so are the numbers that follow it.

    A number, since nats-py needs longer for a header the more different characters there are in it.
    """
    return secrets.randbits(128)


def _sent_once(answer: dict[str, Any]) -> Sent:
    """What was sent with a dedup id of our own, used for nothing else: a repeat is one that the connection has made necessary."""
    answer.pop("duplicate", None)
    return Sent(answer)


def checked_group(group: str) -> str:
    """`group` when it can be the name of a group; raises BadRequest for anything else."""
    if not isinstance(group, str):
        raise BadRequest(f"the name of a group must be a string, not {type(group).__name__}")
    problem = protocol.bad_group_name(group) if is_unicode(group) else "group_name must be valid Unicode"
    if problem is not None:
        raise BadRequest(problem)
    return group


def checked_tags(tags: Iterable[str]) -> list[str]:
    """The tags as a list; raises BadRequest for what cannot be some."""
    # A single string is an iterable of strings too, and never what was meant.
    if isinstance(tags, (str, bytes)) or not hasattr(tags, "__iter__"):
        raise BadRequest(f"tags must be a list of strings, not {type(tags).__name__}")
    found = list(tags)
    for tag in found:
        if "," in _checked_text(tag, "a tag"):
            raise BadRequest("a tag must not have a comma")
    return found


def _checked_text(value: str, name: str) -> str:
    """A header's value that comes back as it was sent; raises BadRequest for anything else."""
    if not isinstance(value, str) or not value or value != value.strip():
        raise BadRequest(f"{name} must be a string that is not empty and does not begin or end with a space")
    return value


def _delay_text(delay: float) -> str:
    """A delay as the header has it: seconds with at most three digits after the point, never less than was asked for."""
    if isinstance(delay, bool) or not isinstance(delay, (int, float)) or not 0 <= delay <= protocol.DELAY_MAX_S:
        raise BadRequest(f"delay must be a number of seconds from 0 to {protocol.DELAY_MAX_S}")
    whole, thousandths = divmod(math.ceil(round(delay * 1000, 3)), 1000)
    return f"{whole}.{thousandths:03}" if thousandths else str(whole)


def _checked_headers(headers: Mapping[str, str] | None, options: Mapping[str, Any]) -> dict[str, str]:
    """The headers to send; raises BadRequest for what cannot stand in a header line."""
    wanted: dict[str, Any] = dict(headers or {})
    wanted.update((name, value) for name, value in options.items() if value is not None)
    sent = {}
    for name, value in wanted.items():
        if not isinstance(name, str) or not name or not _HEADER_NAME.issuperset(name):
            raise BadRequest(f"{name!r} cannot be the name of a header")
        text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        if not isinstance(text, str) or "\r" in text or "\n" in text or not is_unicode(text):
            raise BadRequest(f"the header {name} must be a string of one line")
        sent[name] = text.strip()
    return sent
