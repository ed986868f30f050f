# A message on its way into a block. See writing.pyx.

from libc.stdint cimport uint64_t
from libc.string cimport memset

cdef enum:
    KEY_MAX = 256


cdef struct Message:
    # A message that is to be stored, pointing wherever its parts are.
    int priority
    uint64_t expires_ms        # 0: with its mailbox
    uint64_t visible_ms        # 0: at once
    const char* key
    size_t key_size            # 0: it has none
    const char* dedup_id
    size_t dedup_size          # 0: it has none
    const char* headers        # without the block's last, empty line
    size_t header_size
    const char* payload
    size_t payload_size


cdef inline void plain_message(Message* message, int priority, const char* payload, size_t size) noexcept nogil:
    """A message that is nothing but a payload."""
    memset(message, 0, sizeof(Message))
    message.priority = priority
    # Without headers it points to the end of none: not even nothing may be copied from NULL.
    message.headers = payload
    message.payload = payload
    message.payload_size = size


cdef int flags_of(const Message* message) noexcept nogil
cdef size_t size_of(const Message* message) noexcept nogil
cdef void write_record(char* at, const Message* message, size_t size, uint64_t msg_id, uint64_t mailbox, uint64_t now) noexcept nogil
