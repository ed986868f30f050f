"""What a session does with mailboxes: send and receive, which happen once per message; the rest is in api.py.

A send is parsed where it lies in the read buffer and appended to the open block; its sender is answered when the commit has
returned. A receiver is a cursor of the post office's delivery, which writes each message from its block straight into the
client's output (docs/protocol.md §3, send and receive).
"""

import logging

from libc.string cimport memcmp

from mq9.mailboxes.format cimport (
    record_header_size, record_headers, record_msg_id, record_priority, record_size, record_time_ms,
)
from mq9.mailboxes.group cimport Group, Handout
from mq9.mailboxes.groups cimport MailboxGroups
from mq9.mailboxes.mailbox cimport LEVELS, Mailbox
from mq9.mailboxes.writing cimport Message, plain_message
from mq9.native.bytemap cimport name_of
from mq9.native.memory cimport (
    DECIMAL_MAX, buffer_free, buffer_t, decimal_size, write_bytes, write_decimal,
)
from mq9 import protocol
from mq9.protocol import ProtocolError, bad_mail_id
from mq9.server.clock cimport SteadyClock
from mq9.server.permissions cimport Patterns
from mq9.server.sending cimport NORMAL, WORD_SIZES, WORDS, priority_rank, read_send
from mq9.wire.encode cimport message_head, message_head_max

log = logging.getLogger("mq9")

cdef bytes LEASE = protocol.LEASE.encode()

cdef const char* MESSAGES = b"$mq9.AI.MAILBOX.MSG."
cdef const char* SEND_ALIAS = b"$mq9.AI.MSG.SEND."
cdef enum:
    ROOT_SIZE = 5
    MESSAGES_SIZE = 20
    SEND_ALIAS_SIZE = 17
    # Bytes given to receivers before the loop looks at its sockets again.
    RUN_BUDGET = 2097152

# When a client's transport holds output of a group: how soon to see how much of it is left.
cdef double LOOK_AGAIN_S = 0.02


