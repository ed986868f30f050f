"""Commits as frames in the segments of the journal: written in one piece, found again, and what is damaged told apart from what was
never finished. frame.pxd states the layout.

One commit is written at a time, so only the last frame can be an unfinished one: what comes before it was durable before the next was
begun, and if it is not what it was, it is damaged.
"""

from array import array

from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memset

from mq9.native.checksum cimport crc32c
from mq9.native.memory cimport buffer_free, buffer_reserve, load16, load32, load64, store16, store32, store64, write_bytes
from mq9.store.contract import Table

cdef uint32_t ROW_REMOVED = 0xffffffff

_TABLES = list(Table)
_PLACES = {table: place for place, table in enumerate(_TABLES)}

cdef enum:
    INDEX_CRC_FROM = 12
    # Blocks that are taken for damaged, at most, where it is not known how many there were.
    LOST_MAX = 65536
    TABLES = 5

cdef extern from *:
    """
    #define MQ9_SEQUENCE_MAX (((uint64_t)1 << 63) - 1)
    """
    # No store lives to make more commits, or blocks: higher numbers were never written.
    const uint64_t SEQUENCE_MAX "MQ9_SEQUENCE_MAX"
    const uint64_t BLOCK_NUMBER_MAX "MQ9_SEQUENCE_MAX"


cdef class Frame:
    """A commit as a frame.

    Arguments:
        salt: of the store.
        sequence: of the commit.
        commit: a Commit; its blocks stay as they are until the frame is written.
    """

    def __init__(self, uint64_t salt, uint64_t sequence, commit not None):
        cdef char* at
        cdef size_t data_size
        blocks, dropped = commit.blocks, commit.dropped
        self.sequence = sequence
        self._held = []
        self._index_size = FRAME_HEAD + BLOCK_ENTRY * len(blocks) + 8 * len(dropped)
        at = buffer_reserve(&self._head, self._index_size)
        memset(at, 0, FRAME_HEAD)
        self._head.size = self._index_size
        store64(at, salt)
        store32(at + 12, <uint32_t>self._index_size)
        store64(at + 16, sequence)
        store32(at + 48, <uint32_t>len(blocks))
        store32(at + 52, <uint32_t>len(dropped))
        store32(at + 56, <uint32_t>len(commit.rows))
        at += FRAME_HEAD + BLOCK_ENTRY * len(blocks)
        for number in dropped:
            store64(at, number)
            at += 8
        self._put_rows(commit.rows)
        self._put_blocks(blocks)
        self._rows_size = self._head.size - self._index_size
        data_size = sum([self.parts[part].iov_len for part in range(1, self.part_count)])
        if self._head.size + data_size >= FRAME_MAX:
            raise ValueError("the commit is too large")
        self.size = (self._head.size + data_size + FRAME_ALIGNMENT - 1) & ~<size_t>(FRAME_ALIGNMENT - 1)
        store32(self._head.data + 32, <uint32_t>self._rows_size)
        store32(self._head.data + 40, <uint32_t>data_size)
        self.parts[0].iov_base = self._head.data
        self.parts[0].iov_len = self._head.size
        # The padding: whatever eight bytes of the head, since nobody looks at it.
        self.parts[self.part_count].iov_base = self._head.data
        self.parts[self.part_count].iov_len = self.size - self._head.size - data_size
        self.part_count += 1

    def __dealloc__(self):
        buffer_free(&self._head)
        free(self.parts)

    def address(self, uint64_t segment):
        """Say for which segment it is."""
        store64(self._head.data + 24, segment)

    def tobytes(self):
        """All of it, finished."""
        cdef int part
        self.finish()
        return b"".join([(<char*>self.parts[part].iov_base)[:self.parts[part].iov_len] for part in range(self.part_count)])

    cdef int _put_rows(self, rows) except -1:
        cdef char* at
        cdef bytes name, body
        for table, key, value in rows:
            name = key
            body = b"" if value is None else bytes(value)
            at = buffer_reserve(&self._head, ROW_HEAD + len(name) + len(body))
            self._head.size += ROW_HEAD + len(name) + len(body)
            at[0] = <char><int>_PLACES[table]
            at[1] = 0
            store16(at + 2, len(name))
            store32(at + 4, ROW_REMOVED if value is None else <uint32_t>len(body))
            at = write_bytes(at + ROW_HEAD, <const char*>name, len(name))
            write_bytes(at, <const char*>body, len(body))
        return 0

    cdef int _put_blocks(self, blocks) except -1:
        cdef const unsigned char[::1] view
        cdef char* at = self._head.data + FRAME_HEAD
        self.parts = <iovec*>malloc((len(blocks) + 2) * sizeof(iovec))
        if self.parts == NULL:
            raise MemoryError()
        self.part_count = 1
        for number, data in blocks:
            held = memoryview(data)
            self._held.append(held)
            view = held
            self.parts[self.part_count].iov_base = <void*>&view[0]
            self.parts[self.part_count].iov_len = view.shape[0]
            self.part_count += 1
            store64(at, number)
            store32(at + 8, <uint32_t>view.shape[0])
            at += BLOCK_ENTRY
        return 0

    cdef void finish(self) noexcept nogil:
        """Fill in the checksums; `parts` are the frame from here on."""
        cdef char* head = self._head.data
        cdef uint32_t crc = 0
        cdef int part
        for part in range(1, self.part_count - 1):
            crc = crc32c(crc, <const char*>self.parts[part].iov_base, self.parts[part].iov_len)
        store32(head + 44, crc)
        store32(head + 36, crc32c(0, head + self._index_size, self._rows_size))
        store32(head + 8, crc32c(0, head + INDEX_CRC_FROM, self._index_size - INDEX_CRC_FROM))


