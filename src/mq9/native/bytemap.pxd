# A map from bytes to objects that is asked with a pointer and a length, so that looking up a subject or a mail_id found in a
# read buffer makes no Python object. See bytemap.pyx.

from cpython.object cimport PyObject
from libc.stdint cimport uint32_t


cdef enum:
    EXPECTED = 9


cdef class Named:
    # An object that lives in a ByteMap under its name. In one map at a time: the chain runs through the object itself.
    cdef readonly bytes name
    cdef uint32_t _hash
    cdef PyObject* _next


cdef class ByteMap:
    cdef PyObject** _buckets
    cdef PyObject** _old_buckets
    cdef size_t _mask, _old_mask, _moved
    cdef readonly size_t count
    cdef uint32_t _expected[EXPECTED]  # hashes of the names that will be asked for, the latest first

    cdef void expect(self, const char* name, size_t size) noexcept
    cdef PyObject* find(self, const char* name, size_t size) noexcept
    cdef int add(self, Named item) except -1
    cdef Named remove(self, const char* name, size_t size)
    cdef int _grow(self) except -1
    cdef void _move_some(self, size_t steps) noexcept
