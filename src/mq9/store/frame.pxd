# Segments and the frames in them, byte by byte. See frame.pyx.
#
# A segment is a file of SEGMENT_BYTES, or more where one frame needs that, that frames are appended to. It is named by its number. What lies
# behind its last frame is not looked at: zeros, or what the file held when it was another segment.
#
# A frame is one commit:
#
#    0  u64  the salt of the store: a random number that no user can know, so that nothing in a message is ever taken for a frame
#    8  u32  CRC-32C of the head and the directory without these first twelve bytes
#   12  u32  size of the head and the directory
#   16  u64  the commit's sequence number: one more than that of the commit before
#   24  u64  the segment's number
#   32  u32  size of the rows
#   36  u32  CRC-32C of the rows
#   40  u32  size of the blocks
#   44  u32  CRC-32C of the blocks
#   48  u32  how many blocks there are
#   52  u32  how many blocks it drops
#   56  u32  how many rows there are
#   60  u32  0
#   64       the directory: for each block u64 number, u32 size; for each that it drops u64 number
#            the rows: u8 table, u8 0, u16 size of the key, u32 size of the value or ROW_REMOVED, key, value
#            the blocks, one behind the other
#            zeros up to a multiple of FRAME_ALIGNMENT
#
# All numbers are little-endian and unaligned.

from libc.stdint cimport uint32_t, uint64_t

from mq9.native.memory cimport buffer_t

cdef extern from "<sys/uio.h>" nogil:
    cdef struct iovec:
        void* iov_base
        size_t iov_len

cdef enum:
    FRAME_HEAD = 64
    FRAME_ALIGNMENT = 8
    BLOCK_ENTRY = 12
    ROW_HEAD = 8
    # What one frame can have at most; nothing larger is believed.
    FRAME_MAX = 1 << 30
    PLACE_DROPPED = 1 << 30


cdef class Frame:
    # A commit on its way into a segment.
    cdef buffer_t _head                    # head, directory and rows
    cdef list _held                        # what the blocks' bytes belong to
    cdef iovec* parts
    cdef int part_count
    cdef readonly size_t size              # of the whole frame, padding included
    cdef size_t _index_size
    cdef size_t _rows_size
    cdef readonly uint64_t sequence

    cdef void finish(self) noexcept nogil
    cdef int _put_rows(self, rows) except -1
    cdef int _put_blocks(self, blocks) except -1


cdef struct Place:
    # Where a block lies in its segment.
    uint64_t number
    uint32_t offset
    uint32_t size              # 0: it is damaged; with PLACE_DROPPED when it was dropped


cdef class Index:
    cdef readonly uint64_t segment
    cdef readonly uint64_t first_sequence
    cdef readonly uint64_t last_sequence
    cdef readonly uint64_t end             # where the next frame goes
    cdef readonly uint64_t count           # blocks that it ever had
    cdef readonly uint64_t live            # those that were not dropped
    cdef readonly list damage              # sentences
    cdef Place* _places                    # in the order of their numbers
    cdef uint64_t _capacity
    cdef bint _lost                        # something was damaged, and it is not known yet which blocks that were

    cdef Place* _find(self, uint64_t number) noexcept
    cdef uint64_t _last(self) noexcept
    cdef int _add(self, uint64_t number, uint64_t offset, uint32_t size) except -1
    cdef int _take(self, const char* frame, uint64_t at) except -1
    cdef uint64_t _next_frame(self, const char* data, uint64_t at, uint64_t size, uint64_t salt) noexcept