cdef inline uint64_t _frame_size(const char* frame) noexcept nogil:
    """The size of a frame whose index is sound, padding included."""
    cdef uint64_t size = <uint64_t>load32(frame + 12) + load32(frame + 32) + load32(frame + 40)
    return (size + FRAME_ALIGNMENT - 1) & ~<uint64_t>(FRAME_ALIGNMENT - 1)


cdef bint _is_frame(const char* frame, uint64_t room, uint64_t salt, uint64_t segment, uint64_t sequence) noexcept nogil:
    """Whether a frame of this segment, of a commit behind `sequence`, begins here, with a sound index and a size that fits."""
    cdef uint64_t index_size
    if room < FRAME_HEAD or load64(frame) != salt or load64(frame + 24) != segment:
        return False
    if not sequence < load64(frame + 16) <= SEQUENCE_MAX:
        return False
    index_size = load32(frame + 12)
    if index_size != FRAME_HEAD + BLOCK_ENTRY * <uint64_t>load32(frame + 48) + 8 * <uint64_t>load32(frame + 52):
        return False
    return (
        index_size <= room and _frame_size(frame) <= room
        and crc32c(0, frame + INDEX_CRC_FROM, index_size - INDEX_CRC_FROM) == load32(frame + 8) and _blocks_fit(frame)
    )


cdef bint _blocks_fit(const char* frame) noexcept nogil:
    """Whether the numbers of the blocks in a frame rise, and their sizes are that of all of them."""
    cdef const char* entry = frame + FRAME_HEAD
    cdef uint64_t size = 0
    cdef uint32_t at, blocks = load32(frame + 48)
    for at in range(blocks):
        if at and load64(entry) <= load64(entry - BLOCK_ENTRY):
            return False
        size += load32(entry + 8)
        entry += BLOCK_ENTRY
    return size == load32(frame + 40) and (blocks == 0 or load64(entry - BLOCK_ENTRY) <= BLOCK_NUMBER_MAX)


cdef bint _has_rows(const char* frame) noexcept nogil:
    """Whether the rows of a frame are what was written."""
    return crc32c(0, frame + load32(frame + 12), load32(frame + 32)) == load32(frame + 36)


cdef bint _has_blocks(const char* frame) noexcept nogil:
    """Whether the blocks of a frame are what was written."""
    cdef const char* data = frame + load32(frame + 12) + load32(frame + 32)
    return crc32c(0, data, load32(frame + 40)) == load32(frame + 44)


cdef bint _is_whole(const char* frame) noexcept nogil:
    """Whether the rows and the blocks of a frame are what was written."""
    return _has_rows(frame) and _has_blocks(frame)


cdef _dropped_of(const char* frame):
    """The numbers of the blocks that the commit in a frame drops."""
    cdef const char* entry = frame + FRAME_HEAD + BLOCK_ENTRY * <uint64_t>load32(frame + 48)
    cdef uint32_t at
    return [load64(entry + 8 * <uint64_t>at) for at in range(load32(frame + 52))]


