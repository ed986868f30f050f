# Frames out: MSG and HMSG written straight into an output buffer. All inline; the caller reserves the room.

from mq9.native.memory cimport DECIMAL_MAX, write_bytes, write_decimal


cdef inline size_t message_head_max(size_t subject_size, size_t sid_size, size_t reply_size) noexcept nogil:
    """An upper bound for what message_head writes."""
    return subject_size + sid_size + reply_size + 2 * DECIMAL_MAX + 12


cdef inline char* message_head(
    char* at,
    const char* subject, size_t subject_size,
    const char* sid, size_t sid_size,
    const char* reply, size_t reply_size,
    Py_ssize_t header_size, size_t size,
) noexcept nogil:
    """Write the line before a message's bytes and return the place after it.

    `header_size` below 0 makes a MSG of `size` bytes, otherwise an HMSG of `size` bytes of which the first `header_size` are its
    header block. `reply` NULL: none.
    """
    if header_size < 0:
        at = write_bytes(at, b"MSG ", 4)
    else:
        at = write_bytes(at, b"HMSG ", 5)
    at = write_bytes(at, subject, subject_size)
    at[0] = c" "
    at = write_bytes(at + 1, sid, sid_size)
    at[0] = c" "
    at += 1
    if reply != NULL:
        at = write_bytes(at, reply, reply_size)
        at[0] = c" "
        at += 1
    if header_size >= 0:
        at = write_decimal(at, header_size)
        at[0] = c" "
        at += 1
    at = write_decimal(at, size)
    return write_bytes(at, b"\r\n", 2)
