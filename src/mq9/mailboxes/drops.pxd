# Mailboxes by their drop_ids. See drops.pyx.

from cpython.object cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

from mq9.mailboxes.mailbox cimport Mailbox

cdef enum:
    SEGMENTS = 1024

cdef struct Place:
    uint64_t mark              # 64 bits of the drop_id
    PyObject* mailbox          # borrowed; NULL: free

cdef struct Segment:
    Place* places
    uint32_t count
    uint32_t capacity          # a power of two


cdef class DropIds:
    cdef Segment _segments[SEGMENTS]

    cdef int add(self, Mailbox mailbox, bytes drop_id) except -1
    cdef int discard(self, Mailbox mailbox) except -1
    cdef Mailbox find(self, const char* drop_id, size_t size)
