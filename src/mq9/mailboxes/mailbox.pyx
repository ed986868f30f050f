"""A mailbox: its messages by priority, who listens to it, and when it ends.

A mailbox without messages or listeners is one object of fixed size; everything else is there only when it is used. It is kept out
of the garbage collector, which would otherwise stop the broker to walk through a million of them: what refers back to a mailbox
(its receivers) is taken out of it when it ends.
"""

cimport cython
from libc.stdlib cimport calloc

from mq9.mailboxes.index cimport (
    ENTRY_KEYED, ENTRY_OFFERED, ENTRY_RANK_SHIFT, LevelCursor, entry_expires, entry_is_gone, entry_rank, level_add, level_find,
    level_free, level_insert, level_last, level_peek, level_remove, level_seek,
)


@cython.no_gc
cdef class Mailbox(Named):
    """A mailbox as its row describes it.

    Arguments:
        row: a MailboxRow.
        owner: the Owner that the row names, or None when it names none.
    """

    def __init__(self, row, Owner owner=None):
        cdef bytes mail_id
        # All at once: a start makes all mailboxes, and asking a tuple for its fields by their names takes longer than this.
        (
            self.number, mail_id, self.public, self.desc, self.ttl_s, self.created_ms, self.expires_ms, _, self.owner_only,
        ) = row
        self.set_name(mail_id, len(mail_id))
        self.owner = owner

    def __dealloc__(self):
        cdef int priority
        for priority in range(LEVELS + 1):
            if self.levels[priority] != NULL:
                level_free(self.levels[priority])

    def set_end(self, uint32_t ttl_s, uint64_t expires_ms):
        """Give the mailbox another lifetime: seconds, and when it ends in Unix ms."""
        self.ttl_s = ttl_s
        self.expires_ms = expires_ms

    def is_expired(self, uint64_t now):
        """Whether it is to be treated as gone at `now` (Unix ms)."""
        return bool(self.is_over(now))

    cdef bint is_over(self, uint64_t now) noexcept:
        """As `is_expired`."""
        return self.gone or (self.expires_ms != 0 and self.expires_ms <= now)

    cdef int add(self, int priority, const Entry* entry) except -1:
        """Take over a stored message that is visible, or, with DELAYED as its priority, one that `delay` has prepared."""
        if self.levels[priority] == NULL:
            self.levels[priority] = <Level*>calloc(1, sizeof(Level))
            if self.levels[priority] == NULL:
                raise MemoryError()
        if entry.msg_id > self.levels[priority].last_id:
            level_add(self.levels[priority], entry)
        else:
            level_insert(self.levels[priority], entry)
        self.count += 1
        self.size += entry.size
        return 0

    cdef int delay(self, int priority, const Entry* entry) except -1:
        """Take over a stored message that is not visible yet."""
        cdef Entry delayed = entry[0]
        delayed.end |= <uint64_t>priority << ENTRY_RANK_SHIFT
        return self.add(DELAYED, &delayed)

    cdef int reveal(self, uint64_t msg_id) except -2:
        """Make a delayed message visible; returns its rank, or -1 when there is no such message."""
        cdef Entry* found = NULL if self.levels[DELAYED] == NULL else level_find(self.levels[DELAYED], msg_id)
        cdef Entry entry
        cdef int rank
        if found == NULL:
            return -1
        entry = found[0]
        rank = entry_rank(&entry)
        entry.end &= ~(<uint64_t>7 << ENTRY_RANK_SHIFT)
        self.count -= 1
        self.size -= entry.size
        self._remove(DELAYED, msg_id)
        self.add(rank, &entry)
        return rank

    cdef int take_out(self, int priority, uint64_t msg_id) except -1:
        """Forget a message that `find` found with this priority."""
        cdef Entry* entry = level_find(self.levels[priority], msg_id)
        if entry.end & ENTRY_KEYED:
            self.keys.forget(msg_id)
        self.count -= 1
        self.size -= entry.size
        self._remove(priority, msg_id)
        return 0

    cdef void _remove(self, int priority, uint64_t msg_id) noexcept:
        level_remove(self.levels[priority], msg_id)
        if priority == DELAYED and self.levels[DELAYED].live == 0:
            level_free(self.levels[DELAYED])
            self.levels[DELAYED] = NULL

    cdef Entry* find(self, uint64_t msg_id, int* priority) noexcept:
        """The entry of this msg_id and its priority, which is DELAYED while it is not visible; or NULL."""
        cdef Entry* entry
        cdef int rank
        for rank in range(LEVELS + 1):
            if self.levels[rank] != NULL:
                entry = level_find(self.levels[rank], msg_id)
                if entry != NULL:
                    priority[0] = rank
                    return entry
        return NULL

    def where(self, uint64_t msg_id, uint64_t now):
        """(block, offset of the record) of a message that is there at `now` (Unix ms), or None."""
        cdef int priority
        cdef Entry* entry = self.find(msg_id, &priority)
        if entry == NULL or entry_is_gone(entry, now):
            return None
        return entry.block, entry.offset

    def look_up(self, uint64_t msg_id, uint64_t now):
        """(rank of the priority, whether a receiver or worker has been given it) of a message that is there at `now`, or None.

        While a message is delayed, its rank is DELAYED.
        """
        cdef int rank
        cdef Entry* entry = self.find(msg_id, &rank)
        if entry == NULL or entry_is_gone(entry, now):
            return None
        return rank, bool(entry.end & ENTRY_OFFERED)

    def page(self, uint64_t after, uint8_t mask, Py_ssize_t limit, uint64_t now):
        """The next messages in msg_id order, for reading without consuming.

        Arguments:
            after: only msg_ids above it.
            mask: bit n for priority n; bit DELAYED for those that are not visible yet.
            limit: how many at most.
            now: Unix ms.

        Returns a list of (msg_id, block, offset, size of the record, expires in Unix ms or 0).
        """
        cdef LevelCursor cursors[LEVELS + 1]
        cdef Entry* entries[LEVELS + 1]
        cdef int rank, first
        cdef list found = []
        for rank in range(LEVELS + 1):
            entries[rank] = NULL
            if self.levels[rank] != NULL and mask >> rank & 1:
                level_seek(self.levels[rank], after, &cursors[rank])
                entries[rank] = level_peek(&cursors[rank], now)
        while len(found) < limit:
            first = -1
            for rank in range(LEVELS + 1):
                if entries[rank] != NULL and (first < 0 or entries[rank].msg_id < entries[first].msg_id):
                    first = rank
            if first < 0:
                break
            found.append((
                entries[first].msg_id, entries[first].block, entries[first].offset, entries[first].size,
                entry_expires(entries[first]),
            ))
            cursors[first].at += 1
            entries[first] = level_peek(&cursors[first], now)
        return found

    def last_id(self, uint64_t now):
        """The highest msg_id of the messages that are there at `now` (Unix ms), or 0."""
        cdef uint64_t last = 0
        cdef int rank
        for rank in range(LEVELS):
            if self.levels[rank] != NULL:
                last = max(last, level_last(self.levels[rank], now))
        return last

    def watch(self, watcher):
        """Call `watcher(event)` for what happens to the mailbox: "renewed", and at its end "expired" or "removed"."""
        if self.watchers is None:
            self.watchers = []
        self.watchers.append(watcher)

    def unwatch(self, watcher):
        """End `watch`."""
        if self.watchers is not None and watcher in self.watchers:
            self.watchers.remove(watcher)

    def tell(self, str event not None):
        """Tell the watchers."""
        if self.watchers is not None:
            for watcher in list(self.watchers):
                watcher(event)


