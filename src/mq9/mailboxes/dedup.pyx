"""Which messages were sent lately under an id of their senders, so that a repeat is not stored again (docs/protocol.md §3, send).

Of each there is a hash of 128 bits, keyed as CPython's own are, and its msg_id: about 50 bytes, for two minutes. They stand in many small
hash tables, so that none takes long to grow, and in the order of their sends, so that those whose time is over are found at
once. The record of a message has its id as well, which is what the table is made of again after a start; so a block with such a
record is kept for the two minutes, also when all of it is dead.
"""

from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from mq9.native.memory cimport store64

cdef extern from *:
    """
    #if PY_VERSION_HEX >= 0x030E0000
    #define mq9_hash64(data, size) ((uint64_t)Py_HashBuffer((data), (Py_ssize_t)(size)))
    #else
    #define mq9_hash64(data, size) ((uint64_t)_Py_HashBytes((data), (Py_ssize_t)(size)))
    #endif
    """
    uint64_t mq9_hash64(const char* data, size_t size) noexcept

cdef enum:
    BUCKETS_FIRST = 4
    # So many are forgotten in one go.
    FORGET_MAX = 4096
    SECOND_MS = 1000


cdef void mark_of(uint64_t mailbox, const char* dedup_id, size_t size, Mark* mark) noexcept:
    """Hash an id of at most DEDUP_ID_MAX bytes together with the number of its mailbox."""
    cdef char text[9 + DEDUP_ID_MAX]
    store64(text + 1, mailbox)
    memcpy(text + 9, dedup_id, size)
    text[0] = 0
    mark.first = mq9_hash64(text, 9 + size)
    text[0] = 1
    mark.second = mq9_hash64(text, 9 + size)


cdef inline uint64_t _end_of(const Seen* seen) noexcept nogil:
    return (seen.stamp >> 2) + WINDOW_MS


cdef inline SeenState _state_of(const Seen* seen) noexcept nogil:
    return <SeenState>(seen.stamp & 3)


cdef inline uint64_t _next_second(uint64_t time_ms) noexcept nogil:
    return (time_ms + SECOND_MS - 1) // SECOND_MS * SECOND_MS


cdef int _grow(Segment* segment) except -1:
    cdef uint32_t size = segment.size * 2 if segment.size else BUCKETS_FIRST
    cdef uint32_t at
    cdef Seen** bucket
    cdef Seen* seen
    cdef Seen* following
    cdef Seen** buckets = <Seen**>calloc(size, sizeof(Seen*))
    if buckets == NULL:
        raise MemoryError()
    for at in range(segment.size):
        seen = segment.buckets[at]
        while seen != NULL:
            following = seen.next
            bucket = &buckets[seen.mark.second & (size - 1)]
            seen.next = bucket[0]
            bucket[0] = seen
            seen = following
    free(segment.buckets)
    segment.buckets = buckets
    segment.size = size
    return 0


