# Raw bytes: fixed-width little-endian numbers at any address, decimal numbers, and a growing buffer.
#
# All of it is inline and C only, so that a compiled module pays nothing for including it. Every function that takes a pointer
# trusts its caller for the bound; the caller states that bound where it reserves the room.

from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

cdef extern from *:
    """
    #if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
    #error "mq9 stores little-endian numbers and reads them in place: this machine's order is not supported"
    #endif
    """

# The widest decimal form of a uint64_t.
cdef enum:
    DECIMAL_MAX = 20


cdef inline uint16_t load16(const char* at) noexcept nogil:
    cdef uint16_t value
    memcpy(&value, at, 2)
    return value


cdef inline uint32_t load32(const char* at) noexcept nogil:
    cdef uint32_t value
    memcpy(&value, at, 4)
    return value


cdef inline uint64_t load64(const char* at) noexcept nogil:
    cdef uint64_t value
    memcpy(&value, at, 8)
    return value


cdef inline void store16(char* at, uint16_t value) noexcept nogil:
    memcpy(at, &value, 2)


cdef inline void store32(char* at, uint32_t value) noexcept nogil:
    memcpy(at, &value, 4)


cdef inline void store64(char* at, uint64_t value) noexcept nogil:
    memcpy(at, &value, 8)


cdef inline int decimal_size(uint64_t value) noexcept nogil:
    """How many digits `value` has in decimal."""
    cdef int size = 1
    while value >= 10:
        value //= 10
        size += 1
    return size


cdef inline char* write_decimal(char* at, uint64_t value) noexcept nogil:
    """Write `value` in decimal at `at` (room for DECIMAL_MAX) and return the place after it."""
    cdef int size = decimal_size(value)
    cdef char* digit = at + size
    while True:
        digit -= 1
        digit[0] = <char>(48 + value % 10)
        value //= 10
        if value == 0:
            return at + size


cdef inline char* write_bytes(char* at, const char* data, size_t size) noexcept nogil:
    """Copy `size` bytes to `at` and return the place after them."""
    memcpy(at, data, size)
    return at + size


# Bytes that grow: `data[:size]` is filled, `data[size:capacity]` is room. Zeroed is empty.
cdef struct buffer_t:
    char* data
    size_t size
    size_t capacity


cdef inline char* buffer_reserve(buffer_t* buffer, size_t extra) except NULL:
    """Make room for `extra` more bytes and return where they go; the caller adds what it wrote to `size`."""
    cdef size_t wanted = buffer.size + extra
    cdef size_t capacity = buffer.capacity
    cdef char* data
    if wanted > capacity or capacity == 0:
        if capacity < 64:
            capacity = 64
        while capacity < wanted:
            capacity *= 2
        data = <char*>realloc(buffer.data, capacity)
        if data == NULL:
            raise MemoryError()
        buffer.data = data
        buffer.capacity = capacity
    return buffer.data + buffer.size


cdef inline int buffer_append(buffer_t* buffer, const char* data, size_t size) except -1:
    """Add `size` bytes."""
    memcpy(buffer_reserve(buffer, size), data, size)
    buffer.size += size
    return 0


cdef inline void buffer_free(buffer_t* buffer) noexcept:
    """Give the memory back; the buffer is empty and usable afterwards."""
    free(buffer.data)
    buffer.data = NULL
    buffer.size = buffer.capacity = 0


cdef enum:
    CACHE_LINE = 64

cdef extern from *:
    # Begins to bring what lies there into the processor's cache; any address will do.
    void prefetch "__builtin_prefetch"(const void* at) noexcept nogil
