"""Subscriptions that are not to messages: what happens to a mailbox, and the list of public mailboxes as it changes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mq9.mailboxes.mailbox import Mailbox
from mq9.mailboxes.office import PostOffice

if TYPE_CHECKING:
    from mq9.server.mail import MailSession


def _dump(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")


def _expires_at(mailbox: Mailbox) -> int | None:
    return mailbox.expires_ms // 1_000 if mailbox.expires_ms else None


def describe(mailbox: Mailbox) -> dict[str, Any]:
    """A public mailbox as list shows it (docs/protocol.md §3, list)."""
    return {
        "mail_id": mailbox.name.decode(),
        "desc": mailbox.desc.decode(),
        "ttl": mailbox.ttl_s,
        "created_at": mailbox.created_ms // 1_000,
        "expires_at": _expires_at(mailbox),
        "messages": mailbox.count,
    }


class EventFeed:
    """A client's subscription to what happens to one mailbox; it ends with the mailbox."""

    def __init__(self, mailbox: Mailbox, session: MailSession, subject: bytes, sid: bytes) -> None:
        self._mailbox = mailbox
        self._session = session
        self._interest = session.add_feed(subject, sid, self)
        mailbox.watch(self._tell)

    def _tell(self, event: str) -> None:
        self._session.push(self._interest, _dump({"event": event, "expires_at": _expires_at(self._mailbox)}))
        if event != "renewed":
            self._session.end(self._interest)

    def resume(self) -> None:
        """Nothing waits here."""

    def end(self) -> None:
        """The client wants no more."""
        self._mailbox.unwatch(self._tell)


class PublicFeeds:
    """All subscriptions to the list of public mailboxes."""

    def __init__(self, office: PostOffice, now: Callable[[], int]) -> None:
        self.office = office
        self.now = now
        self.feeds: set[PublicFeed] = set()

    def tell(self, event: str, mailbox: Mailbox) -> None:
        """Something happened to a public mailbox."""
        if self.feeds:
            name = mailbox.name.decode()
            body = _dump({"event": event, **describe(mailbox)})
            for feed in list(self.feeds):
                feed.tell(name, body)


class PublicFeed:
    """One client's subscription to the list: first every mailbox that is there, as there is room, then what happens.

    While the snapshot is under way, `_shown` is the last name of it: what happens to a later name will be seen when it
    is reached.
    """

    def __init__(self, feeds: PublicFeeds, session: MailSession, subject: bytes, sid: bytes) -> None:
        self._feeds = feeds
        self._session = session
        self._shown: str | None = ""
        self._interest = session.add_feed(subject, sid, self)
        feeds.feeds.add(self)
        self.resume()

    def tell(self, name: str, body: bytes) -> None:
        """Something happened to the mailbox `name`."""
        if self._shown is None or name <= self._shown:
            self._session.push(self._interest, body)

    def resume(self) -> None:
        """Go on with the snapshot while the client has room."""
        if self._shown is None:
            return
        now = self._feeds.now()
        for name in list(self._feeds.office.public.irange(self._shown, inclusive=(False, True))):
            if not self._session.has_room() or self not in self._feeds.feeds:
                return
            self._shown = name
            mailbox = self._feeds.office.public[name]
            if not mailbox.is_expired(now):
                self._session.push(self._interest, _dump({"event": "created", **describe(mailbox)}))
        self._shown = None

    def end(self) -> None:
        """The client wants no more."""
        self._feeds.feeds.discard(self)
