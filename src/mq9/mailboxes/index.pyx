"""The messages of one priority in a mailbox, in msg_id order.

Chunks of entries: what is new goes to the last chunk, what had been delayed into the chunk of its place, which is split when it is full;
removing marks an entry and squeezes its own chunk when half of that is dead. So nothing takes longer in a large mailbox than in a
small one. The first chunk has one entry and grows by a quarter, those behind it have a quarter of what is there: a mailbox with one
message pays for one entry, none for more than a quarter too many, and few entries are ever moved.
"""

from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memmove

from mq9.native.memory cimport prefetch

cdef enum:
    CHUNK_MAX = 512
    # A chunk that is full at the end grows up to here; behind a larger one comes another, and nothing is moved.
    CHUNK_GROWN = 16
    # A chunk with fewer entries is not worth squeezing.
    SQUEEZE_MIN = 8


cdef inline size_t _chunk_bytes(uint32_t capacity) noexcept nogil:
    return sizeof(Chunk) + (capacity - 1) * sizeof(Entry)


cdef int _room_for_chunk(Level* level) except -1:
    """Have room for one more chunk in the list of them."""
    cdef uint32_t capacity
    cdef Chunk** chunks
    if level.capacity == 0:
        level.chunks = &level.first
        level.capacity = 1
    elif level.count == level.capacity:
        capacity = level.capacity + level.capacity // 2 + 1
        chunks = <Chunk**>realloc(_own_list(level), capacity * sizeof(Chunk*))
        if chunks == NULL:
            raise MemoryError()
        if level.chunks == &level.first:
            chunks[0] = level.first
        level.chunks = chunks
        level.capacity = capacity
    return 0


cdef inline Chunk** _own_list(Level* level) noexcept nogil:
    """The list of chunks when it was allocated; NULL when it is part of the level."""
    return NULL if level.chunks == &level.first else level.chunks


