# A map from bytes to objects that is asked with a pointer and a length, so that looking up a subject or a mail_id found in a
# read buffer makes no Python object. See bytemap.pyx.

from cpython.object cimport PyObject
from libc.stdint cimport uint32_t
from libc.string cimport memcmp, memcpy

from mq9.native.memory cimport CACHE_LINE, prefetch


cdef enum:
    EXPECTED = 7
    LINE_ITEMS = 4
    NAME_SHORT = 28            # as long as a mail_id that the broker makes up
    LOOKED_AT = 176            # bytes of a found object that are looked at next: those of a Mailbox up to the last of its levels


cdef class Named:
    # An object that lives in ByteMaps under its name, which is a part of it, so that comparing it fetches nothing else. A longer one
    # is elsewhere, and its address at `_short`.
    cdef uint32_t name_size
    cdef char _short[NAME_SHORT]

    cdef int set_name(self, const char* name, size_t size) except -1
    cdef void _drop_name(self) noexcept


cdef inline const char* name_of(Named item) noexcept:
    """The `name_size` bytes of the object's name."""
    cdef const char* elsewhere
    if item.name_size <= NAME_SHORT:
        return item._short
    memcpy(&elsewhere, item._short, sizeof(elsewhere))
    return elsewhere


cdef inline bint is_named(Named item, const char* name, size_t size) noexcept:
    """Whether this is the object's name."""
    return item.name_size == size and memcmp(name_of(item), name, size) == 0


cdef inline void fetch_named(const void* item) noexcept nogil:
    """Have an object's first bytes in the cache soon, in whatever line they begin."""
    prefetch(item)
    prefetch(<const char*>item + CACHE_LINE)
    prefetch(<const char*>item + 2 * CACHE_LINE)
    prefetch(<const char*>item + LOOKED_AT - 1)


cdef struct Line:
    # One line of the cache: some of the objects whose hashes end alike. All lines of a chain but its last one are full.
    uint32_t hashes[LINE_ITEMS]
    PyObject* items[LINE_ITEMS]
    Line* more
    uint32_t count
    uint32_t unused


cdef struct Lines:
    void* memory
    Line* first
    size_t mask


cdef class ByteMap:
    cdef Lines _lines
    cdef Lines _old            # while the map grows: those that were not moved yet, from `_moved` on
    cdef size_t _moved
    cdef readonly size_t count
    cdef uint32_t _expected[EXPECTED]  # hashes of the names that will be asked for, the latest first

    cdef void expect(self, const char* name, size_t size) noexcept
    cdef PyObject* find(self, const char* name, size_t size) noexcept
    cdef int add(self, Named item) except -1
    cdef Named remove(self, const char* name, size_t size)
    cdef Line* _line(self, uint32_t hash_) noexcept
    cdef int _grow(self) except -1
    cdef int _move_some(self, size_t steps) except -1
    cdef int _move(self, Line* line) except -1
    cdef int _clear_lines(self, Lines* lines, size_t at) except -1