cdef _rows_of(const char* frame):
    """The rows of the commit in a frame, or None when they are not what was written."""
    cdef const char* row = frame + load32(frame + 12)
    cdef const char* end = row + load32(frame + 32)
    cdef uint32_t at, key_size, value_size
    cdef uint64_t size
    if not _has_rows(frame):
        return None
    rows = []
    for at in range(load32(frame + 56)):
        if end - row < ROW_HEAD or <unsigned char>row[0] >= TABLES:
            return None
        table = _TABLES[<unsigned char>row[0]]
        key_size = load16(row + 2)
        value_size = load32(row + 4)
        size = key_size + (0 if value_size == ROW_REMOVED else <uint64_t>value_size)
        row += ROW_HEAD
        if size > <uint64_t>(end - row):
            return None
        key = row[:key_size]
        rows.append((table, key, None if value_size == ROW_REMOVED else row[key_size:size]))
        row += size
    return rows if row == end else None


def survey(const unsigned char[::1] data not None, uint64_t salt, uint64_t segment):
    """Look at every byte of the frames in the bytes of a segment.

    Returns the sequence numbers of the frames, and sentences that say which of them are not what was written. What lies between frames,
    and is no frame any more, is said by Index.read.
    """
    cdef const char* start = <const char*>&data[0] if data.shape[0] else NULL
    cdef const char* frame
    cdef uint64_t at = 0, size = data.shape[0], sequence = 0
    sequences, damage = array("Q"), []
    while at + FRAME_HEAD <= size:
        frame = start + at
        if not _is_frame(frame, size - at, salt, segment, sequence):
            at += FRAME_ALIGNMENT
            continue
        sequence = load64(frame + 16)
        sequences.append(sequence)
        if not _has_rows(frame):
            damage.append(f"the rows of commit {sequence} in segment {segment} do not match their checksum")
        if not _has_blocks(frame):
            damage.append(f"the blocks of commit {sequence} in segment {segment} do not match their checksum")
        at += _frame_size(frame)
    return sequences, damage


cdef inline bint _is_dropped(const Place* place) noexcept nogil:
    return place.size >= PLACE_DROPPED