cdef Chunk* _room_at_end(Level* level) except NULL:
    """The last chunk, with room for one more entry."""
    cdef Chunk* chunk = level.chunks[level.count - 1] if level.count else NULL
    cdef uint32_t capacity
    if chunk != NULL and chunk.size < chunk.capacity:
        return chunk
    if chunk != NULL and chunk.capacity < CHUNK_GROWN:
        return _grow(level, level.count - 1)
    _room_for_chunk(level)
    capacity = 1 if chunk == NULL else <uint32_t>min(max(level.live // 4, CHUNK_GROWN), CHUNK_MAX)
    chunk = <Chunk*>realloc(NULL, _chunk_bytes(capacity))
    if chunk == NULL:
        raise MemoryError()
    chunk.size = chunk.live = 0
    chunk.capacity = capacity
    level.chunks[level.count] = chunk
    level.count += 1
    return chunk


cdef void level_expect(Level* level, int step) noexcept nogil:
    """`level_add` will be called: fetch what it will look at, a part in each of LEVEL_STEPS steps, some time apart."""
    cdef Chunk* chunk
    if step == 0:
        prefetch(level)
    elif level.count:
        if step == 1:
            prefetch(&level.chunks[level.count - 1])
            return
        chunk = level.chunks[level.count - 1]
        if step == 2:
            prefetch(chunk)
        elif chunk.size < chunk.capacity:
            prefetch(&chunk.entries[chunk.size])


cdef int level_add(Level* level, const Entry* entry) except -1:
    """Add an entry whose msg_id is above all that were added before."""
    cdef Chunk* chunk = _room_at_end(level)
    chunk.entries[chunk.size] = entry[0]
    chunk.size += 1
    chunk.live += 1
    level.live += 1
    level.last_id = entry.msg_id
    return 0


cdef uint32_t _first_above(Chunk* chunk, uint64_t after) noexcept nogil:
    """The place in the chunk of the first entry with a msg_id above `after`."""
    cdef uint32_t low = 0, high = chunk.size, middle
    while low < high:
        middle = (low + high) // 2
        if chunk.entries[middle].msg_id <= after:
            low = middle + 1
        else:
            high = middle
    return low


cdef uint32_t _chunk_of(Level* level, uint64_t after) noexcept nogil:
    """The first chunk whose last entry has a msg_id above `after`; `count` when there is none."""
    cdef uint32_t low = 0, high = level.count, middle
    cdef Chunk* chunk
    while low < high:
        middle = (low + high) // 2
        chunk = level.chunks[middle]
        if chunk.entries[chunk.size - 1].msg_id <= after:
            low = middle + 1
        else:
            high = middle
    return low


cdef int level_insert(Level* level, const Entry* entry) except -1:
    """Add an entry at its place; no live one has its msg_id."""
    cdef uint32_t index, at
    cdef uint64_t last_id = level.last_id
    cdef Chunk* chunk
    index = _chunk_of(level, entry.msg_id)
    if index == level.count:
        level_add(level, entry)
        level.last_id = max(last_id, entry.msg_id)
        return 0
    chunk = level.chunks[index]
    if chunk.size == chunk.capacity:
        if chunk.size == CHUNK_MAX:
            _split(level, index)
            index = _chunk_of(level, entry.msg_id)
            chunk = level.chunks[index]
        else:
            chunk = _grow(level, index)
    at = _first_above(chunk, entry.msg_id)
    memmove(&chunk.entries[at + 1], &chunk.entries[at], (chunk.size - at) * sizeof(Entry))
    chunk.entries[at] = entry[0]
    chunk.size += 1
    chunk.live += 1
    level.live += 1
    return 0


cdef Chunk* _grow(Level* level, uint32_t index) except NULL:
    """Give a full chunk more room."""
    cdef uint32_t capacity = level.chunks[index].capacity
    cdef Chunk* chunk
    capacity = min(capacity + capacity // 4 + 1, CHUNK_MAX)
    chunk = <Chunk*>realloc(level.chunks[index], _chunk_bytes(capacity))
    if chunk == NULL:
        raise MemoryError()
    chunk.capacity = capacity
    level.chunks[index] = chunk
    return chunk


cdef int _split(Level* level, uint32_t index) except -1:
    """Make two chunks of one, each with at least one live entry: an empty chunk would be gone."""
    cdef Chunk* chunk = level.chunks[index]
    cdef Chunk* other
    cdef uint32_t at, kept = 0
    for at in range(chunk.size):  # without the dead first, so that halves are what they seem
        if not entry_is_dead(&chunk.entries[at]):
            chunk.entries[kept] = chunk.entries[at]
            kept += 1
    chunk.size = kept
    if kept < CHUNK_MAX:
        return 0
    _room_for_chunk(level)
    other = <Chunk*>realloc(NULL, _chunk_bytes(CHUNK_MAX))
    if other == NULL:
        raise MemoryError()
    chunk.size = chunk.live = CHUNK_MAX // 2
    other.size = other.live = CHUNK_MAX - CHUNK_MAX // 2
    other.capacity = CHUNK_MAX
    memcpy(other.entries, &chunk.entries[chunk.size], other.size * sizeof(Entry))
    memmove(&level.chunks[index + 2], &level.chunks[index + 1], (level.count - index - 1) * sizeof(Chunk*))
    level.chunks[index + 1] = other
    level.count += 1
    return 0


cdef Entry* level_find(Level* level, uint64_t msg_id) noexcept nogil:
    """The live entry of this msg_id, or NULL."""
    cdef LevelCursor cursor
    cdef Entry* entry
    if msg_id == 0:
        return NULL
    level_seek(level, msg_id - 1, &cursor)
    if cursor.chunk == level.count:
        return NULL
    entry = &level.chunks[cursor.chunk].entries[cursor.at]
    return entry if entry.msg_id == msg_id and not entry_is_dead(entry) else NULL


cdef bint level_remove(Level* level, uint64_t msg_id) noexcept:
    """Take out the entry of this msg_id; false when there is none."""
    cdef uint32_t index, at, kept = 0
    cdef Chunk* chunk
    cdef Entry* entry = level_find(level, msg_id)
    if entry == NULL:
        return False
    index = _chunk_of(level, msg_id - 1)
    chunk = level.chunks[index]
    entry.end |= (<uint64_t>1) << ENTRY_DEAD_SHIFT
    chunk.live -= 1
    level.live -= 1
    if chunk.live == 0:
        free(chunk)
        level.count -= 1
        memmove(&level.chunks[index], &level.chunks[index + 1], (level.count - index) * sizeof(Chunk*))
    elif chunk.size >= SQUEEZE_MIN and chunk.live * 2 < chunk.size:
        for at in range(chunk.size):
            if not entry_is_dead(&chunk.entries[at]):
                chunk.entries[kept] = chunk.entries[at]
                kept += 1
        chunk.size = kept
    return True


cdef void level_seek(Level* level, uint64_t after, LevelCursor* cursor) noexcept nogil:
    """Put the cursor before the first entry with a msg_id above `after`."""
    cursor.level = level
    cursor.chunk = _chunk_of(level, after)
    cursor.at = 0
    if cursor.chunk < level.count:
        cursor.at = _first_above(level.chunks[cursor.chunk], after)


cdef Entry* level_peek(LevelCursor* cursor, uint64_t now) noexcept nogil:
    """The first entry from the cursor on that is still there at `now` (Unix ms), with the cursor before it; NULL at the end."""
    cdef Level* level = cursor.level
    cdef Chunk* chunk
    while cursor.chunk < level.count:
        chunk = level.chunks[cursor.chunk]
        while cursor.at < chunk.size:
            if not entry_is_gone(&chunk.entries[cursor.at], now):
                return &chunk.entries[cursor.at]
            cursor.at += 1
        cursor.chunk += 1
        cursor.at = 0
    return NULL


cdef uint64_t level_last(Level* level, uint64_t now) noexcept nogil:
    """The msg_id of the last entry that is still there at `now` (Unix ms), or 0."""
    cdef uint32_t index = level.count, at
    while index > 0:
        index -= 1
        at = level.chunks[index].size
        while at > 0:
            at -= 1
            if not entry_is_gone(&level.chunks[index].entries[at], now):
                return level.chunks[index].entries[at].msg_id
    return 0


cdef uint64_t level_count_after(Level* level, uint64_t after) noexcept nogil:
    """About how many entries have a msg_id above `after`: exact but for dead ones in one chunk, and for expired ones."""
    cdef LevelCursor cursor
    cdef uint64_t count = 0
    cdef uint32_t index
    cdef Chunk* chunk
    if after >= level.last_id:
        return 0
    level_seek(level, after, &cursor)
    if cursor.chunk == level.count:
        return 0
    if cursor.chunk == 0 and cursor.at == 0:
        return level.live
    chunk = level.chunks[cursor.chunk]
    count = min(chunk.size - cursor.at, chunk.live)
    for index in range(cursor.chunk + 1, level.count):
        count += level.chunks[index].live
    return count


cdef uint32_t level_take(Level* level, Entry* entries, uint32_t room) noexcept:
    """Move up to `room` live entries out of the level into `entries`; returns how many, 0 when none is left.

    For taking a whole level apart; whole chunks go at a time, so `room` must be at least CHUNK_MAX.
    """
    cdef uint32_t taken = 0, at
    cdef Chunk* chunk
    while level.count and room - taken >= level.chunks[level.count - 1].live:
        chunk = level.chunks[level.count - 1]
        for at in range(chunk.size):
            if not entry_is_dead(&chunk.entries[at]):
                entries[taken] = chunk.entries[at]
                taken += 1
        level.live -= chunk.live
        level.count -= 1
        free(chunk)
    return taken


cdef void level_free(Level* level) noexcept:
    """Give back all memory of the level, itself included."""
    cdef uint32_t index
    for index in range(level.count):
        free(level.chunks[index])
    free(_own_list(level))
    if level.late != NULL:
        free(level.late.msg_ids)
        free(level.late)
    free(level)
