# The keys of a mailbox's messages. See keys.pyx.

from libc.stdint cimport uint64_t


cdef class Keys:
    cdef dict _msg_ids         # key → msg_id of the message that has it
    cdef dict _keys            # msg_id → key

    cdef int put(self, bytes key, uint64_t msg_id) except -1
    cdef int forget(self, uint64_t msg_id) except -1
    cdef uint64_t find(self, bytes key) except? 0
