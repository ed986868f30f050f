"""Create, delete and remove: what each asks of the post office, and what it answers when that is durable.

Each is an effect: it is put into the open batch with the rows that make it durable, `apply` happens when the commit has
returned, `fail` when it has not gone through. `done` is then called once, with the reply or with the ProtocolError.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mq9.mailboxes.drops import drop_id_of
from mq9.mailboxes.format import MailboxRow
from mq9.mailboxes.mailbox import Mailbox
from mq9.mailboxes.office import PostOffice
from mq9.mailboxes.owner import Owner
from mq9.protocol import CreateRequest, ProtocolError

# As JSON where it is written that way at once.
Reply = dict[str, Any] | bytes
Done = Callable[[Reply | ProtocolError], None]

NO_MAILBOX = "no such mailbox"
NO_GROUP = "no such group"
NOT_OWNER = "the mailbox is another user's"


def look_whether_refused(office: PostOffice) -> None:
    """Raise why nothing can be stored now, if so. Not the same one each time: what is raised again keeps a traceback of each."""
    if (refusal := office.refusal) is not None:
        raise ProtocolError(refusal.code, refusal.sentence, refusal.limit)


def create(
    office: PostOffice,
    request: CreateRequest,
    private_id: str,
    default_ttl_s: int,
    now: int,
    done: Done,
    owner: Owner | None = None,
) -> None:
    """Create a mailbox, or answer with the one that has the name (docs/protocol.md §3, create).

    Arguments:
        private_id: the mail_id to use when the request names none.
        default_ttl_s: seconds, for a request without a ttl.
        now: Unix ms.
        owner: the user who asks, or None for nobody in particular.

    Raises ProtocolError when it is refused at once.
    """
    mail_id = (request.name or private_id).encode()
    former = _latest_row(office, mail_id)
    if request.owner_only and owner is None:
        raise ProtocolError(403, "owner_only needs a client that is known as a user")
    if former is not None and not 0 < former.expires_ms <= now:
        if former.owner_only and (owner is None or former.owner != owner.name):
            raise ProtocolError(403, NOT_OWNER)
        if request.owner_only and not former.owner_only:
            raise ProtocolError(409, "the mailbox is there already, and not owner_only")
        _answer_existing(office, request, former, now, done)
    elif request.renew and request.name is not None and request.name.startswith("m-"):
        raise ProtocolError(404, NO_MAILBOX)
    else:
        look_whether_refused(office)
        if owner is not None and not owner.may_create():
            sentence = f"this user may have at most {owner.mailboxes_max} mailboxes"
            raise ProtocolError(429, sentence, "users.max_mailboxes")
        capacity = office.capacity
        if len(office.mailboxes) + capacity.creating >= capacity.mailboxes_max:
            raise ProtocolError(429, f"the broker may have at most {capacity.mailboxes_max} mailboxes", "max_mailboxes")
        ttl_s = default_ttl_s if request.ttl is None else request.ttl
        row = MailboxRow(
            number=office.new_number(),
            mail_id=mail_id,
            public=request.public,
            desc=request.desc.encode(),
            ttl_s=ttl_s,
            created_ms=now,
            expires_ms=_end(now, ttl_s),
            owner=b"" if owner is None else owner.name,
            owner_only=request.owner_only,
        )
        if former is not None:  # it has expired and was not taken away yet
            office.drop_row(former.number, mail_id)
        office.put_row(row)
        office.then(_Creation(office, row, owner, done))


def _latest_row(office: PostOffice, mail_id: bytes) -> MailboxRow | None:
    """The mailbox of this name as it will be when everything that was asked for is durable; it may have expired."""
    change = office.latest_row(mail_id)
    if change is not None:
        return change[0]
    mailbox = office.mailboxes.get(mail_id)
    return None if mailbox is None else _row_of(mailbox)


def _answer_existing(office: PostOffice, request: CreateRequest, row: MailboxRow, now: int, done: Done) -> None:
    """The name is taken, which is no error: the first creation's values stand, unless the request renews."""
    if not request.renew:
        if office.latest_row(row.mail_id) is None:
            done(_created(row, drop_id_of(row.mail_id), is_new=False))
        else:  # the answer must not say what is not durable yet
            office.then(_Answer(_created(row, drop_id_of(row.mail_id), is_new=False), done))
        return
    look_whether_refused(office)
    ttl_s = row.ttl_s if request.ttl is None else request.ttl
    renewed = row._replace(ttl_s=ttl_s, expires_ms=_end(now, ttl_s))
    office.put_row(renewed)
    office.then(_Renewal(office, renewed, done))


