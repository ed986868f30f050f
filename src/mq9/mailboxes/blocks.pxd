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
    uint32_t size
    uint32_t live_bytes
    uint8_t kept               # 1 while the store has it
    uint8_t noted              # 1 when it is known to be mostly dead
    uint32_t held_until        # Unix s; not before that it is dropped


cdef class BlockTable:
    cdef BlockInfo** _chunks
    cdef uint64_t _base        # the number of the first slot of the first chunk
    cdef uint64_t _count, _capacity
    cdef readonly uint64_t blocks
    cdef readonly uint64_t size
    cdef readonly uint64_t live_bytes
    cdef dict _dead            # number → bytearray, a bitmap over RECORD_MIN steps
    cdef readonly object emptied
    cdef readonly object sparse
    cdef dict _held            # Unix s → numbers of blocks of which nothing is left but that are held until then
    cdef uint64_t _let_go_s

    cdef BlockInfo* find(self, uint64_t number) noexcept
    cdef int add(self, uint64_t number, uint32_t records, uint32_t size) except -1
    cdef int release(self, uint64_t number, uint32_t record_size) except -1
    cdef bint is_sparse(self, const BlockInfo* info) noexcept
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
