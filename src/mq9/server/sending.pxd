# What a send says besides its payload. See sending.pyx.

from libc.stdint cimport uint64_t

from mq9.mailboxes.mailbox cimport Mailbox
from mq9.mailboxes.writing cimport Message
from mq9.native.memory cimport buffer_t
from mq9.wire.frames cimport Publish

cdef enum:
    NORMAL = 3

# The priority words by their ranks.
cdef const char* WORDS[5]
cdef Py_ssize_t WORD_SIZES[5]

cdef int priority_rank(const char* word, Py_ssize_t size) noexcept nogil
cdef int read_send(Publish* frame, Mailbox mailbox, int rank, uint64_t now, Message* message, buffer_t* scratch) except -1
