# Making a post office of what is stored. See loading.pyx.

from libc.stdint cimport uint32_t, uint64_t

from mq9.mailboxes.index cimport Entry
from mq9.mailboxes.mailbox cimport Mailbox
from mq9.mailboxes.office cimport PostOffice


cdef class Loading:
    cdef PostOffice _office

    cdef int _take_record(self, uint64_t number, const char* block, uint32_t offset, uint64_t now) except -1
    cdef bint _take_key(self, Mailbox mailbox, const char* record, Entry* entry) except -1
    cdef int _take_dedup(self, uint64_t number, const char* record, uint64_t now) except -1
