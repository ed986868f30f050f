"""Delayed messages that have appeared, for the groups of a mailbox, some of which are past their places.

A group is a cursor for each priority; what appears behind it would be taken for done. Telling each group of each message would make
one long pause of a few thousand that appear together. So a mailbox that has groups lists what has appeared, and each group, before
its cursors move, takes up what lies behind them. A message costs 16 bytes, however many groups there are.

What all groups have heard of is let go, and so is, little by little, what is gone: a group that nobody asks for any more does not
make the list longer than the mailbox.
"""

from libc.stdlib cimport free, realloc
from libc.string cimport memmove

from mq9.mailboxes.index cimport level_find

cdef enum:
    STRETCH_MAX = 512
    # Stretches looked through for what is gone whenever one more is begun.
    TIDIED_AT_ONCE = 2


cdef class Appeared:
    """A list of what has appeared; nothing yet. Each entry has a place: the first one 1, and so on."""

    def __cinit__(self):
        self.end = 1

    def __dealloc__(self):
        self._drop(0, self._count)
        free(self._stretches)

    def __len__(self):
        cdef uint32_t at
        return sum([self._stretches[at].count for at in range(self._count)])

    cdef bint add(self, int rank, uint64_t msg_id) except -1:
        """A message of priority `rank` has appeared; true when it is time for `trim`."""
        cdef Stretch* stretch = &self._stretches[self._count - 1] if self._count else NULL
        cdef Stretch* stretches
        cdef Appearance* items
        cdef uint32_t capacity
        cdef bint begun = stretch == NULL or stretch.count == STRETCH_MAX
        if begun:
            if self._count == self._capacity:
                capacity = self._capacity + self._capacity // 2 + 1
                stretches = <Stretch*>realloc(self._stretches, capacity * sizeof(Stretch))
                if stretches == NULL:
                    raise MemoryError()
                self._stretches = stretches
                self._capacity = capacity
            stretch = &self._stretches[self._count]
            stretch.items = NULL
            stretch.count = stretch.capacity = 0
            self._count += 1
        if stretch.count == stretch.capacity:
            capacity = min(stretch.capacity * 2 + 4, <uint32_t>STRETCH_MAX)
            items = <Appearance*>realloc(stretch.items, capacity * sizeof(Appearance))
            if items == NULL:
                raise MemoryError()
            stretch.items = items
            stretch.capacity = capacity
        stretch.items[stretch.count].msg_id = msg_id
        stretch.items[stretch.count].place = self.end | <uint64_t>rank << 56
        stretch.count += 1
        self.end += 1
        self._asked = 0
        return begun

    cdef int seek(self, uint64_t place, AppearedCursor* cursor) except -1:
        """Put the cursor before the first entry from this place on."""
        cdef uint32_t low = 0, high = self._count, middle
        cdef Stretch* stretch
        while low < high:  # the first stretch that does not end before the place
            middle = (low + high) // 2
            stretch = &self._stretches[middle]
            if appearance_place(&stretch.items[stretch.count - 1]) < place:
                low = middle + 1
            else:
                high = middle
        cursor.stretch = low
        cursor.at = 0
        if low < self._count:
            stretch = &self._stretches[low]
            while cursor.at < stretch.count and appearance_place(&stretch.items[cursor.at]) < place:
                cursor.at += 1
        return 0

    cdef const Appearance* next(self, AppearedCursor* cursor) noexcept:
        """The next entry, or NULL; the cursor moves behind it."""
        cdef Stretch* stretch
        while cursor.stretch < self._count:
            stretch = &self._stretches[cursor.stretch]
            if cursor.at < stretch.count:
                cursor.at += 1
                return &stretch.items[cursor.at - 1]
            cursor.stretch += 1
            cursor.at = 0
        return NULL

    cdef uint64_t place_of(self, uint64_t msg_id) noexcept:
        """The place of a message, 0 when it is not listed. Looks through the list, but for a message that was asked for last."""
        cdef AppearedCursor cursor
        cdef const Appearance* item
        if self._asked != msg_id:
            self._asked = msg_id
            self._answer = 0
            cursor.stretch = cursor.at = 0
            item = self.next(&cursor)
            while item != NULL:
                if item.msg_id == msg_id:
                    self._answer = appearance_place(item)
                    break
                item = self.next(&cursor)
        return self._answer

    cdef int trim(self, Mailbox mailbox, uint64_t heard) except -1:
        """Let go of what lies before the place `heard`, and, of some of the rest, what is gone from the mailbox."""
        cdef uint32_t passed = 0, kept, at, step
        cdef Stretch* stretch
        cdef Appearance* item
        self._asked = 0
        while passed + 1 < self._count and appearance_place(&self._stretches[passed + 1].items[0]) <= heard:
            passed += 1
        if passed:
            self._drop(0, passed)
            self._tidied = 0
        for step in range(TIDIED_AT_ONCE):
            self._tidied += 1
            if self._tidied + 1 >= self._count:  # the last one is still being filled
                self._tidied = 0
                break
            stretch = &self._stretches[self._tidied]
            kept = 0
            for at in range(stretch.count):
                item = &stretch.items[at]
                if level_find(mailbox.levels[appearance_rank(item)], item.msg_id) != NULL:
                    stretch.items[kept] = item[0]
                    kept += 1
            stretch.count = kept
            if kept == 0:
                self._drop(self._tidied, self._tidied + 1)
                self._tidied -= 1
        return 0

    cdef void _drop(self, uint32_t first, uint32_t last) noexcept:
        cdef uint32_t at
        if first == last:
            return
        for at in range(first, last):
            free(self._stretches[at].items)
        memmove(self._stretches + first, self._stretches + last, (self._count - last) * sizeof(Stretch))
        self._count -= last - first
