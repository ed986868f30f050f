"""Mailboxes by their numbers, which is what records name them by.

Numbers are given out one after the other, so a mailbox is found by its place: chunks of pointers, a chunk going when the last
mailbox in it does. That is about 8 bytes for a mailbox.
"""

from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memmove

from mq9.native.memory cimport prefetch


cdef class Numbers:
    """The mailboxes that are there."""

    def __dealloc__(self):
        cdef uint64_t at
        cdef int place
        for at in range(self._count):
            if self._chunks[at] != NULL:
                for place in range(NUMBERS):
                    if self._chunks[at].places[place] != NULL:
                        Py_DECREF(<object>self._chunks[at].places[place])
                free(self._chunks[at])
        free(self._chunks)

    cdef PyObject** _place(self, uint64_t number) noexcept:
        cdef uint64_t at
        if number < self._base:
            return NULL
        at = (number - self._base) >> NUMBERS_SHIFT
        if at >= self._count or self._chunks[at] == NULL:
            return NULL
        return &self._chunks[at].places[number & (NUMBERS - 1)]

    cdef Mailbox find(self, uint64_t number):
        """The mailbox of this number, or None."""
        cdef PyObject* mailbox = self.look(number)
        return <Mailbox>mailbox if mailbox != NULL else None

    cdef void expect(self, uint64_t number) noexcept:
        """`look` will be called with it: fetch what it will look at."""
        prefetch(self._place(number))

    cdef PyObject* look(self, uint64_t number) noexcept:
        """As `find`, or NULL: borrowed, and not looked at itself."""
        cdef PyObject** place = self._place(number)
        return NULL if place == NULL else place[0]

    def get(self, uint64_t number):
        """The mailbox of this number, or None."""
        return self.find(number)

    cdef int put(self, Mailbox mailbox) except -1:
        """A mailbox is there; no other one has its number."""
        cdef uint64_t first = mailbox.number & ~<uint64_t>(NUMBERS - 1)
        cdef uint64_t at, capacity
        cdef Numbered** chunks
        if self._count == 0:
            self._base = first
        # A number below all others comes only when commits overtake each other: then there is room made at the front.
        at = (self._base - first) >> NUMBERS_SHIFT if first < self._base else 0
        capacity = max(self._count + at, ((first - self._base) >> NUMBERS_SHIFT) + 1 if at == 0 else 0)
        if capacity > self._capacity:
            capacity = max(capacity, self._capacity + self._capacity // 2 + 8)
            chunks = <Numbered**>realloc(self._chunks, capacity * sizeof(Numbered*))
            if chunks == NULL:
                raise MemoryError()
            self._chunks = chunks
            self._capacity = capacity
        if at:
            memmove(self._chunks + at, self._chunks, self._count * sizeof(Numbered*))
            self._count += at
            self._base = first
            while at:
                at -= 1
                self._chunks[at] = NULL
        at = (first - self._base) >> NUMBERS_SHIFT
        while self._count <= at:
            self._chunks[self._count] = NULL
            self._count += 1
        if self._chunks[at] == NULL:
            self._chunks[at] = <Numbered*>calloc(1, sizeof(Numbered))
            if self._chunks[at] == NULL:
                raise MemoryError()
        Py_INCREF(mailbox)
        self._chunks[at].places[mailbox.number & (NUMBERS - 1)] = <PyObject*>mailbox
        self._chunks[at].count += 1
        return 0

    cdef int remove(self, Mailbox mailbox) except -1:
        """A mailbox is there no more."""
        cdef PyObject** place = self._place(mailbox.number)
        cdef uint64_t at
        if place == NULL or place[0] != <PyObject*>mailbox:
            return 0
        at = (mailbox.number - self._base) >> NUMBERS_SHIFT
        place[0] = NULL
        self._chunks[at].count -= 1
        if self._chunks[at].count == 0:
            free(self._chunks[at])
            self._chunks[at] = NULL
            if at == 0:
                self._trim()
        Py_DECREF(mailbox)
        return 0

    cdef int _trim(self) noexcept:
        """Forget the places at the front that nobody has."""
        cdef uint64_t gone = 0
        while gone < self._count and self._chunks[gone] == NULL:
            gone += 1
        # Moving the rest down is worth it only now and then.
        if gone * 2 >= self._count:
            self._count -= gone
            memmove(self._chunks, self._chunks + gone, self._count * sizeof(Numbered*))
            self._base += gone << NUMBERS_SHIFT
        return 0