cdef class Receiver:
    """Somebody who is given the messages of a mailbox as there is room. A subclass writes them somewhere."""

    cdef Py_ssize_t room(self) noexcept:
        """How many bytes it would take now; with none left it is paused until somebody resumes it."""
        return 0

    cdef int write(self, const char* record, uint64_t pending) except -1:
        """Take one message. `pending`: about how many are still to come, 0 only when there is none."""
        return 0

    cdef int mailbox_ended(self) except -1:
        """The mailbox is gone; nothing more will come."""
        return 0


cdef class Sender:
    """Somebody who waits to hear that a message is stored. A subclass passes it on."""

    cdef int sent(self, const char* reply, Py_ssize_t reply_size, uint64_t msg_id, Mailbox mailbox, bint duplicate) except -1:
        """The message for which `reply` was given is durable as `msg_id` of `mailbox`; `duplicate`: it was before."""
        return 0

    cdef int refused(self, const char* reply, Py_ssize_t reply_size, object error) except -1:
        """The message for which `reply` was given was not stored; `error` is a ProtocolError."""
        return 0


cdef class Told(Sender):
    """Calls `told` with (msg_id, whether it was a repeat) when the message is durable, or with (ProtocolError, False)."""

    def __init__(self, told not None):
        self._told = told

    cdef int sent(self, const char* reply, Py_ssize_t reply_size, uint64_t msg_id, Mailbox mailbox, bint duplicate) except -1:
        self._told(msg_id, duplicate)
        return 0

    cdef int refused(self, const char* reply, Py_ssize_t reply_size, object error) except -1:
        self._told(error, False)
        return 0
