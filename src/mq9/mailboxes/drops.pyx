"""Mailboxes by their drop_ids, the addresses that can be sent to and not read (docs/protocol.md §2).

A drop_id is made of its mail_id one way, so nothing of it is stored: the table has 64 bits of each, and whether a mailbox
that it finds is the right one is seen by making its drop_id again. 16 bytes a mailbox and some free places, in many small hash
tables, so that none takes long to grow.
"""

from hashlib import sha256

from libc.stdlib cimport calloc, free

from mq9.native.base32 import base32
from mq9.protocol import DROP_ID_BYTES, DROP_PREFIX

cdef enum:
    CAPACITY_FIRST = 4


_PREFIX = DROP_PREFIX.encode()


def drop_id_of(bytes mail_id not None):
    """The address for those who may only send to a mailbox (docs/protocol.md §2); nothing leads from it to the mail_id."""
    return _PREFIX + base32(sha256(b"mq9 drop_id\0" + mail_id).digest(), DROP_ID_BYTES - 2)


cdef uint64_t _mark_of(const char* drop_id) noexcept:
    """64 bits of the drop_id, which is a hash itself."""
    cdef uint64_t mark = 0
    cdef int at
    for at in range(2, 15):
        mark = mark << 5 | (drop_id[at] - c"a" if drop_id[at] >= c"a" else drop_id[at] - c"2" + 26) & 31
    return mark


cdef class DropIds:
    """No mailboxes yet."""

    def __dealloc__(self):
        cdef int at
        for at in range(SEGMENTS):
            free(self._segments[at].places)

    cdef int add(self, Mailbox mailbox, bytes drop_id) except -1:
        """Find `mailbox` by its drop_id from now on; it must be discarded before it goes."""
        cdef uint64_t mark = _mark_of(drop_id)
        cdef Segment* segment = &self._segments[mark % SEGMENTS]
        if (segment.count + 1) * 4 > segment.capacity * 3:
            _grow(segment)
        _put(segment, mark, <PyObject*>mailbox)
        return 0

    cdef int discard(self, Mailbox mailbox) except -1:
        """Forget the mailbox."""
        cdef uint64_t mark = _mark_of(drop_id_of(mailbox.name))
        cdef Segment* segment = &self._segments[mark % SEGMENTS]
        cdef uint32_t at, mask = segment.capacity - 1
        cdef Place moved
        if segment.count == 0:
            return 0
        at = (mark // SEGMENTS) & mask
        while segment.places[at].mailbox != <PyObject*>mailbox:
            if segment.places[at].mailbox == NULL:
                return 0
            at = (at + 1) & mask
        segment.places[at].mailbox = NULL
        segment.count -= 1
        # What follows may have been put off its own place by the one that is gone.
        at = (at + 1) & mask
        while segment.places[at].mailbox != NULL:
            moved = segment.places[at]
            segment.places[at].mailbox = NULL
            segment.count -= 1
            _put(segment, moved.mark, moved.mailbox)
            at = (at + 1) & mask
        return 0

    cdef Mailbox find(self, const char* drop_id, size_t size):
        """The mailbox that this is the drop_id of, or None."""
        cdef bytes wanted
        cdef uint64_t mark
        cdef Segment* segment
        cdef uint32_t at, mask
        if size != <size_t>DROP_ID_BYTES:
            return None
        wanted = drop_id[:size]
        mark = _mark_of(drop_id)
        segment = &self._segments[mark % SEGMENTS]
        if segment.count == 0:
            return None
        mask = segment.capacity - 1
        at = (mark // SEGMENTS) & mask
        while segment.places[at].mailbox != NULL:
            if segment.places[at].mark == mark and drop_id_of((<Mailbox>segment.places[at].mailbox).name) == wanted:
                return <Mailbox>segment.places[at].mailbox
            at = (at + 1) & mask
        return None


cdef void _put(Segment* segment, uint64_t mark, PyObject* mailbox) noexcept:
    cdef uint32_t mask = segment.capacity - 1, at = (mark // SEGMENTS) & mask
    while segment.places[at].mailbox != NULL:
        at = (at + 1) & mask
    segment.places[at].mark = mark
    segment.places[at].mailbox = mailbox
    segment.count += 1


cdef int _grow(Segment* segment) except -1:
    cdef Segment larger
    cdef uint32_t at
    larger.count = 0
    larger.capacity = segment.capacity * 2 or CAPACITY_FIRST
    larger.places = <Place*>calloc(larger.capacity, sizeof(Place))
    if larger.places == NULL:
        raise MemoryError()
    for at in range(segment.capacity):
        if segment.places[at].mailbox != NULL:
            _put(&larger, segment.places[at].mark, segment.places[at].mailbox)
    free(segment.places)
    segment[0] = larger
    return 0