cdef class Repeats(TimerOwner):
    """No ids yet.

    Arguments:
        timers, blocks: the post office's.
    """

    def __cinit__(self):
        memset(self._segments, 0, sizeof(self._segments))

    def __init__(self, Timers timers not None, BlockTable blocks not None):
        self.timers = timers
        self.blocks = blocks
        self._waiting = {}

    def __dealloc__(self):
        cdef int at
        cdef Piece* piece
        for at in range(SEGMENTS):
            free(self._segments[at].buckets)
        while self._oldest != NULL:
            piece = self._oldest
            self._oldest = piece.next
            free(piece)

    cdef Seen* find(self, const Mark* mark, uint64_t now) noexcept:
        """What was sent under the id in the last two minutes before `now` (Unix ms), or NULL."""
        cdef Segment* segment = &self._segments[mark.first & (SEGMENTS - 1)]
        cdef Seen* seen
        if segment.count == 0:
            return NULL
        seen = segment.buckets[mark.second & (segment.size - 1)]
        while seen != NULL:
            if seen.mark.first == mark.first and seen.mark.second == mark.second and (
                _state_of(seen) == PENDING or _end_of(seen) > now
            ):
                return seen
            seen = seen.next
        return NULL

    cdef Seen* add(self, const Mark* mark, uint64_t msg_id, uint64_t sent_ms, SeenState state) except NULL:
        """A message was sent under an id at `sent_ms` (Unix ms)."""
        cdef Segment* segment = &self._segments[mark.first & (SEGMENTS - 1)]
        cdef Seen* seen = self._room()
        cdef Seen** bucket
        if segment.count >= segment.size:
            _grow(segment)
        seen.mark = mark[0]
        seen.msg_id = msg_id
        seen.stamp = sent_ms << 2 | state
        bucket = &segment.buckets[mark.second & (segment.size - 1)]
        seen.next = bucket[0]
        bucket[0] = seen
        segment.count += 1
        self.count += 1
        if not self._watching:
            self._watch(_end_of(seen))
        return seen

    cdef Seen* _room(self) except NULL:
        cdef Piece* piece = self._newest
        if piece == NULL or piece.used == PIECE:
            piece = <Piece*>malloc(sizeof(Piece))
            if piece == NULL:
                raise MemoryError()
            piece.next = NULL
            piece.used = 0
            if self._newest == NULL:
                self._oldest = piece
                self._done = 0
            else:
                self._newest.next = piece
            self._newest = piece
        piece.used += 1
        return &piece.seen[piece.used - 1]

    cdef void _unlink(self, Seen* seen) noexcept:
        cdef Segment* segment = &self._segments[seen.mark.first & (SEGMENTS - 1)]
        cdef Seen** link = &segment.buckets[seen.mark.second & (segment.size - 1)]
        while link[0] != seen:
            link = &link[0].next
        link[0] = seen.next
        segment.count -= 1
        self.count -= 1
        seen.stamp = seen.stamp & ~<uint64_t>3 | FORGOTTEN
        if segment.count == 0:
            free(segment.buckets)
            memset(segment, 0, sizeof(Segment))

    # what becomes of a message that was sent under an id

    cdef int stored(self, Seen* seen, uint64_t block) except -1:
        """It is durable, in this block; repeats of it wait no more, they are answered in their turn."""
        seen.stamp = seen.stamp & ~<uint64_t>3 | STORED
        if self._waiting:
            self._waiting.pop(seen.msg_id, None)
        return self.hold(block, seen.stamp >> 2)

    cdef int hold(self, uint64_t block, uint64_t sent_ms) except -1:
        """Keep the block as long as its record of a message that was sent at `sent_ms` (Unix ms) has to be known."""
        return self.blocks.hold(block, (sent_ms + WINDOW_MS + SECOND_MS - 1) // SECOND_MS)

    cdef int refuse(self, Seen* seen, object error) except -1:
        """It was not stored, because of `error` (ProtocolError), nor are its repeats; the next send is the first one."""
        cdef Repeat repeat
        for repeat in self._waiting.pop(seen.msg_id, ()):
            repeat._error = error
        self._unlink(seen)
        return 0

    cdef object wait(self, Seen* seen, Mailbox mailbox, Sender sender, bytes reply):
        """The effect that answers a repeat, for the batch behind which the answer is true; None when the message is durable."""
        cdef Repeat repeat
        if _state_of(seen) == STORED:
            return None
        repeat = Repeat()
        repeat._msg_id = seen.msg_id
        repeat._mailbox = mailbox
        repeat._sender = sender
        repeat._reply = reply
        self._waiting.setdefault(seen.msg_id, []).append(repeat)
        return repeat

    # time

    cdef int _watch(self, uint64_t due) except -1:
        # By the second, as blocks are held: one timer for all of them.
        self._watching = True
        self.timers.add(_next_second(due), self, 0)
        return 0

    cdef bint is_stale(self, uint64_t msg_id, uint64_t now) noexcept:
        return False

    cdef int due(self, uint64_t msg_id, uint64_t now) except -1:
        """Forget what is over at `now` (Unix ms), and let go of the blocks that were kept for it."""
        cdef uint32_t left = FORGET_MAX
        cdef Piece* piece
        cdef Seen* seen
        cdef uint64_t until = now // SECOND_MS * SECOND_MS
        self._watching = False
        self.blocks.let_go(now // SECOND_MS)
        while self._oldest != NULL:
            piece = self._oldest
            if self._done == piece.used:
                self._oldest = piece.next
                self._done = 0
                if self._newest == piece:
                    self._newest = NULL
                free(piece)
                continue
            seen = &piece.seen[self._done]
            if left == 0 or _state_of(seen) == PENDING or _end_of(seen) > until:
                # Of a message that takes two minutes to become durable: look again in a second.
                self._watch(max(_end_of(seen), now + SECOND_MS if left else now))
                return 0
            if _state_of(seen) == STORED:
                self._unlink(seen)
            self._done += 1
            left -= 1
        return 0


cdef class Repeat:
    """A send that repeats one which is not durable yet: answered with it."""

    def apply(self, now):
        """What was asked for up to here is durable, or was refused by itself."""
        if self._error is None:
            self._sender.sent(self._reply, len(self._reply), self._msg_id, self._mailbox, True)
        else:
            self.fail(self._error)

    def fail(self, error):
        """It was not stored."""
        self._sender.refused(self._reply, len(self._reply), error)
