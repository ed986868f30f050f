# Copying what is alive in blocks that are mostly dead. See rewriting.pyx.

from libc.stdint cimport uint32_t, uint64_t

from mq9.mailboxes.blocks cimport Block, BlockTable
from mq9.mailboxes.index cimport Entry
from mq9.mailboxes.numbers cimport Numbers

cdef struct Move:
    # A record that was copied.
    uint64_t mailbox
    uint64_t msg_id
    uint64_t block             # where it is copied to
    uint32_t offset
    uint32_t size
    uint32_t former_offset


cdef class Source:
    # A block that is rewritten: the moves of its records, in the order of their places in it.
    cdef uint64_t number
    cdef Move* moves
    cdef uint32_t count


cdef class Rewriting:
    cdef BlockTable _table
    cdef Numbers _mailboxes
    cdef object _ended
    cdef uint64_t _next_block
    cdef readonly list blocks
    cdef readonly dict sources

    cdef bint _choose(self, Source source, const char* data) except -1
    cdef int _copy(self, Source source, const char* data) except -1
    cdef Entry* _original(self, Source source, const Move* move) noexcept
    cdef int apply(self) except -1
    cdef int give_up(self) except -1
