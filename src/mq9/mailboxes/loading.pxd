# Making a post office of what is stored. See loading.pyx.

from cpython.object cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

from mq9.mailboxes.index cimport Entry
from mq9.mailboxes.mailbox cimport Mailbox
from mq9.mailboxes.office cimport PostOffice


cdef struct Coming:
    # A record of the block that is taken over.
    uint32_t offset
    int priority
    PyObject* mailbox          # NULL when it is gone, or was not looked for yet


cdef class Loading:
    cdef PostOffice _office

    cdef void _expect(self, const char* block, Coming* coming, size_t at, size_t count) noexcept
    cdef int _take_record(self, uint64_t number, const char* block, uint32_t offset, uint64_t now) except -1
    cdef bint _take_key(self, Mailbox mailbox, const char* record, Entry* entry) except -1
    cdef int _take_dedup(self, uint64_t number, const char* record, uint64_t now) except -1
