"""Subscriptions that are not to messages: what happens to a mailbox, and the list of public mailboxes as it changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

from mq9.mailboxes.mailbox import Mailbox
from mq9.mailboxes.office import PostOffice
from mq9.protocol import dump

if TYPE_CHECKING:
    from mq9.server.mail import MailSession


# Mailboxes of a snapshot shown in one go.
_SLICE = 256


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


class Feed(Protocol):
    """What a subscription to something of the broker's own is fed from."""

    def resume(self) -> None:
        """The client has room again."""

    def end(self) -> None:
        """The subscription has ended."""


class EventFeed:
    """A client's subscription to what happens to one mailbox; it ends with the mailbox."""

    def __init__(self, mailbox: Mailbox, session: MailSession, subject: bytes, sid: bytes) -> None:
        self._mailbox = mailbox
        self._session = session
        self._interest = session.add_feed(subject, sid, self)
        mailbox.watch(self._tell)

    def _tell(self, event: str) -> None:
        self._session.push(self._interest, dump({"event": event, "expires_at": _expires_at(self._mailbox)}))
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
        self.feeds: dict[PublicFeed, None] = {}  # in the order in which they came

    def tell(self, event: str, mailbox: Mailbox) -> None:
        """Something happened to a public mailbox."""
        if self.feeds:
            name = mailbox.name.decode()
            body = dump({"event": event, **describe(mailbox)})
            for feed in list(self.feeds):
                feed.tell(event, name, body)


class PublicFeed:
    """One client's subscription to the list: first every mailbox that is there, as there is room, then what happens.

    While the snapshot is under way, `_shown` is the last name of it: what happens to a later name will be seen when it
    is reached.
    """

    def __init__(self, feeds: PublicFeeds, session: MailSession, subject: bytes, sid: bytes) -> None:
        self._feeds = feeds
        self._session = session
        self._shown: str | None = ""
        # Those that were over when the snapshot came to them, and whose end, or renewal in time, is still to be noticed.
        self._left_out: set[str] = set()
        self._interest = session.add_feed(subject, sid, self)
        feeds.feeds[self] = None
        self.resume()

    def tell(self, event: str, name: str, body: bytes) -> None:
        """Something happened to the mailbox `name`."""
        if name in self._left_out:
            self._left_out.remove(name)
            if event == "renewed":
                self._show(self._feeds.office.public[name])
        elif self._shown is None or name <= self._shown:
            self._session.push(self._interest, body)

    def _show(self, mailbox: Mailbox) -> None:
        self._session.push(self._interest, dump({"event": "created", **describe(mailbox)}))

    def resume(self) -> None:
        """Go on with the snapshot, a slice at a time, while the client has room."""
        if self._shown is None or self not in self._feeds.feeds:
            return
        now = self._feeds.now()
        public = self._feeds.office.public
        names = list(islice(public.irange(self._shown, inclusive=(False, True)), _SLICE))
        for name in names:
            if not self._session.has_room() or self not in self._feeds.feeds:
                return  # called again when there is room
            self._shown = name
            if public[name].is_expired(now):
                self._left_out.add(name)
            else:
                self._show(public[name])
        if names:
            asyncio.get_running_loop().call_soon(self.resume)
        else:
            self._shown = None

    def end(self) -> None:
        """The client wants no more."""
        self._feeds.feeds.pop(self, None)
