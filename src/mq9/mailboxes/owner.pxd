# Who created mailboxes, and how much they hold. See owner.pyx.

from libc.stdint cimport uint64_t


cdef class Owner:
    cdef readonly bytes name
    cdef public uint64_t mailboxes_max     # 0: as many as there is space for
    cdef public uint64_t bytes_max         # 0: as much as there is space for
    cdef public uint64_t mailboxes         # those that are there
    cdef public uint64_t creating          # those whose creation is not durable yet
    cdef readonly uint64_t stored          # bytes of the records of messages in its mailboxes
    cdef readonly uint64_t arriving        # of those that are not durable yet

    cdef bint has_room(self, uint64_t size) noexcept
