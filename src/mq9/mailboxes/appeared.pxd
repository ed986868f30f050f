# Delayed messages that have appeared, for the groups of a mailbox. See appeared.pyx.

from libc.stdint cimport uint32_t, uint64_t

from mq9.mailboxes.mailbox cimport Mailbox

cdef struct Appearance:
    uint64_t msg_id
    uint64_t place             # bits 0-55: the how manieth it is, from 1; bits 56-63: its rank

cdef struct Stretch:
    Appearance* items
    uint32_t count
    uint32_t capacity

cdef struct AppearedCursor:
    # Where a reader of the list is; valid until the list changes.
    uint32_t stretch
    uint32_t at


cdef inline int appearance_rank(const Appearance* appearance) noexcept nogil:
    return <int>(appearance.place >> 56)


cdef inline uint64_t appearance_place(const Appearance* appearance) noexcept nogil:
    return appearance.place & (((<uint64_t>1) << 56) - 1)


cdef class Appeared:
    cdef readonly uint64_t end             # the place of the one that appears next
    cdef Stretch* _stretches               # of at most STRETCH_MAX each, in their order
    cdef uint32_t _count
    cdef uint32_t _capacity
    cdef uint32_t _tidied                  # the stretch that was tidied last
    cdef uint64_t _asked                   # the msg_id that was looked for last, and its place
    cdef uint64_t _answer

    cdef bint add(self, int rank, uint64_t msg_id) except -1
    cdef int seek(self, uint64_t place, AppearedCursor* cursor) except -1
    cdef const Appearance* next(self, AppearedCursor* cursor) noexcept
    cdef uint64_t place_of(self, uint64_t msg_id) noexcept
    cdef int trim(self, Mailbox mailbox, uint64_t heard) except -1
    cdef void _drop(self, uint32_t first, uint32_t last) noexcept
