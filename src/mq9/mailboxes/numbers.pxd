# Mailboxes by their numbers. See numbers.pyx.

from cpython.object cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

from mq9.mailboxes.mailbox cimport Mailbox

cdef enum:
    NUMBERS_SHIFT = 7
    NUMBERS = 128

cdef struct Numbered:
    uint32_t count             # places that are taken
    PyObject* places[NUMBERS]  # a reference to each is held


cdef class Numbers:
    cdef Numbered** _chunks
    cdef uint64_t _base        # the number of the first place of the first chunk
    cdef uint64_t _count, _capacity

    cdef Mailbox find(self, uint64_t number)
    cdef int put(self, Mailbox mailbox) except -1
    cdef int remove(self, Mailbox mailbox) except -1
    cdef void expect(self, uint64_t number) noexcept
    cdef PyObject* look(self, uint64_t number) noexcept
    cdef PyObject** _place(self, uint64_t number) noexcept
    cdef int _trim(self) noexcept
