"""Blocks of records: the bytes of those in memory, and for every stored one how much of it is still alive.

A block is filled by one batch, sealed, committed, and then never changed. When its last message is gone the block is dropped.
"""

from collections import OrderedDict, deque

from cpython.buffer cimport PyBuffer_FillInfo
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memmove, memset

from mq9.mailboxes.format cimport BLOCK_HEAD, RECORD_MIN
from mq9.mailboxes.format import seal_block
from mq9.native.memory cimport buffer_free, buffer_reserve

cdef enum:
    CHUNK_SHIFT = 9
    CHUNK = 512


cdef class Block:
    """The bytes of one block."""

    def __cinit__(self, uint64_t number, bytes source=None):
        self.number = number
        if source is None:
            buffer_reserve(&self._own, BLOCK_HEAD)
            memset(self._own.data, 0, BLOCK_HEAD)
            self._own.size = BLOCK_HEAD
            self.data = self._own.data
            self.size = BLOCK_HEAD
        else:
            self._source = source
            self.data = source
            self.size = len(source)

    def __dealloc__(self):
        buffer_free(&self._own)

    def __getbuffer__(self, Py_buffer* view, int flags):
        PyBuffer_FillInfo(view, self, <void*>self.data, self.size, 0, flags)

    def __len__(self):
        return self.size

    cdef char* reserve(self, size_t size) except NULL:
        """Room for a record of `size` bytes at the end of an open block; the block counts it as filled."""
        cdef char* at = buffer_reserve(&self._own, size)
        self._own.size += size
        self.data = self._own.data
        self.size = self._own.size
        self.records += 1
        return at

    def seal(self, uint64_t now):
        """Finish the block at `now` (Unix ms); from here on its bytes stay as they are."""
        seal_block(memoryview(self), self.number, self.records, now)


