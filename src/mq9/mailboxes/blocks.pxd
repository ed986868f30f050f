# Blocks: their bytes while they are in memory, and how much of each is still alive. See blocks.pyx.

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from mq9.native.memory cimport buffer_t

cdef enum:
    # A block is finished when it has this many bytes: small enough to be read for one message, large enough to be written fast.
    BLOCK_TARGET = 262144


cdef class Block:
    # The bytes of one block: being filled, waiting for its commit, or read back. `data` stays where it is once sealed.
    cdef readonly uint64_t number
    cdef buffer_t _own
    cdef bytes _source
    cdef const char* data
    cdef size_t size
    cdef uint32_t records

    cdef char* reserve(self, size_t size) except NULL


cdef struct BlockInfo:
    uint32_t live              # records that are still there; 0: the block is gone or going
    uint32_t size              # 0: the store does not have it
    uint32_t held_until        # Unix s; not before that it is dropped


cdef struct Region:
    # Blocks whose space comes back together: from `first` up to the first one of the region behind it.
    uint64_t number
    uint64_t first
    uint64_t live_bytes        # of the records that are still there
    uint64_t size              # of those that the store has
    uint32_t blocks            # how many these are
    uint32_t noted             # 1 when it is known that little is left


cdef class BlockTable:
    cdef BlockInfo** _chunks
    cdef uint64_t _base        # the number of the first slot of the first chunk
    cdef uint64_t _count, _capacity
    cdef readonly uint64_t blocks
    cdef readonly uint64_t size
    cdef readonly uint64_t live_bytes
    cdef dict _dead            # number → bytearray, a bitmap over RECORD_MIN steps
    cdef readonly object emptied
    cdef Region* _regions      # in the order of their numbers
    cdef size_t _region_count, _region_capacity, _regions_emptied
    cdef uint64_t _region_bytes
    cdef object _region_of
    cdef object _resting       # numbers of regions of which little is left since a short while
    cdef object _sparse        # and of those that are to be rewritten
    cdef object _again         # numbers of blocks of such regions that could not be rewritten so far
    cdef uint64_t _taken       # up to here the blocks of a region were taken that is being rewritten
    cdef uint64_t _taken_end   # where its blocks end
    cdef dict _held            # Unix s → numbers of blocks of which nothing is left but that are held until then
    cdef uint64_t _let_go_s

    cdef BlockInfo* find(self, uint64_t number) noexcept
    cdef int add(self, uint64_t number, uint32_t records, uint32_t size) except -1
    cdef int release(self, uint64_t number, uint32_t record_size) except -1
    cdef Region* _region(self, uint64_t block) noexcept
    cdef int _note_region(self, uint64_t block) except -1
    cdef int _look_at(self, Region* region) except -1
    cdef uint32_t size_of(self, uint64_t number) noexcept
    cdef int forget_dead(self, uint64_t number) except -1
    cdef int hold(self, uint64_t number, uint64_t until_s) except -1
    cdef bint is_held(self, const BlockInfo* info) noexcept
    cdef int let_go(self, uint64_t now_s) except -1
    cdef int _empty(self, uint64_t number, BlockInfo* info) except -1
    cdef bint mark_dead(self, uint64_t number, uint32_t offset) except -1
    cdef bint is_dead(self, uint64_t number, uint32_t offset) except -1
    cdef BlockInfo* _slot(self, uint64_t number) except NULL
    cdef bint _is_empty(self, uint64_t chunk) noexcept


cdef class BlockCache:
    cdef object _blocks
    cdef readonly uint64_t size
    cdef uint64_t _bytes_max

    cdef Block get(self, uint64_t number)
    cdef int put(self, Block block) except -1