def delete(office: PostOffice, mailbox: Mailbox, msg_id: int, now: int, done: Done) -> None:
    """Delete one message of a mailbox; `now` in Unix ms."""
    if mailbox.where(msg_id, now) is None:
        done({"deleted": False})
        return
    office.kill(mailbox, msg_id)
    office.then(_Deletion(office, mailbox, msg_id, done))


def remove(office: PostOffice, mailbox: Mailbox, done: Done) -> None:
    """End a mailbox at once."""
    latest = _latest_row(office, mailbox.name)
    # Otherwise its end was asked for already, and the name may be on its way to another mailbox, which is not this one's.
    if latest is not None and latest.number == mailbox.number:
        office.drop_row(mailbox.number, mailbox.name)
    office.then(_Removal(office, mailbox, done))


def _end(now: int, ttl_s: int) -> int:
    return now + ttl_s * 1_000 if ttl_s else 0


def _row_of(mailbox: Mailbox) -> MailboxRow:
    return MailboxRow(
        mailbox.number,
        mailbox.name,
        mailbox.public,
        mailbox.desc,
        mailbox.ttl_s,
        mailbox.created_ms,
        mailbox.expires_ms,
        b"" if mailbox.owner is None else mailbox.owner.name,
        mailbox.owner_only,
    )


def _created(row: MailboxRow, drop_id: bytes, *, is_new: bool) -> Reply:
    # Neither id has a character that JSON would write otherwise.
    return (
        b'{"mail_id": "%b", "mail_address": "%b", "drop_id": "%b", "is_new": %b, "public": %b, "ttl": %d, '
        b'"created_at": %d, "expires_at": %b%b}'
        % (
            row.mail_id,
            row.mail_id,
            drop_id,
            b"true" if is_new else b"false",
            b"true" if row.public else b"false",
            row.ttl_s,
            row.created_ms // 1_000,
            b"%d" % (row.expires_ms // 1_000) if row.expires_ms else b"null",
            b', "owner_only": true' if row.owner_only else b"",
        )
    )


class _Answer:
    """Nothing but an answer that waits for what came before it."""

    def __init__(self, reply: Reply, done: Done) -> None:
        self._reply = reply
        self._done = done

    def apply(self, now: int) -> None:
        """The state that the answer speaks of is durable."""
        self._done(self._reply)

    def fail(self, error: ProtocolError) -> None:
        """It is not."""
        self._done(error)


class _Creation:
    def __init__(self, office: PostOffice, row: MailboxRow, owner: Owner | None, done: Done) -> None:
        self._office = office
        self._row = row
        self._owner = owner
        self._done = done
        office.capacity.creating += 1
        if owner is not None:
            owner.creating += 1

    def apply(self, now: int) -> None:
        """The mailbox is durable: everybody may see it."""
        self._end()
        drop_id = drop_id_of(self._row.mail_id)
        self._office.register(Mailbox(self._row, self._owner), drop_id)
        self._done(_created(self._row, drop_id, is_new=True))

    def fail(self, error: ProtocolError) -> None:
        """There is no mailbox."""
        self._end()
        self._done(error)

    def _end(self) -> None:
        self._office.capacity.creating -= 1
        if self._owner is not None:
            self._owner.creating -= 1


class _Renewal:
    def __init__(self, office: PostOffice, row: MailboxRow, done: Done) -> None:
        self._office = office
        self._row = row
        self._done = done

    def apply(self, now: int) -> None:
        """The new end is durable."""
        mailbox = self._office.mailboxes.get(self._row.mail_id)
        if mailbox is None or mailbox.number != self._row.number:
            self._done(ProtocolError(404, NO_MAILBOX))
            return
        self._office.renewed(mailbox, self._row.ttl_s, self._row.expires_ms)
        self._done(_created(self._row, drop_id_of(self._row.mail_id), is_new=False))

    def fail(self, error: ProtocolError) -> None:
        """The old end stands."""
        self._done(error)


class _Deletion:
    def __init__(self, office: PostOffice, mailbox: Mailbox, msg_id: int, done: Done) -> None:
        self._office = office
        self._mailbox = mailbox
        self._msg_id = msg_id
        self._done = done

    def apply(self, now: int) -> None:
        """The removal is durable; of two that asked at once the first was it."""
        self._done({"deleted": self._office.remove_message(self._mailbox, self._msg_id)})

    def fail(self, error: ProtocolError) -> None:
        """The message stays."""
        self._done(error)


class _Removal:
    def __init__(self, office: PostOffice, mailbox: Mailbox, done: Done) -> None:
        self._office = office
        self._mailbox = mailbox
        self._done = done

    def apply(self, now: int) -> None:
        """The end is durable."""
        first = not self._mailbox.gone
        self._office.end(self._mailbox, "removed")
        self._done({"deleted": first})

    def fail(self, error: ProtocolError) -> None:
        """The mailbox stays."""
        self._done(error)
