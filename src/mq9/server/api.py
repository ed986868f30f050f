"""The operations of docs/protocol.md §3 to §6 other than send and receive: what a request's subject names, is done here.

A request is answered to the connection that asked; one without a reply subject is carried out all the same, and refused
with the -ERR of a publish when it cannot be.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

from mq9 import protocol
from mq9.mailboxes import operations
from mq9.mailboxes.group import Group
from mq9.mailboxes.mailbox import Mailbox
from mq9.mailboxes.office import PostOffice
from mq9.native.base32 import base32
from mq9.protocol import CreateRequest, ListRequest, ProtocolError, bad_mail_id, dump
from mq9.routing.subjects import valid_for_publish
from mq9.server.aliases import QueryShape, with_empty_error
from mq9.server.feeds import EventFeed, PublicFeed, PublicFeeds, describe
from mq9.server.fetching import Fetcher
from mq9.server.leasing import Leasing
from mq9.server.mail import MailSession
from mq9.server.receipts import receipt

_CREATE = protocol.CREATE.encode()
_MESSAGES = protocol.MESSAGES.encode()
_PUBLIC_LIST = protocol.PUBLIC_LIST.encode()
_FETCH = protocol.FETCH.encode()
_DELETE = protocol.DELETE.encode()
_REMOVE = protocol.REMOVE.encode()
_EVENTS = protocol.EVENTS.encode()
_LEASE = protocol.LEASE.encode()
_ACK = protocol.ACK.encode()
_STATUS = protocol.STATUS.encode()
_QUERY = protocol.FETCH_ALIAS.encode()
_DELETE_ALIAS = protocol.DELETE_ALIAS.encode()
_SEND_ALIAS = protocol.SEND_ALIAS.encode()
_DROP_PREFIX = protocol.DROP_PREFIX.encode()
_WITH_MAIL_ID = (
    *(_FETCH, _DELETE, _REMOVE, _EVENTS),
    *(_LEASE, _ACK, _STATUS, _QUERY, _DELETE_ALIAS, _SEND_ALIAS),
)
_PRIVATE_ID_BYTES = 17
_PRIVATE_ID_CHARACTERS = 26


def new_private_id() -> str:
    """A mail_id that nobody can guess: 130 random bits of the operating system (docs/protocol.md §2)."""
    return "m-" + base32(secrets.token_bytes(_PRIVATE_ID_BYTES), _PRIVATE_ID_CHARACTERS).decode()


def _split(rest: bytes) -> tuple[bytes, bytes]:
    """The mail_id and the msg_id at the end of a subject."""
    mail_id, _, number = rest.rpartition(b".")
    return mail_id, number


def _msg_id(number: bytes) -> int:
    """Raises ProtocolError 400."""
    if not number.isdigit() or len(number) > 20 or int(number) > protocol.MSG_ID_MAX:
        raise ProtocolError(400, "the last token must be the msg_id of a message")
    return int(number)


class Api:
    """Requests and subscriptions below `$mq9.` that sessions hand over.

    Arguments:
        office: the post office.
        default_ttl: seconds that a mailbox lives when its creator does not say.
        fetcher: reads messages for fetch.
        leasing: carries out FETCH and ACK.
        now: gives Unix ms.
    """

    def __init__(
        self, office: PostOffice, default_ttl: int, fetcher: Fetcher, leasing: Leasing, now: Callable[[], int]
    ) -> None:
        self._office = office
        self.default_ttl = default_ttl
        self._fetcher = fetcher
        self._leasing = leasing
        self._now = now
        self.public_feeds = PublicFeeds(office, now)
        self._by_prefix = {
            _FETCH: self._fetch,
            _DELETE: self._delete,
            _REMOVE: self._remove,
            _LEASE: self._lease,
            _ACK: self._acknowledge,
            _STATUS: self._status,
            _QUERY: self._query,
            _DELETE_ALIAS: self._delete_alias,
        }

    def request(self, session: MailSession, subject: bytes, reply: bytes | None, body: bytes) -> None:
        """Carry out the request that was published to `subject`."""
        try:
            if subject == _CREATE:
                self._create(session, reply, body)
            elif subject == _PUBLIC_LIST:
                self._list(session, reply, body)
            else:
                for prefix, operation in self._by_prefix.items():
                    if subject.startswith(prefix):
                        operation(session, subject[len(prefix) :], reply, body)
                        return
                raise ProtocolError(404, "no such operation")
        except ProtocolError as error:
            session.refuse(subject, reply, error)

    def subscribe(self, session: MailSession, subject: bytes, queue: bytes | None, sid: bytes) -> bool:
        """Begin a subscription below `$mq9.` that is not to messages; False when it is refused."""
        # A wildcard that does not reach down to a mail_id sees nothing, which is no reason to refuse it.
        if not valid_for_publish(subject) and not subject.startswith(_WITH_MAIL_ID):
            session.add_interest(subject, queue, sid)
            return True
        if queue is not None:
            return False
        if subject == _PUBLIC_LIST:
            PublicFeed(self.public_feeds, session, subject, sid)
            return True
        if subject.startswith(_EVENTS):
            mailbox = self._office.get(subject[len(_EVENTS) :], self._now())
            if mailbox is None or not session.owns(mailbox):
                return False
            EventFeed(mailbox, session, subject, sid)
            return True
        return False

    def may_watch(self, session: MailSession, subject: bytes) -> bool:
        """Whether a subscription to `subject` that is not to messages may go on, as far as owners have a say."""
        mailbox = self._office.get(subject[len(_EVENTS) :], self._now()) if subject.startswith(_EVENTS) else None
        return mailbox is None or session.owns(mailbox)

    def _create(self, session: MailSession, reply: bytes | None, body: bytes) -> None:
        if session.creates is not None and not session.creates.take(self._now() / 1_000):
            sentence = f"one client may create at most {int(session.creates.rate)} mailboxes in a second"
            raise ProtocolError(429, sentence, "max_create_rate")
        request = CreateRequest.parse(body)
        operations.create(
            self._office,
            request,
            new_private_id(),
            self.default_ttl,
            self._now(),
            self._answer(session, _CREATE, reply),
            None if session.user is None else session.user.owner,
        )

    def _list(self, session: MailSession, reply: bytes | None, body: bytes) -> None:
        request = ListRequest.parse(body)
        now = self._now()
        found: list[Mailbox] = []
        start = max(request.after, request.prefix)
        more = False
        for name in self._office.public.irange(start):
            if not name.startswith(request.prefix):
                break
            mailbox = self._office.public[name]
            if name == request.after or mailbox.is_expired(now):
                continue
            if len(found) == request.limit:
                more = True
                break
            found.append(mailbox)
        session.respond(
            reply,
            dump(
                {
                    "mailboxes": [describe(mailbox) for mailbox in found],
                    "next": found[-1].name.decode() if more else None,
                }
            ),
        )

    def _fetch(self, session: MailSession, rest: bytes, reply: bytes | None, body: bytes) -> None:
        mailbox = self._own_mailbox(session, rest)
        self._fetcher.fetch(session, mailbox, protocol.FetchRequest.parse(body), reply)

    def _query(self, session: MailSession, rest: bytes, reply: bytes | None, body: bytes) -> None:
        request = protocol.FetchRequest.parse(body)
        self._fetcher.fetch(session, self._own_mailbox(session, rest), request, reply, QueryShape())

    def _delete(self, session: MailSession, rest: bytes, reply: bytes | None, _body: bytes) -> None:
        mail_id, number = _split(rest)
        done = self._answer(session, _DELETE + rest, reply)
        operations.delete(self._office, self._own_mailbox(session, mail_id), _msg_id(number), self._now(), done)

    def _delete_alias(self, session: MailSession, rest: bytes, reply: bytes | None, _body: bytes) -> None:
        mail_id, number = _split(rest)
        done = with_empty_error(self._answer(session, _DELETE_ALIAS + rest, reply))
        operations.delete(self._office, self._own_mailbox(session, mail_id), _msg_id(number), self._now(), done)

    def _status(self, session: MailSession, rest: bytes, reply: bytes | None, body: bytes) -> None:
        address, number = _split(rest)
        is_drop = address.startswith(_DROP_PREFIX)
        mailbox = self._office.destination(address, self._now()) if is_drop else self._mailbox(address)
        if mailbox is None:
            raise ProtocolError(404, operations.NO_MAILBOX)
        asked = protocol.StatusRequest.parse(body)
        payload_max = self._leasing.payload_max
        session.respond(reply, dump(receipt(self._office, mailbox, _msg_id(number), asked, payload_max, self._now())))

    def _remove(self, session: MailSession, rest: bytes, reply: bytes | None, _body: bytes) -> None:
        operations.remove(self._office, self._own_mailbox(session, rest), self._answer(session, _REMOVE + rest, reply))

    def _lease(self, session: MailSession, rest: bytes, reply: bytes | None, body: bytes) -> None:
        self._leasing.fetch(session, self._own_mailbox(session, rest), protocol.LeaseRequest.parse(body), reply)

    def _acknowledge(self, session: MailSession, rest: bytes, reply: bytes | None, body: bytes) -> None:
        mailbox = self._own_mailbox(session, rest)
        request = protocol.AckRequest.parse(body, rest.decode())
        self._leasing.acknowledge(session, mailbox, request, _ACK + rest, reply)

    def join(self, session: MailSession, mailbox: Mailbox, queue: bytes) -> Group | None:
        """The group that a subscription with a queue group joins, or None when that is refused."""
        try:
            name = queue.decode()
            if protocol.bad_group_name(name) is None:
                return self._leasing.join(mailbox, queue)
        except UnicodeDecodeError:
            return None
        except ProtocolError as error:
            session.count_limit(error)
        return None

    def left(self, session: MailSession) -> None:
        """A client has gone."""
        self._leasing.left(session)

    def _mailbox(self, mail_id: bytes) -> Mailbox:
        """The mailbox that a request names.

        Raises ProtocolError 404, 400 when there can be none of that name, 403 for a drop_id, whether it is one or not.
        """
        if mail_id.startswith(_DROP_PREFIX):
            raise ProtocolError(403, "a drop_id accepts only send and status")
        mailbox = self._office.get(mail_id, self._now())
        if mailbox is None:
            problem = bad_mail_id(mail_id.decode("utf-8", "surrogateescape"))
            raise ProtocolError(404, operations.NO_MAILBOX) if problem is None else ProtocolError(400, problem)
        return mailbox

    def _own_mailbox(self, session: MailSession, mail_id: bytes) -> Mailbox:
        """The mailbox that a request of its owner names, if it is one of those in which only the owner may do that.

        Raises ProtocolError as `_mailbox`; for somebody else 403 when they could find out by a send that there is such a mailbox,
        else what is said of one that is not there.
        """
        mailbox = self._mailbox(mail_id)
        if not session.owns(mailbox):
            may_know = session.publishes(_MESSAGES + mail_id) or session.publishes(_CREATE)
            raise ProtocolError(403, operations.NOT_OWNER) if may_know else ProtocolError(404, operations.NO_MAILBOX)
        return mailbox

    def _answer(self, session: MailSession, subject: bytes, reply: bytes | None) -> operations.Done:
        def done(result: operations.Reply | ProtocolError) -> None:
            if isinstance(result, ProtocolError):
                session.refuse(subject, reply, result)
            else:
                session.respond(reply, result if isinstance(result, bytes) else dump(result))

        return done