cdef class Index:
    """What is in a segment: which blocks, where, and which of them were dropped.

    Arguments:
        segment: its number.
        sequence: that of the first commit in it.
    """

    def __init__(self, uint64_t segment, uint64_t sequence):
        self.segment = segment
        self.first_sequence = sequence
        self.last_sequence = sequence - 1
        self.damage = []

    def __dealloc__(self):
        free(self._places)

    # the blocks

    def place(self, uint64_t number):
        """(offset, size) of a block; a size of 0 when it is damaged. None when there is no such block, or it was dropped."""
        cdef Place* place = self._find(number)
        return None if place == NULL or _is_dropped(place) else (place.offset, place.size)

    def drop(self, uint64_t number):
        """A block was dropped; returns whether it was there."""
        cdef Place* place = self._find(number)
        if place == NULL or _is_dropped(place):
            return False
        place.size |= PLACE_DROPPED
        self.live -= 1
        return True

    def blocks(self, uint64_t first, uint64_t bytes_max):
        """Some of the blocks that were not dropped, as [(number, offset, size)] of about `bytes_max` bytes in all.

        `first`: how many of all its blocks to pass over. Returns them and the `first` to go on with, None at the end.
        """
        cdef uint64_t at = first, size = 0
        cdef Place* place
        found = []
        while at < self.count and size < bytes_max:
            place = &self._places[at]
            if not _is_dropped(place):
                found.append((place.number, place.offset, place.size))
                size += place.size
            at += 1
        return found, at if at < self.count else None

    @property
    def first_number(self):
        """The number of the first block that it ever had, or None."""
        return self._places[0].number if self.count else None

    @property
    def last_number(self):
        """The number of the last block that it ever had, or None."""
        return self._places[self.count - 1].number if self.count else None

    def pack_dropped(self):
        """Which blocks were dropped: runs of them, each as the number of its first block and how many in a row."""
        cdef uint64_t at = 0, start
        runs = array("Q")
        while at < self.count:
            start = at
            while at < self.count and _is_dropped(&self._places[at]):
                at += 1
            if at > start:
                runs.extend((self._places[start].number, at - start))
            at += at < self.count
        return runs.tobytes()

    def load_dropped(self, bytes packed not None):
        """Take over what `pack_dropped` gave; what cannot be of that is left out, and said in `damage`."""
        cdef Place* place
        cdef Place* end = self._places + self.count
        whole = len(packed) // (2 * sizeof(uint64_t)) * (2 * sizeof(uint64_t))
        runs = array("Q", packed[:whole])
        if whole != len(packed):
            self.damage.append(f"what was dropped of segment {self.segment} is known in part")
        for number, count in zip(runs[::2], runs[1::2], strict=True):
            place = self._find(number)
            while count and place != NULL and place < end:
                self.live -= not _is_dropped(place)
                place.size |= PLACE_DROPPED
                place += 1
                count -= 1

    def lose(self, uint64_t before):
        """Of the blocks behind the last one that is known and before this number nothing is left: they are there, and damaged."""
        cdef uint64_t number
        if self.count:
            number = self._last() + 1
            for number in range(number, min(before, number + LOST_MAX)):
                self._add(number, 0, 0)

    cdef Place* _find(self, uint64_t number) noexcept:
        cdef uint64_t low = 0, high = self.count, middle
        while low < high:
            middle = (low + high) // 2
            if self._places[middle].number < number:
                low = middle + 1
            else:
                high = middle
        return &self._places[low] if low < self.count and self._places[low].number == number else NULL

    cdef int _add(self, uint64_t number, uint64_t offset, uint32_t size) except -1:
        cdef uint64_t capacity
        cdef Place* places
        if self.count == self._capacity:
            capacity = self._capacity + self._capacity // 4 + 4
            places = <Place*>realloc(self._places, capacity * sizeof(Place))
            if places == NULL:
                raise MemoryError()
            self._places = places
            self._capacity = capacity
        places = &self._places[self.count]
        places.number = number
        places.offset = <uint32_t>offset
        places.size = size
        self.count += 1
        self.live += 1
        return 0

    # its frames

    def append(self, Frame frame not None):
        """A frame became durable at `end`."""
        self._take(frame._head.data, self.end)
        self.end += frame.size

    def read(self, const unsigned char[::1] data not None, uint64_t salt, uint64_t after, uint64_t before, bint last):
        """Find all frames in the bytes of the segment; `damage` says what is not as it was written.

        Arguments:
            data: the whole file.
            salt: of the store.
            after: of commits with a higher sequence number it is returned what they changed besides storing blocks.
            before: from this sequence number on commits were written anew into a later segment, because writing here failed.
            last: whether no segment with commits comes behind: then a last one that is not whole was never finished.

        Returns [(dropped, rows)] of the commits behind `after`, as a Commit has them.
        """
        cdef const char* start = <const char*>&data[0] if data.shape[0] else NULL
        cdef uint64_t size = data.shape[0], at = 0, found, sequence
        changes = []
        while True:
            found = self._next_frame(start, at, size, salt)
            if found == size or load64(start + found + 16) >= before:
                break
            sequence = load64(start + found + 16)
            if last and sequence > after and not _is_whole(start + found) and (
                self._next_frame(start, found + _frame_size(start + found), size, salt) == size
            ):
                break
            if found != at:
                self.damage.append(f"segment {self.segment} is damaged from byte {at} to {found}")
                self._lost = True
            self._take(start + found, found)
            if sequence > after:
                rows = _rows_of(start + found)
                changes.append((_dropped_of(start + found), rows or []))
                if rows is None:
                    self.damage.append(f"the rows of commit {sequence} in segment {self.segment} are damaged")
            at = self.end = found + _frame_size(start + found)
        return changes

    cdef uint64_t _next_frame(self, const char* data, uint64_t at, uint64_t size, uint64_t salt) noexcept:
        """Where the next frame of a later commit begins from `at` on, or `size`."""
        while at + FRAME_HEAD <= size:
            if load64(data + at) == salt and _is_frame(data + at, size - at, salt, self.segment, self.last_sequence):
                if load32(data + at + 48) == 0 or self.count == 0 or load64(data + at + FRAME_HEAD) > self._last():
                    return at
            at += FRAME_ALIGNMENT
        return size

    cdef uint64_t _last(self) noexcept:
        """The number of the last block, of which there must be one."""
        return self._places[self.count - 1].number

    cdef int _take(self, const char* frame, uint64_t at) except -1:
        """Note the blocks of a frame that is at `at`; of the frame only its index need be there."""
        cdef uint64_t offset = at + load32(frame + 12) + load32(frame + 32)
        cdef uint32_t blocks = load32(frame + 48), block
        cdef const char* entry = frame + FRAME_HEAD
        if self._lost and blocks:
            # What lies between the blocks that are known was in what is damaged.
            self._lost = False
            self.lose(load64(entry))
        for block in range(blocks):
            self._add(load64(entry), offset, load32(entry + 8))
            offset += load32(entry + 8)
            entry += BLOCK_ENTRY
        if self.end == 0:
            self.first_sequence = load64(frame + 16)
        self.last_sequence = load64(frame + 16)
        return 0
