"""Messages that appeared behind where receivers already were, because they had been delayed.

A receiver is a cursor in each level; what appears behind it would never be met. So each level has a list of what has appeared like
that, and each receiver a place in that list: a message costs 8 bytes, however many receivers are behind. Before a receiver's
cursor moves, it looks at what is listed: what lies behind the cursor is due to it, what lies before it will be met.
"""

from libc.stdint cimport uint32_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memmove

from mq9.mailboxes.index cimport Late, entry_is_gone, level_find
from mq9.mailboxes.mailbox cimport LEVELS

cdef enum:
    # A list that is shorter is not worth cutting.
    CUT_MIN = 64


cdef inline bint _wants(Receiver receiver, int rank) noexcept:
    return receiver.group is None and receiver.mask >> rank & 1


cdef int late_add(Mailbox mailbox, int rank, uint64_t msg_id) except -1:
    """A message has appeared in a level: list it if some receiver is past it."""
    cdef Level* level = mailbox.levels[rank]
    cdef Receiver receiver
    cdef uint64_t* msg_ids
    cdef uint32_t capacity
    if mailbox.receivers is None:
        return 0
    for receiver in mailbox.receivers:
        if _wants(receiver, rank) and receiver.cursors[rank] >= msg_id:
            break
    else:
        return 0
    if level.late == NULL:
        level.late = <Late*>calloc(1, sizeof(Late))
        if level.late == NULL:
            raise MemoryError()
    if level.late.count == level.late.capacity:
        _cut(mailbox, rank)
    if level.late.count == level.late.capacity:
        capacity = level.late.capacity * 2 + 4
        msg_ids = <uint64_t*>realloc(level.late.msg_ids, capacity * sizeof(uint64_t))
        if msg_ids == NULL:
            raise MemoryError()
        level.late.msg_ids = msg_ids
        level.late.capacity = capacity
    level.late.msg_ids[level.late.count] = msg_id
    level.late.count += 1
    return 0


cdef int _cut(Mailbox mailbox, int rank) except -1:
    """Let go of what all receivers have passed."""
    cdef Late* late = mailbox.levels[rank].late
    cdef uint64_t* msg_ids
    cdef Receiver receiver
    cdef uint64_t passed = late.first + late.count
    if mailbox.receivers is not None:
        for receiver in mailbox.receivers:
            if _wants(receiver, rank):
                passed = min(passed, receiver.late[rank])
    if passed == late.first:
        return 0
    late.count -= <uint32_t>(passed - late.first)
    memmove(late.msg_ids, late.msg_ids + (passed - late.first), late.count * sizeof(uint64_t))
    late.first = passed
    if late.capacity > CUT_MIN and late.count * 4 < late.capacity:
        msg_ids = <uint64_t*>realloc(late.msg_ids, (late.count + 1) * sizeof(uint64_t))
        if msg_ids != NULL:
            late.msg_ids = msg_ids
            late.capacity = late.count + 1
    return 0


cdef void late_skip(Receiver receiver) noexcept:
    """A new receiver will meet all there is: what is listed by now does not concern it."""
    cdef int rank
    cdef Level* level
    for rank in range(LEVELS):
        level = receiver.mailbox.levels[rank]
        if level != NULL and level.late != NULL:
            receiver.late[rank] = level.late.first + level.late.count


cdef Entry* late_peek(Receiver receiver, int rank, uint64_t now) noexcept:
    """The next listed message that is there at `now` (Unix ms) and behind the receiver's cursor; NULL when there is none.

    The receiver has its place before it; who gives it the message moves that place on by one.
    """
    cdef Late* late = receiver.mailbox.levels[rank].late
    cdef uint64_t msg_id
    cdef Entry* entry
    if late == NULL:
        return NULL
    while receiver.late[rank] < late.first + late.count:
        msg_id = late.msg_ids[receiver.late[rank] - late.first]
        if msg_id <= receiver.cursors[rank]:
            entry = level_find(receiver.mailbox.levels[rank], msg_id)
            if entry != NULL and not entry_is_gone(entry, now):
                return entry
        receiver.late[rank] += 1
    return NULL


cdef uint64_t late_count(Receiver receiver, int rank) noexcept:
    """About how many listed messages the receiver has not looked at."""
    cdef Late* late = receiver.mailbox.levels[rank].late
    return 0 if late == NULL else late.first + late.count - receiver.late[rank]


cdef int late_detached(Mailbox mailbox) except -1:
    """A receiver has gone: what was listed for it alone can go too."""
    cdef int rank
    for rank in range(LEVELS):
        if mailbox.levels[rank] == NULL or mailbox.levels[rank].late == NULL:
            continue
        if mailbox.receivers is None:
            free(mailbox.levels[rank].late.msg_ids)
            free(mailbox.levels[rank].late)
            mailbox.levels[rank].late = NULL
        elif mailbox.levels[rank].late.count > CUT_MIN:
            _cut(mailbox, rank)
    return 0
