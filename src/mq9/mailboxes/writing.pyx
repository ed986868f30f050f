"""Writing the record of a message; format.pxd states it byte by byte."""

from libc.stdint cimport uint16_t, uint32_t

from mq9.mailboxes.format cimport FLAG_DEDUP, FLAG_EXPIRES, FLAG_KEY, FLAG_VISIBLE, RECORD_MIN
from mq9.native.memory cimport store16, store32, store64, write_bytes


cdef int flags_of(const Message* message) noexcept nogil:
    """The flags of the message's record."""
    return (
        (FLAG_EXPIRES if message.expires_ms else 0) | (FLAG_VISIBLE if message.visible_ms else 0)
        | (FLAG_KEY if message.key_size else 0) | (FLAG_DEDUP if message.dedup_size else 0)
    )


cdef size_t size_of(const Message* message) noexcept nogil:
    """How many bytes the message's record has."""
    return (
        RECORD_MIN + message.header_size + message.payload_size
        + (8 if message.expires_ms else 0) + (8 if message.visible_ms else 0)
        + (2 + message.key_size if message.key_size else 0) + (2 + message.dedup_size if message.dedup_size else 0)
    )


cdef void write_record(
    char* at, const Message* message, size_t size, uint64_t msg_id, uint64_t mailbox, uint64_t now
) noexcept nogil:
    """Write the record of a message.

    Arguments:
        at: where it goes; `size` bytes are free there.
        size: as `size_of` says.
        mailbox: its number.
        now: when it was sent, Unix ms.
    """
    store32(at, <uint32_t>size)
    store32(at + 4, <uint32_t>message.header_size)
    store64(at + 8, msg_id)
    store64(at + 16, mailbox | <uint64_t>message.priority << 48 | <uint64_t>flags_of(message) << 56)
    store64(at + 24, now)
    at += RECORD_MIN
    if message.expires_ms:
        store64(at, message.expires_ms)
        at += 8
    if message.visible_ms:
        store64(at, message.visible_ms)
        at += 8
    if message.key_size:
        store16(at, <uint16_t>message.key_size)
        at = write_bytes(at + 2, message.key, message.key_size)
    if message.dedup_size:
        store16(at, <uint16_t>message.dedup_size)
        at = write_bytes(at + 2, message.dedup_id, message.dedup_size)
    at = write_bytes(at, message.headers, message.header_size)
    write_bytes(at, message.payload, message.payload_size)
