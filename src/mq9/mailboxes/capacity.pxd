# How much a post office may hold, and what is on its way into it. See capacity.pyx.

from libc.stdint cimport uint64_t

from mq9.mailboxes.mailbox cimport Mailbox
from mq9.mailboxes.writing cimport Message


cdef class Capacity:
    cdef public uint64_t mailboxes_max
    cdef public uint64_t messages_max
    cdef public uint64_t mailbox_messages_max
    cdef public uint64_t mailbox_bytes_max
    cdef public uint64_t message_ids_max
    cdef public uint64_t creating          # mailboxes whose creation is not durable yet
    cdef readonly uint64_t arriving        # messages that are not durable yet

    cdef bint has_room(self, Mailbox mailbox, uint64_t messages, uint64_t size) noexcept
    cdef int look(self, Mailbox mailbox, uint64_t messages, uint64_t ids, Message* message, uint64_t size) except -1
    cdef void arrives(self, Mailbox mailbox, uint64_t size) noexcept
    cdef void arrived(self, Mailbox mailbox, uint64_t size) noexcept