cdef class BlockTable:
    """How much of each stored block, and of each region, is alive.

    Numbers are given out one after the other, so a block is found by its place: chunks of slots from the oldest number that is
    still of interest. `emptied` collects the numbers of blocks of which nothing is left, for the next commit to drop, in the order in
    which that came about. A region of which less than half is left is to be rewritten, but not the last one, which grows.

    Arguments:
        region_of: gives the region that the store has put a block into.
        region_bytes: the space that a region takes however little is left in it.
    """

    def __init__(self, region_of, uint64_t region_bytes):
        self._dead = {}
        self.emptied = deque()
        self._held = {}
        self._region_of = region_of
        self._region_bytes = region_bytes
        self._resting = deque()
        self._sparse = deque()
        self._again = deque()

    def __dealloc__(self):
        cdef uint64_t at
        for at in range(self._count):
            free(self._chunks[at])
        free(self._chunks)
        free(self._regions)

    cdef BlockInfo* find(self, uint64_t number) noexcept:
        """What is known of a block, or NULL."""
        cdef uint64_t at
        if number < self._base:
            return NULL
        at = (number - self._base) >> CHUNK_SHIFT
        if at >= self._count or self._chunks[at] == NULL:
            return NULL
        return &self._chunks[at][(number - self._base) & (CHUNK - 1)]

    cdef int add(self, uint64_t number, uint32_t records, uint32_t size) except -1:
        """A block was stored, with `records` live records in `size` bytes."""
        cdef BlockInfo* info = self._slot(number)
        cdef Region* region
        info.live = records
        info.size = size
        info.held_until = 0
        self._note_region(number)
        region = self._region(number)
        region.blocks += 1
        region.size += size
        region.live_bytes += size - BLOCK_HEAD
        self.blocks += 1
        self.size += size
        self.live_bytes += size - BLOCK_HEAD
        if records == 0:
            self._empty(number, info)
        return 0

    cdef int _note_region(self, uint64_t block) except -1:
        """See to it that the region of a block, which is the last one, is known."""
        cdef uint64_t number = self._region_of(block)
        cdef size_t capacity
        cdef Region* regions
        if self._region_count and self._regions[self._region_count - 1].number == number:
            return 0
        if self._region_count == self._region_capacity:
            capacity = self._region_capacity * 2 + 8
            regions = <Region*>realloc(self._regions, capacity * sizeof(Region))
            if regions == NULL:
                raise MemoryError()
            self._regions = regions
            self._region_capacity = capacity
        regions = &self._regions[self._region_count]
        memset(regions, 0, sizeof(Region))
        regions.number = number
        regions.first = block
        self._region_count += 1
        if self._region_count > 1:
            self._look_at(regions - 1)
        return 0

    cdef Region* _region(self, uint64_t block) noexcept:
        """The region of a block that is stored, or NULL."""
        cdef size_t low = 0, high = self._region_count, middle
        while low < high:
            middle = (low + high) // 2
            if self._regions[middle].first <= block:
                low = middle + 1
            else:
                high = middle
        return &self._regions[low - 1] if low else NULL

    cdef int _look_at(self, Region* region) except -1:
        """See whether little is left of a region that does not grow any more."""
        if not region.noted and region.blocks and region.live_bytes * 2 < max(region.size, self._region_bytes):
            if region < &self._regions[self._region_count - 1]:
                region.noted = 1
                self._resting.append(region.number)
        return 0

    cdef BlockInfo* _slot(self, uint64_t number) except NULL:
        cdef uint64_t at, capacity
        cdef BlockInfo** chunks
        if self._count == 0:
            self._base = number & ~<uint64_t>(CHUNK - 1)
        at = (number - self._base) >> CHUNK_SHIFT
        if at >= self._capacity:
            capacity = max(at + 1, self._capacity + self._capacity // 2 + 8)
            chunks = <BlockInfo**>realloc(self._chunks, capacity * sizeof(BlockInfo*))
            if chunks == NULL:
                raise MemoryError()
            self._chunks = chunks
            self._capacity = capacity
        while self._count <= at:
            self._chunks[self._count] = NULL
            self._count += 1
        if self._chunks[at] == NULL:
            self._chunks[at] = <BlockInfo*>calloc(CHUNK, sizeof(BlockInfo))
            if self._chunks[at] == NULL:
                raise MemoryError()
        return &self._chunks[at][(number - self._base) & (CHUNK - 1)]

    cdef int release(self, uint64_t number, uint32_t record_size) except -1:
        """One record of the block is gone for good."""
        cdef BlockInfo* info = self.find(number)
        cdef Region* region
        if info == NULL or info.live == 0:
            return 0
        region = self._region(number)
        info.live -= 1
        region.live_bytes -= min(<uint64_t>record_size, region.live_bytes)
        self.live_bytes -= min(<uint64_t>record_size, self.live_bytes)
        if info.live == 0:
            self._empty(number, info)
        return self._look_at(region)

    cdef int _empty(self, uint64_t number, BlockInfo* info) except -1:
        """Nothing is left of the block."""
        if self.is_held(info):
            self._held.setdefault(info.held_until, []).append(number)
        else:
            self.emptied.append(number)
        return 0

    @property
    def has_sparse(self):
        """Whether there are blocks to be rewritten, now or after a rest."""
        return bool(self._again or self._sparse or self._resting) or self._taken < self._taken_end

    def rested(self):
        """Regions that were found to have little left up to now have rested: what is about to be removed of them need not be copied."""
        self._sparse.extend(self._resting)
        self._resting.clear()

    def take_sparse(self, uint64_t bytes_max, Py_ssize_t count_max):
        """The numbers of some blocks to be rewritten, of about `bytes_max` bytes in all; whoever takes them sees to them."""
        cdef uint64_t number, size = 0
        cdef BlockInfo* info
        taken = []
        while size < bytes_max and len(taken) < count_max:
            if self._again:
                number = self._again.popleft()
            elif self._taken < self._taken_end:
                number = self._taken
                self._taken += 1
            elif self._sparse:
                self._begin_region(self._sparse.popleft())
                continue
            else:
                break
            info = self.find(number)
            if info != NULL and info.size and info.live:
                size += info.size
                taken.append(number)
        return taken

    def rewrite_again(self, uint64_t number):
        """A block that was taken could not be rewritten."""
        self._again.append(number)

    def _begin_region(self, uint64_t number):
        """Take the blocks of this region next."""
        cdef size_t at
        for at in range(self._region_count - 1 if self._region_count else 0):
            if self._regions[at].number == number:
                self._taken = self._regions[at].first
                self._taken_end = self._regions[at + 1].first
                return

    cdef int hold(self, uint64_t number, uint64_t until_s) except -1:
        """Do not drop the block before `until_s` (Unix s), also when nothing is left of it by then."""
        cdef BlockInfo* info = self.find(number)
        if info != NULL:
            info.held_until = max(info.held_until, <uint32_t>until_s)
        return 0

    cdef int let_go(self, uint64_t now_s) except -1:
        """Drop what was held until `now_s` (Unix s) or earlier, as soon as nothing is left of it."""
        self._let_go_s = max(self._let_go_s, now_s)
        for until_s in sorted(self._held):
            if until_s > now_s:
                break
            self.emptied.extend(self._held.pop(until_s))
        return 0

    cdef bint is_held(self, const BlockInfo* info) noexcept:
        """Whether the block would stay for now if nothing was left of it."""
        return info.held_until > self._let_go_s

    cdef uint32_t size_of(self, uint64_t number) noexcept:
        """How many bytes of the block are stored."""
        cdef BlockInfo* info = self.find(number)
        return info.size if info != NULL else 0

    def dropped(self, uint64_t number):
        """The block is no longer stored."""
        cdef BlockInfo* info = self.find(number)
        cdef Region* region
        if info != NULL and info.size:
            region = self._region(number)
            region.blocks -= 1
            region.size -= info.size
            self.blocks -= 1
            self.size -= info.size
            memset(info, 0, sizeof(BlockInfo))
            if region.blocks == 0:
                self._trim_regions()
        self._dead.pop(number, None)
        self._trim()

    def _trim_regions(self):
        """Forget regions in which no block is left, when that is half of them; never the last one, which grows."""
        cdef size_t at, kept = 0
        self._regions_emptied += 1
        if self._regions_emptied * 2 < self._region_count:
            return
        for at in range(self._region_count):
            if self._regions[at].blocks or at == self._region_count - 1:
                self._regions[kept] = self._regions[at]
                kept += 1
        self._region_count = kept
        self._regions_emptied = 0

    def _trim(self):
        """Forget chunks at the front in which no block is left."""
        cdef uint64_t gone = 0, at
        while gone < self._count and (self._chunks[gone] == NULL or self._is_empty(gone)):
            gone += 1
        # Moving the rest down is worth it only now and then.
        if gone == 0 or gone < self._count // 2 or gone == self._count:
            return
        for at in range(gone):
            free(self._chunks[at])
        self._count -= gone
        memmove(self._chunks, self._chunks + gone, self._count * sizeof(BlockInfo*))
        self._base += gone << CHUNK_SHIFT

    cdef bint _is_empty(self, uint64_t chunk) noexcept:
        cdef int at
        for at in range(CHUNK):
            if self._chunks[chunk][at].size:
                return False
        return True

    # the dead of blocks that live on

    cdef bint is_dead(self, uint64_t number, uint32_t offset) except -1:
        """Whether the record at `offset` was removed by somebody (not by its time)."""
        cdef bytearray bits = self._dead.get(number)
        cdef uint32_t place = offset // RECORD_MIN
        return bits is not None and place // 8 < len(bits) and (bits[place // 8] >> (place % 8)) & 1

    cdef bint mark_dead(self, uint64_t number, uint32_t offset) except -1:
        """Note that the record at `offset` was removed; false when that was noted already."""
        cdef uint32_t place = offset // RECORD_MIN
        cdef bytearray bits
        if self.is_dead(number, offset):
            return False
        bits = self._dead.setdefault(number, bytearray())
        if place // 8 >= len(bits):
            bits.extend(bytes(place // 8 + 1 - len(bits)))
        bits[place // 8] |= 1 << (place % 8)
        return True

    def dead_of(self, uint64_t number):
        """The block's row in the table of the dead."""
        return bytes(self._dead[number])

    def unmark_dead(self, uint64_t number, uint32_t offset):
        """The removal was not committed after all."""
        cdef uint32_t place = offset // RECORD_MIN
        cdef bytearray bits = self._dead.get(number)
        if bits is None or place // 8 >= len(bits):
            return
        bits[place // 8] &= 255 ^ (1 << (place % 8))
        if not any(bits):
            del self._dead[number]

    cdef int forget_dead(self, uint64_t number) except -1:
        """The block was not stored after all."""
        self._dead.pop(number, None)
        return 0

    def load_dead(self, uint64_t number, bytes row not None):
        """Take over the row of a block from the table of the dead."""
        self._dead[number] = bytearray(row)

    def has_dead(self, uint64_t number):
        """Whether the block has a row in the table of the dead."""
        return number in self._dead

    def dead_without_block(self, damaged):
        """After loading: the numbers of blocks that have such a row and are not there themselves, nor in `damaged`."""
        cdef uint64_t number
        cdef BlockInfo* info
        gone = []
        for number in self._dead:
            info = self.find(number)
            if (info == NULL or not info.size) and number not in damaged:
                gone.append(number)
        return gone


cdef class BlockCache:
    """The bytes of blocks used last, up to `bytes_max`."""

    def __cinit__(self, uint64_t bytes_max):
        self._blocks = OrderedDict()
        self._bytes_max = bytes_max

    cdef Block get(self, uint64_t number):
        """The block, or None when it is not in memory."""
        block = self._blocks.get(number)
        if block is not None:
            self._blocks.move_to_end(number)
        return block

    def find(self, uint64_t number):
        """The block, or None when it is not in memory."""
        return self.get(number)

    cdef int put(self, Block block) except -1:
        """Keep the block for a while."""
        if block.number in self._blocks:
            return 0
        self._blocks[block.number] = block
        self.size += block.size
        while self.size > self._bytes_max and len(self._blocks) > 1:
            _, oldest = self._blocks.popitem(last=False)
            self.size -= (<Block>oldest).size
        return 0

    def discard(self, uint64_t number):
        """Let go of a block."""
        block = self._blocks.pop(number, None)
        if block is not None:
            self.size -= (<Block>block).size