cdef Py_ssize_t _last_dot(const char* text, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t at = size - 1
    while at >= 0 and text[at] != c".":
        at -= 1
    return at


cdef class MailHub(Hub):
    """What all sessions of one broker share, its mailboxes included.

    Arguments:
        loop, config, info, access: as for Hub.
        office: the post office.
        api: mq9.server.api.Api, for everything but send and receive.
        clock: a callable that gives Unix ms.
        want_blocks: called when blocks are to be read for receivers.
        failed: called when the broker cannot go on.
    """

    def __init__(self, loop, config, dict info, access, PostOffice office not None, api, clock, want_blocks, failed):
        Hub.__init__(self, loop, config, info, access)
        self.office = office
        self.api = api
        self._clock = clock
        self._steady = clock if isinstance(clock, SteadyClock) else None
        self.backlog_max = config.max_backlog
        self.throttled = []
        self.want_blocks = want_blocks
        self.failed = failed

    def adopt(self, config):
        Hub.adopt(self, config)
        self.header_max = config.max_header_size

    cdef uint64_t time_ms(self) except? 0:
        """Now, in Unix ms."""
        if self._steady is not None:
            return self._steady.time_ms()
        return self._clock()

    def now(self):
        """Now, in Unix ms."""
        return self.time_ms()

    def want_run(self):
        """As `schedule_run`, from Python."""
        self.schedule_run()

    cdef int schedule_run(self) except -1:
        """Let `run` happen in this turn of the loop."""
        if not self._run_scheduled:
            self._run_scheduled = True
            self.loop.call_soon(self.run)
        return 0

    def run(self):
        """Give receivers what is theirs, a slice at a time."""
        self._run_scheduled = False
        try:
            if self.office.run(self.time_ms(), RUN_BUDGET):
                self.schedule_run()
        except Exception:
            log.exception("an error of the broker's own while delivering")
            self.failed()
        self.want_blocks()

    def relieve(self):
        """Read again from those who were made to wait, once the disk has caught up."""
        cdef MailSession session
        if self.throttled and self.office.backlog <= self.backlog_max // 2:
            throttled, self.throttled = self.throttled, []
            for session in throttled:
                session._throttled = False
                session.resume_reading()


cdef class ReplySender(Sender):
    """Tells a session's client that its message is stored, or why it is not."""

    cdef int sent(self, const char* reply, Py_ssize_t reply_size, uint64_t msg_id, Mailbox mailbox, bint duplicate) except -1:
        cdef Interest interest
        cdef char body[3 * DECIMAL_MAX + 96]
        cdef char* at
        cdef uint64_t listening = 0 if mailbox.receivers is None else len(mailbox.receivers)
        if mailbox.groups is not None:
            listening += (<MailboxGroups>mailbox.groups).waiting
        if self.session.closed:
            return 0
        interest = self.session.own_interest(reply, reply_size)
        if interest is not None:
            at = write_bytes(body, b'{"error": "", "msg_id": ', 24) if self.alias else write_bytes(body, b'{"msg_id": ', 11)
            at = write_decimal(at, msg_id)
            at = write_bytes(at, b', "pending": ', 13)
            at = write_decimal(at, mailbox.count)
            at = write_bytes(at, b', "receivers": ', 15)
            at = write_decimal(at, listening)
            if duplicate:
                at = write_bytes(at, b', "duplicate": true', 19)
            at[0] = c"}"
            interest.write(reply, reply_size, NULL, 0, -1, body, at + 1 - body)
        return 0

    cdef int refused(self, const char* reply, Py_ssize_t reply_size, object error) except -1:
        self.session.respond_error(reply[:reply_size], error)
        return 0


cdef class MailReceiver(Receiver):
    """A client's subscription to a mailbox."""

    def describe(self):
        """As Interest.describe; the mail_id in the subject is for no eyes but the client's."""
        cdef bytes queue = None if self.group is None else (<Group>self.group).name
        return MESSAGES[:MESSAGES_SIZE] + self.mailbox.name, queue, self.sid, self.delivered, self.maximum

    cdef Py_ssize_t room(self) noexcept:
        return self.session.room()

    cdef int write(self, const char* record, uint64_t pending) except -1:
        cdef MailSession session = self.session
        cdef Mailbox mailbox = self.mailbox
        cdef int rank = record_priority(record)
        cdef Py_ssize_t subject_size = MESSAGES_SIZE + mailbox.name_size + 1 + WORD_SIZES[rank]
        cdef const char* headers = record_headers(record)
        cdef Py_ssize_t own_size = record_header_size(record)
        cdef Py_ssize_t payload_size = record + record_size(record) - headers - own_size
        cdef uint64_t msg_id = record_msg_id(record), time_ms = record_time_ms(record)
        cdef Py_ssize_t header_size = -1
        cdef char subject[256]   # a mail_id has at most 128 characters
        cdef char* start
        cdef char* at
        if session.headers:
            # 59 characters around the four values, the empty line included.
            header_size = (own_size or 10) + 59 + decimal_size(msg_id) + WORD_SIZES[rank] \
                + decimal_size(time_ms) + decimal_size(pending)
        at = write_bytes(subject, MESSAGES, MESSAGES_SIZE)
        at = write_bytes(at, name_of(mailbox), mailbox.name_size)
        at[0] = c"."
        write_bytes(at + 1, WORDS[rank], WORD_SIZES[rank])
        start = session.reserve(
            message_head_max(subject_size, len(self.sid), 0) + max(header_size, 0) + payload_size + 2
        )
        at = message_head(
            start, subject, subject_size, self.sid, len(self.sid), NULL, 0,
            header_size, max(header_size, 0) + payload_size,
        )
        if session.headers:
            if own_size:
                at = write_bytes(at, headers, own_size)
            else:
                at = write_bytes(at, b"NATS/1.0\r\n", 10)
            at = write_bytes(at, b"mq9-msg-id: ", 12)
            at = write_decimal(at, msg_id)
            at = write_bytes(at, b"\r\nmq9-priority: ", 16)
            at = write_bytes(at, WORDS[rank], WORD_SIZES[rank])
            at = write_bytes(at, b"\r\nmq9-time: ", 12)
            at = write_decimal(at, time_ms)
            at = write_bytes(at, b"\r\nmq9-pending: ", 15)
            at = write_decimal(at, pending)
            at = write_bytes(at, b"\r\n\r\n", 4)
        at = write_bytes(at, headers + own_size, payload_size)
        at = write_bytes(at, b"\r\n", 2)
        session.commit_stored(at - start)
        if self.group is not None:
            session.await_taken(self)
        session.count_out(max(header_size, 0) + payload_size)
        session.mail.mail_out += 1
        self.delivered += 1
        if self.maximum and self.delivered >= self.maximum:
            session.end_subscription(self.sid, self)
        return 0

    cdef int mailbox_ended(self) except -1:
        return self.session.end_subscription(self.sid, self)


cdef class MailSession(Session):
    """One client of a broker with mailboxes. `hub` is its broker's."""

    def __init__(self, MailHub hub not None):
        Session.__init__(self, hub)
        self.mail = hub

    def connection_lost(self, exception):
        if self._throttled:
            self._throttled = False
            self.mail.throttled.remove(self)
        Session.connection_lost(self, exception)
        self._reply_sender = self._alias_sender = None
        self._give_back()
        self.mail.api.left(self)

    def resume_writing(self):
        cdef MailReceiver receiver
        Session.resume_writing(self)
        if self._receivers:
            for receiver in self._receivers:
                self.mail.office.delivery.resume(receiver)
            self.mail.schedule_run()
        if self._feeds:
            for feed in list(self._feeds):
                feed.resume()

    cdef void expect(self, Publish* frame) noexcept:
        cdef const char* mail_id = frame.subject + MESSAGES_SIZE
        cdef Py_ssize_t size = frame.subject_size - MESSAGES_SIZE
        cdef Py_ssize_t dot
        if size > 0 and memcmp(frame.subject, MESSAGES, MESSAGES_SIZE) == 0:
            dot = _last_dot(mail_id, size)
            self.mail.office.mailboxes.expect(mail_id, dot if dot > 0 else size)

    cdef bint refuses(self, Publish* frame) except -1:
        # What is too large by its control line is refused by that, and needs no memory.
        if frame.header_size <= self.mail.header_max or self._sent_to(frame) == 0:
            return False
        self.publish(frame)
        return True

    cdef Py_ssize_t _sent_to(self, Publish* frame) noexcept:
        """Where in the subject of a send the mail_id begins; 0 when it is no send."""
        if frame.subject_size > MESSAGES_SIZE and memcmp(frame.subject, MESSAGES, MESSAGES_SIZE) == 0:
            return MESSAGES_SIZE
        if frame.subject_size > SEND_ALIAS_SIZE and memcmp(frame.subject, SEND_ALIAS, SEND_ALIAS_SIZE) == 0:
            return SEND_ALIAS_SIZE
        return 0

    cdef int publish_to_broker(self, Publish* frame) except -1:
        cdef Py_ssize_t prefix_size = self._sent_to(frame)
        return self._send(frame, prefix_size) if prefix_size else self._request(frame)

    # send

    cdef ReplySender _sender(self, bint alias):
        """Who tells this client that a message is stored, in one shape or the other."""
        cdef ReplySender sender = self._alias_sender if alias else self._reply_sender
        if sender is None:
            sender = ReplySender()
            sender.session = self
            sender.alias = alias
            if alias:
                self._alias_sender = sender
            else:
                self._reply_sender = sender
        return sender

    cdef int _send(self, Publish* frame, Py_ssize_t prefix_size) except -1:
        cdef PostOffice office = self.mail.office
        cdef const char* mail_id = frame.subject + prefix_size
        cdef Py_ssize_t mail_id_size = frame.subject_size - prefix_size
        cdef Py_ssize_t dot = _last_dot(mail_id, mail_id_size)
        cdef uint64_t now = self.mail.time_ms()
        cdef Sender sender = None
        cdef Mailbox mailbox
        cdef Message message
        cdef buffer_t scratch
        cdef int rank = priority_rank(mail_id + dot + 1, mail_id_size - dot - 1) if dot > 0 else -1
        if rank >= 0:
            mail_id_size = dot
        mailbox = office.find_destination(mail_id, mail_id_size, now)
        if mailbox is None:
            return self._refuse_send(frame, _no_mailbox(mail_id[:mail_id_size]))
        if office.refusal is not None:
            return self._refuse_send(frame, office.refusal)
        if frame.reply != NULL:
            sender = self._sender(prefix_size == SEND_ALIAS_SIZE)
        self.mail.mail_in += 1
        if frame.header_size <= 0:
            plain_message(&message, NORMAL if rank < 0 else rank, frame.data, frame.size)
        if frame.header_size <= 0 and mailbox.owner is None and office.has_room_for_any(mailbox, frame.size):
            # Nothing of it can be refused any more.
            office.send(mailbox, &message, sender, frame.reply, frame.reply_size, now)
        else:
            scratch.data = NULL
            scratch.size = scratch.capacity = 0
            try:
                if frame.header_size > self.mail.header_max:
                    sentence = f"the headers of a message must have at most {self.mail.header_max} bytes"
                    raise ProtocolError(413, sentence, "max_header_size")
                if frame.header_size > 0:
                    read_send(frame, mailbox, rank, now, &message, &scratch)
                office.send(mailbox, &message, sender, frame.reply, frame.reply_size, now)
            except ProtocolError as error:
                self._refuse_send(frame, error)
            finally:
                buffer_free(&scratch)
        if office.backlog > self.mail.backlog_max:
            self._throttle()
        return 0

    cdef int _throttle(self) except -1:
        """Too much waits for the disk: read no more of this client until that is less."""
        if not self._throttled:
            self._throttled = True
            self.mail.reach("max_backlog")
            self.pause_reading()
            self.mail.throttled.append(self)
        return 0

    cdef int forbid_publish(self, Publish* frame) except -1:
        # Who asks the broker is answered by it, like every other refusal of a request.
        if frame.reply == NULL or frame.subject_size < ROOT_SIZE or memcmp(frame.subject, b"$mq9.", ROOT_SIZE) != 0:
            return self.refuse_publish(frame.subject, frame.subject_size)
        if self.verbose:
            self.send(b"+OK\r\n")
        self.respond_error(frame.reply[:frame.reply_size], ProtocolError(403, "this user may not do that"))
        return 0

    cdef int _refuse_send(self, Publish* frame, object error) except -1:
        self.refuse(frame.subject[:frame.subject_size], None if frame.reply == NULL else frame.reply[:frame.reply_size], error)
        return 0

    # members of groups: what counts as handed over

    cdef int await_taken(self, MailReceiver receiver) except -1:
        """A member of a group was written a message: it is done when the socket has taken it."""
        (<Group>receiver.group).written(receiver.handout, self.position)
        if not receiver._is_listed:
            receiver._is_listed = self._watches_output = True
            if self._awaited is None:
                self._awaited = []
            self._awaited.append(receiver)
        if self.output_size == 0:  # it was so large that it has been written already
            self.look_what_was_taken()
        return 0

    cdef int output_taken(self) except -1:
        cdef MailReceiver receiver
        cdef Handout handout
        cdef bint waits = False
        cdef list awaited = self._awaited
        self._awaited = []
        for receiver in awaited:
            handout = receiver.handout
            receiver._is_listed = handout.group.taken(handout, self.taken) > 0
            if receiver._is_listed:
                self._awaited.append(receiver)
                waits = True
        self._watches_output = waits
        if waits and not self._looks_later:
            self._looks_later = True
            self.hub.loop.call_later(LOOK_AGAIN_S, self._look_again)
        return 0

    def _look_again(self):
        self._looks_later = False
        if not self.closed:
            self.look_what_was_taken()

    def _give_back(self):
        """The client is gone: what its socket has not taken goes to others."""
        cdef MailReceiver receiver
        cdef Handout handout
        if self._awaited is not None:
            awaited, self._awaited = self._awaited, []
            for receiver in awaited:
                handout = receiver.handout
                handout.group.taken(handout, self.taken)
                handout.group.give_back(handout, (), 0, self.mail.time_ms())

    # everything else

    cdef int _request(self, Publish* frame) except -1:
        cdef Py_ssize_t skip = max(frame.header_size, 0)
        cdef uint64_t before = self.mail.office.backlog
        self.mail.api.request(
            self,
            frame.subject[:frame.subject_size],
            None if frame.reply == NULL else frame.reply[:frame.reply_size],
            frame.data[skip:frame.size],
        )
        # Who adds nothing to what waits for the disk has no part in that.
        if self.mail.office.backlog > max(before, self.mail.backlog_max):
            self._throttle()
        return 0

    def refuse(self, bytes subject not None, bytes reply, error not None):
        """Answer a request with an error, or refuse it when it gave nowhere to answer to."""
        if reply is not None:
            self.respond_error(reply, error)
            return
        self.count_limit(error)
        self.refuse_publish(subject, len(subject))

    def count_limit(self, error not None):
        """If a ProtocolError says that this client has reached a limit, count that."""
        if error.limit is not None:
            self.hub.reach(error.limit)

    def respond(self, bytes reply, bytes body not None):
        """Send `body` to the reply subject of a request of this client, if it listens there; nobody else gets it."""
        if reply is not None:
            self._respond(reply, len(reply), -1, body)

    def respond_error(self, bytes reply not None, error not None, bytes body=None):
        """Answer a request with a ProtocolError; `body` for one that says more than the error does."""
        cdef bytes block = b"NATS/1.0\r\nNats-Service-Error: %b\r\nNats-Service-Error-Code: %d\r\n\r\n" % (
            error.sentence.encode(), error.code
        )
        self.note_refusal(str(error.code), f"{error.code} {error.sentence}")
        self.count_limit(error)
        self._respond(reply, len(reply), len(block), block + (body or error.reply()))

    def listens(self, bytes reply not None):
        """Whether this client is there and would get what is sent to `reply`."""
        return not self.closed and self.own_interest(reply, len(reply)) is not None

    cdef int _respond(self, const char* reply, Py_ssize_t reply_size, Py_ssize_t header_size, bytes body) except -1:
        cdef Interest interest
        if self.closed:
            return 0
        interest = self.own_interest(reply, reply_size)
        if interest is not None:
            interest.write(reply, reply_size, NULL, 0, header_size, body, len(body))
        return 0

    # receive

    cdef int subscribe_to_broker(self, bytes subject, bytes queue, bytes sid) except -1:
        if subject.startswith(MESSAGES[:MESSAGES_SIZE]):
            if self._receive(subject, queue, sid):
                return True
        elif self.mail.api.subscribe(self, subject, queue, sid):
            return True
        self.refuse_subscription(subject, queue)
        return False

    cdef int _receive(self, bytes subject, bytes queue, bytes sid) except -1:
        """Begin to receive from a mailbox; false when that is refused."""
        cdef const char* mail_id = <const char*>subject + MESSAGES_SIZE
        cdef Py_ssize_t mail_id_size = len(subject) - MESSAGES_SIZE
        cdef Py_ssize_t dot = _last_dot(mail_id, mail_id_size)
        cdef MailReceiver receiver
        cdef Mailbox mailbox
        cdef Group group = None
        cdef int rank, mask = 31
        if dot > 0:
            rank = priority_rank(mail_id + dot + 1, mail_id_size - dot - 1)
            if rank >= 0:
                mask = 1 << rank
                mail_id_size = dot
            elif mail_id_size - dot == 2 and mail_id[dot + 1] == c"*":
                mail_id_size = dot
        mailbox = self.mail.office.find(mail_id, mail_id_size, self.mail.time_ms())
        if mailbox is None or not self.owns(mailbox):
            return False
        mask = self._visible(mailbox, mask, subject, queue)
        if mask == 0:
            return False
        if queue is not None:
            group = self.mail.api.join(self, mailbox, queue)
            if group is None:
                return False
        receiver = MailReceiver()
        receiver.mailbox = mailbox
        receiver.mask = mask
        receiver.group = group
        receiver.session = self
        receiver.subject = subject
        receiver.queue = queue
        receiver.sid = sid
        self.keep(sid, receiver)
        if self._receivers is None:
            self._receivers = []
        self._receivers.append(receiver)
        self.mail.office.delivery.attach(receiver)
        self.mail.schedule_run()
        return True

    def owns(self, Mailbox mailbox not None):
        """Whether this client may do with the mailbox what an owner keeps to itself."""
        return not mailbox.owner_only or (self.user is not None and self.user.owner is mailbox.owner)

    cdef int _visible(self, Mailbox mailbox, int mask, bytes subject, bytes queue) except -1:
        """The priorities of `mask` that a subscription to `subject` is given; nothing of what is denied to its user."""
        cdef Patterns hidden = self._hidden_from(MESSAGES[:MESSAGES_SIZE] + mailbox.name + b".*", queue)
        cdef bytes delivered
        cdef int rank
        if hidden is not None:
            for rank in range(LEVELS):
                delivered = MESSAGES[:MESSAGES_SIZE] + mailbox.name + b"." + WORDS[rank][:WORD_SIZES[rank]]
                if hidden.match(delivered, len(delivered)):
                    mask &= ~(1 << rank)
        return mask

    def may_lease(self, Mailbox mailbox not None):
        """Whether this client may FETCH from the mailbox: what waits was asked for by one who may not do so any more, perhaps."""
        cdef bytes subject
        if self.user is None:
            return not mailbox.owner_only
        subject = LEASE + mailbox.name
        return self.owns(mailbox) and bool(self.may_publish(subject, len(subject)))

    def review(self, bytes sid not None, subscription not None):
        cdef MailReceiver receiver
        if isinstance(subscription, MailReceiver):
            receiver = <MailReceiver>subscription
            if not (
                self.owns(receiver.mailbox) and self.may_subscribe(receiver.subject, receiver.queue)
                and self._visible(receiver.mailbox, receiver.mask, receiver.subject, receiver.queue) == receiver.mask
            ):
                self.revoke(sid, receiver.subject, receiver)
        elif self.mail.api.may_watch(self, (<Interest>subscription).subject):
            Session.review(self, sid, subscription)
        else:
            self.revoke(sid, (<Interest>subscription).subject, subscription)

    def add_feed(self, bytes subject not None, bytes sid not None, feed not None):
        """Subscribe this client to something of the broker's own, which a Feed feeds; returns the Interest."""
        cdef Interest interest = Interest(subject, None, sid)
        interest.session = self
        if self._feeds is None:
            self._feeds = []
        self._feeds.append(feed)

        def end():
            self._feeds.remove(feed)
            feed.end()

        interest.on_end = end
        self.keep(sid, interest)
        return interest

    def push(self, Interest interest not None, bytes body not None):
        """Write one message to a subscription of the broker's own."""
        if not self.closed:
            interest.write(interest.subject, len(interest.subject), NULL, 0, -1, body, len(body))

    def end(self, Interest interest not None):
        """End a subscription of the broker's own."""
        self.end_subscription(interest.sid, interest)

    def has_room(self):
        """Whether this client would take more now without being asked to wait."""
        return self.room() > 0

    cdef int end_subscription(self, bytes sid, object subscription) except -1:
        cdef MailReceiver receiver
        if not isinstance(subscription, MailReceiver):
            return Session.end_subscription(self, sid, subscription)
        receiver = <MailReceiver>subscription
        if self.drop(sid):
            self._receivers.remove(receiver)
            self.mail.office.delivery.detach(receiver)
        return 0

    cdef int limit_subscription(self, bytes sid, object subscription, uint64_t maximum) except -1:
        cdef MailReceiver receiver
        if not isinstance(subscription, MailReceiver):
            return Session.limit_subscription(self, sid, subscription, maximum)
        receiver = <MailReceiver>subscription
        if maximum > receiver.delivered:
            receiver.maximum = maximum
        else:
            self.end_subscription(sid, receiver)
        return 0


cdef _no_mailbox(bytes mail_id):
    """The refusal for a mail_id that is not there: malformed, or unknown."""
    problem = bad_mail_id(mail_id.decode("utf-8", "surrogateescape"))
    return ProtocolError(404, "no such mailbox") if problem is None else ProtocolError(400, problem)
