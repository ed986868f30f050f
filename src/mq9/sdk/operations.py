"""The six operations of docs/protocol.md §3 as coroutines over a connection: arguments checked, requests built, answers read.

Both faces of the SDK call these. What is refused here is what could not be sent safely or would only come back as a refusal;
everything else is the broker's to judge, so that its sentence is the one the user reads.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from mq9 import protocol
from mq9.protocol import FETCH_LIMIT_MAX, MSG_ID_MAX, PRIORITIES, Priority, bad_mail_id
from mq9.sdk.connection import checked_seconds
from mq9.sdk.errors import BadRequest
from mq9.sdk.message import Record, encode
from mq9.sdk.values import MailboxInfo, Page

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mq9.sdk.connection import Connection

_HEADER_NAME: Final = frozenset("!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")


def checked_mail_id(mail_id: str) -> str:
    """`mail_id` as a plain str that is safe in a subject; raises BadRequest for anything else."""
    if not isinstance(mail_id, str):
        raise BadRequest(f"mail_id must be a string, not {type(mail_id).__name__}")
    problem = bad_mail_id(str(mail_id)) if _is_unicode(mail_id) else "mail_id must be valid Unicode"
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

    async def create(self, request: Mapping[str, Any], timeout: float | None) -> MailboxInfo:
        """Create a mailbox from the keys of `request` that are not None."""
        body = {key: value for key, value in request.items() if value is not None}
        # Without a name, doing it twice would leave a mailbox that nobody knows of.
        answer = await self._ask(protocol.CREATE, body, "mail_id", timeout, repeatable="name" in body)
        return MailboxInfo(answer)

    async def send(
        self,
        mail_id: str,
        payload: Any,
        priority: str | None,
        headers: Mapping[str, str] | None,
        options: Mapping[str, Any],
        timeout: float | None,
    ) -> int:
        """Store one message and return its msg_id. `options` are headers by their protocol names; None is left out."""
        word = checked_priority(priority)
        if not isinstance(options.get(protocol.HEADER_TTL), (int, type(None))):
            raise BadRequest("ttl must be a whole number of seconds")
        subject = protocol.MESSAGES + checked_mail_id(mail_id) + ("" if word is None else f".{word}")
        body, content_type = encode(payload)
        sent_headers = _checked_headers(headers, options)
        if not any(name.lower() == protocol.HEADER_CONTENT_TYPE for name in sent_headers):
            sent_headers[protocol.HEADER_CONTENT_TYPE] = content_type
        answer = await self.connection.request(
            subject, body, sent_headers, expected="msg_id", timeout_s=self.limit(timeout), repeatable=False
        )
        return int(answer["msg_id"])

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

    async def delete(self, mail_id: str, msg_id: int, timeout: float | None) -> bool:
        """Delete one message; False when there is none of this number."""
        subject = f"{protocol.DELETE}{checked_mail_id(mail_id)}.{checked_msg_id(msg_id)}"
        return bool((await self._ask(subject, {}, "deleted", timeout))["deleted"])

    async def remove(self, mail_id: str, timeout: float | None) -> bool:
        """End a mailbox."""
        answer = await self._ask(protocol.REMOVE + checked_mail_id(mail_id), {}, "deleted", timeout, repeatable=False)
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

    async def probe(self) -> None:
        """Ask something cheap that only an mq9 broker answers; raises what `request` raises."""
        await self._ask(protocol.PUBLIC_LIST, {"limit": 1}, "mailboxes", None)

    async def _ask(
        self, subject: str, body: Mapping[str, Any], expected: str, timeout: float | None, *, repeatable: bool = True
    ) -> dict[str, Any]:
        try:
            encoded = json.dumps(body).encode()
        except (TypeError, ValueError) as error:
            raise BadRequest(f"an argument cannot be sent: {error}") from None
        return await self.connection.request(
            subject, encoded, expected=expected, timeout_s=self.limit(timeout), repeatable=repeatable
        )


def fetch_filters(priority: str | None, since: datetime | float | None, payload: bool) -> dict[str, Any]:
    """The keys of a fetch request that narrow it down."""
    filters: dict[str, Any] = {"payload": bool(payload)}
    word = checked_priority(priority)
    if word is not None:
        filters["priority"] = word
    if since is not None:
        filters["since"] = since.timestamp() if isinstance(since, datetime) else since
    return filters


def _checked_headers(headers: Mapping[str, str] | None, options: Mapping[str, Any]) -> dict[str, str]:
    """The headers to send; raises BadRequest for what cannot stand in a header line."""
    wanted: dict[str, Any] = dict(headers or {})
    wanted.update((name, value) for name, value in options.items() if value is not None)
    sent = {}
    for name, value in wanted.items():
        if not isinstance(name, str) or not name or not _HEADER_NAME.issuperset(name):
            raise BadRequest(f"{name!r} cannot be the name of a header")
        text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        if not isinstance(text, str) or "\r" in text or "\n" in text or not _is_unicode(text):
            raise BadRequest(f"the header {name} must be a string of one line")
        sent[name] = text.strip()
    return sent


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
