# What one commit will write, and who is to be told when it has. See batch.pyx.

from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from mq9.mailboxes.blocks cimport Block
from mq9.mailboxes.dedup cimport Seen
from mq9.mailboxes.mailbox cimport Mailbox, Sender
from mq9.mailboxes.rewriting cimport Rewriting
from mq9.native.memory cimport buffer_t

cdef struct Sent:
    # A message in the batch. References to `mailbox` and `sender` (NULL: nobody waits) are held.
    PyObject* mailbox
    PyObject* sender
    uint64_t msg_id
    uint64_t expires_ms
    uint64_t block
    uint32_t offset
    uint32_t size
    uint32_t reply_at
    uint32_t reply_size
    uint64_t visible_ms        # 0: at once
    Seen* seen                 # what is noted of its dedup id, or NULL
    uint8_t priority
    uint8_t flags              # those of its record


cdef class Batch:
    cdef readonly list blocks
    cdef Block open_block
    cdef Sent* sents
    cdef readonly size_t count
    cdef size_t _capacity
    cdef buffer_t replies
    cdef readonly list effects
    cdef readonly list rows
    cdef readonly list dropped
    cdef readonly list expired             # numbers of the expired mailboxes whose rows it removes
    cdef readonly list changes             # (mail_id, change) as the post office noted them
    cdef readonly list groups              # (Group, its handouts whose rows it writes)
    cdef readonly list ended               # keys of rows of ended groups that it removes
    cdef Rewriting rewriting   # what it copies of blocks that are mostly dead, or None
    cdef readonly list kills               # (Mailbox, msg_id) of messages that it deletes
    cdef readonly list keyed               # (number of a message in it, the message's key)
    cdef readonly list overtaken           # (block, offset) of records that were found to have been replaced
    cdef list marks                        # (block, offset) of the records that it marks as dead
    cdef Py_ssize_t rows_marked            # how many of its rows, the last ones, are those marks
    cdef Py_ssize_t _keyed_at
    cdef size_t size           # bytes of the records of its messages, and what its effects count for

    cdef void _release(self) noexcept
    cdef bytes key_of(self, size_t at)
    cdef void expect(self, size_t at, size_t last) noexcept
    cdef Sent* add(self, Mailbox mailbox, Sender sender, const char* reply, size_t reply_size) except NULL
