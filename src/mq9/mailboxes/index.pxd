# Which messages of one priority a mailbox holds, and where they are stored. See index.pyx.

from libc.stdint cimport uint32_t, uint64_t

cdef struct Entry:
    # 32 bytes for a stored message. `end` is when it expires by its own ttl (Unix ms, 0 for never).
    uint64_t msg_id
    uint64_t block
    uint32_t offset            # of its record in the block
    uint32_t size              # of its record
    uint64_t end               # bits 0-47 when it expires, bits 48-63 ENTRY_…

cdef enum:
    ENTRY_DEAD_SHIFT = 63

cdef extern from *:
    """
    #define MQ9_ENTRY_OFFERED ((uint64_t)1 << 61)
    #define MQ9_ENTRY_KEYED ((uint64_t)1 << 62)
    """
    # It was given to a receiver or a worker.
    const uint64_t ENTRY_OFFERED "MQ9_ENTRY_OFFERED"
    # It has a key, which its mailbox knows.
    const uint64_t ENTRY_KEYED "MQ9_ENTRY_KEYED"

cdef enum:
    LEVEL_STEPS = 4            # of level_expect

cdef enum:
    # Where the rank of a delayed message is, which is in no level of a priority yet.
    ENTRY_RANK_SHIFT = 56

cdef struct Chunk:
    uint32_t size              # entries in it, dead ones included
    uint32_t live
    uint32_t capacity
    uint32_t unused
    Entry entries[1]           # really `capacity`

cdef struct Late:
    # Messages that appeared below where a receiver already was, in the order in which they did. See late.pyx.
    uint64_t* msg_ids
    uint32_t count
    uint32_t capacity
    uint64_t first             # how many there were before the first one that is still listed

cdef struct Level:
    Chunk** chunks             # at `first` as long as one was enough
    Chunk* first
    uint32_t count
    uint32_t capacity
    uint64_t live
    uint64_t last_id           # the highest msg_id ever added
    Late* late                 # NULL as long as there was none

cdef struct LevelCursor:
    # A place in a level; valid until the level changes.
    Level* level
    uint32_t chunk
    uint32_t at


cdef inline uint64_t entry_expires(const Entry* entry) noexcept nogil:
    return entry.end & (((<uint64_t>1) << 48) - 1)


cdef inline int entry_rank(const Entry* entry) noexcept nogil:
    """The rank of a delayed message."""
    return <int>(entry.end >> ENTRY_RANK_SHIFT & 7)


cdef inline bint entry_is_dead(const Entry* entry) noexcept nogil:
    return entry.end >> ENTRY_DEAD_SHIFT


cdef inline bint entry_is_gone(const Entry* entry, uint64_t now) noexcept nogil:
    """Whether it was removed, or has expired at `now` (Unix ms)."""
    return entry_is_dead(entry) or (entry_expires(entry) != 0 and entry_expires(entry) <= now)


cdef void level_expect(Level* level, int step) noexcept nogil
cdef int level_add(Level* level, const Entry* entry) except -1
cdef int level_insert(Level* level, const Entry* entry) except -1
cdef Entry* level_find(Level* level, uint64_t msg_id) noexcept nogil
cdef bint level_remove(Level* level, uint64_t msg_id) noexcept
cdef void level_seek(Level* level, uint64_t after, LevelCursor* cursor) noexcept nogil
cdef Entry* level_peek(LevelCursor* cursor, uint64_t now) noexcept nogil
cdef uint64_t level_last(Level* level, uint64_t now) noexcept nogil
cdef uint64_t level_count_after(Level* level, uint64_t after) noexcept nogil
cdef uint32_t level_take(Level* level, Entry* entries, uint32_t room) noexcept
cdef void level_free(Level* level) noexcept
