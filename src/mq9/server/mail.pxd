# What a session does with mailboxes. See mail.pyx.

from libc.stdint cimport uint64_t

from mq9.mailboxes.mailbox cimport Mailbox, Receiver, Sender
from mq9.mailboxes.office cimport PostOffice
from mq9.server.clock cimport SteadyClock
from mq9.server.session cimport Hub, Interest, Session
from mq9.wire.frames cimport Publish


cdef class MailHub(Hub):
    # What the sessions of a broker share of its mailboxes.
    cdef readonly PostOffice office
    cdef readonly object api
    cdef object _clock
    cdef SteadyClock _steady    # the same, where it is one: asked without a call of Python's
    cdef readonly uint64_t backlog_max
    cdef readonly Py_ssize_t header_max
    cdef readonly list throttled
    cdef bint _run_scheduled
    cdef readonly object want_blocks
    cdef readonly object failed
    cdef public uint64_t mail_in
    cdef public uint64_t mail_out

    cdef uint64_t time_ms(self) except? 0
    cdef int schedule_run(self) except -1


cdef class ReplySender(Sender):
    # Tells a session's client that its message is stored.
    cdef MailSession session
    cdef bint alias            # in the shape of MSG.SEND


cdef class MailReceiver(Receiver):
    # A client's subscription to a mailbox.
    cdef MailSession session
    cdef bytes subject
    cdef bytes queue
    cdef bytes sid
    cdef uint64_t delivered
    cdef uint64_t maximum       # 0: none
    cdef bint _is_listed        # it is among those that the session awaits


cdef class MailSession(Session):
    cdef MailHub mail
    cdef ReplySender _reply_sender
    cdef ReplySender _alias_sender
    cdef list _receivers
    cdef list _feeds
    cdef list _awaited          # members of groups whose messages have not all reached the socket yet
    cdef bint _looks_later
    cdef bint _throttled

    cdef Py_ssize_t _sent_to(self, Publish* frame) noexcept
    cdef int _send(self, Publish* frame, Py_ssize_t prefix_size) except -1
    cdef ReplySender _sender(self, bint alias)
    cdef int _visible(self, Mailbox mailbox, int mask, bytes subject, bytes queue) except -1
    cdef int _refuse_send(self, Publish* frame, object error) except -1
    cdef int _throttle(self) except -1
    cdef int _request(self, Publish* frame) except -1
    cdef int _respond(self, const char* reply, Py_ssize_t reply_size, Py_ssize_t header_size, bytes body) except -1
    cdef int await_taken(self, MailReceiver receiver) except -1
    cdef int _receive(self, bytes subject, bytes queue, bytes sid) except -1
