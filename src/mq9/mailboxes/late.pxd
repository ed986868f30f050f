# Messages that appeared behind where receivers already were. See late.pyx.

from libc.stdint cimport uint64_t

from mq9.mailboxes.index cimport Entry, Level
from mq9.mailboxes.mailbox cimport Mailbox, Receiver

cdef int late_add(Mailbox mailbox, int rank, uint64_t msg_id) except -1
cdef void late_skip(Receiver receiver) noexcept
cdef Entry* late_peek(Receiver receiver, int rank, uint64_t now) noexcept
cdef uint64_t late_count(Receiver receiver, int rank) noexcept
cdef int late_detached(Mailbox mailbox) except -1
