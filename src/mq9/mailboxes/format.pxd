# What is stored: the layout of blocks, records and rows. The one place that knows it; format.pyx has the recipe for changing it.
#
# A block is what one commit wrote of messages:
#
#    0  u32  BLOCK_MAGIC
#    4  u16  BLOCK_VERSION
#    6  u16  0
#    8  u32  CRC-32C of everything from byte 12 on; in a block of version 1 a CRC-32
#   12  u32  how many records follow
#   16  u64  the block's number
#   24  u64  when it was begun, Unix ms
#   32       the records: those of new messages in the order of their msg_ids, copies from older blocks as they come
#
# A record is one message, with everything that its index entry is rebuilt from:
#
#    0  u32  size of the whole record
#    4  u32  size of the header block
#    8  u64  msg_id
#   16  u64  bits 0-47 the mailbox's number, 48-55 the priority's rank, 56-63 FLAG_…
#   24  u64  when it was sent, Unix ms
#   32       for each flag, lowest first, its field:
#              FLAG_EXPIRES  u64  when it ends, Unix ms
#              FLAG_VISIBLE  u64  when it may first be seen, Unix ms
#              FLAG_KEY, FLAG_TAGS, FLAG_DEDUP  u16 size, then as many bytes
#            the header block without its last, empty line; nothing for a message without headers
#            the payload
#
# All numbers are little-endian and unaligned. No record is smaller than RECORD_MIN, so `offset // RECORD_MIN` numbers the records
# of a block without two alike: the row of a block in the table of the dead is a bitmap over that.

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from mq9.native.memory cimport load16, load32, load64

cdef enum:
    BLOCK_MAGIC = 0x4239514D   # "MQ9B"
    BLOCK_VERSION = 2
    BLOCK_HEAD = 32
    RECORD_MIN = 32

cdef enum:
    FLAG_EXPIRES = 1
    FLAG_VISIBLE = 2
    FLAG_KEY = 4
    FLAG_TAGS = 8              # read, and never set so far: tags stay in the header block
    FLAG_DEDUP = 16

cdef extern from *:
    """
    #define MQ9_TIME_MAX_MS (((uint64_t)1 << 48) - 1)
    #define MQ9_STORED_MSG_ID_MAX (((uint64_t)1 << 63) - 1)
    """
    # What is above these was never written: the index has 48 bits for a time, and no broker lives to give out as many msg_ids.
    const uint64_t TIME_MAX_MS "MQ9_TIME_MAX_MS"
    const uint64_t STORED_MSG_ID_MAX "MQ9_STORED_MSG_ID_MAX"


cdef inline uint32_t record_size(const char* record) noexcept nogil:
    return load32(record)


cdef inline uint32_t record_header_size(const char* record) noexcept nogil:
    return load32(record + 4)


cdef inline uint64_t record_msg_id(const char* record) noexcept nogil:
    return load64(record + 8)


cdef inline uint64_t record_mailbox(const char* record) noexcept nogil:
    return load64(record + 16) & ((<uint64_t>1 << 48) - 1)


cdef inline int record_priority(const char* record) noexcept nogil:
    return <uint8_t>record[22]


cdef inline int record_flags(const char* record) noexcept nogil:
    return <uint8_t>record[23]


cdef inline uint64_t record_time_ms(const char* record) noexcept nogil:
    return load64(record + 24)


cdef inline uint64_t record_expires_ms(const char* record) noexcept nogil:
    """When the message ends by its own ttl, or 0."""
    return load64(record + RECORD_MIN) if record_flags(record) & FLAG_EXPIRES else 0


cdef inline const char* record_headers(const char* record) noexcept nogil:
    """Where the header block begins: behind the fields that the flags say are there."""
    cdef int flags = record_flags(record)
    cdef const char* at = record + RECORD_MIN
    if flags == 0:
        return at
    if flags & FLAG_EXPIRES:
        at += 8
    if flags & FLAG_VISIBLE:
        at += 8
    if flags & FLAG_KEY:
        at += 2 + load16(at)
    if flags & FLAG_TAGS:
        at += 2 + load16(at)
    if flags & FLAG_DEDUP:
        at += 2 + load16(at)
    return at


cdef inline uint64_t record_visible_ms(const char* record) noexcept nogil:
    """When the message may first be seen, or 0."""
    cdef int flags = record_flags(record)
    return load64(record + RECORD_MIN + (8 if flags & FLAG_EXPIRES else 0)) if flags & FLAG_VISIBLE else 0


cdef inline const char* record_field(const char* record, int flag) noexcept nogil:
    """The field of FLAG_KEY, FLAG_TAGS or FLAG_DEDUP, which the record must have: its size as u16, then the bytes."""
    cdef int flags = record_flags(record)
    cdef const char* at = record + RECORD_MIN
    if flags & FLAG_EXPIRES:
        at += 8
    if flags & FLAG_VISIBLE:
        at += 8
    if flag > FLAG_KEY and flags & FLAG_KEY:
        at += 2 + load16(at)
    if flag > FLAG_TAGS and flags & FLAG_TAGS:
        at += 2 + load16(at)
    return at


# The row of a handout: a version byte, then for each of its unfinished messages
#
#    0  u64  msg_id
#    8  u64  when it is due, Unix ms
#   16  u8   its state, the rank of its priority, attempts
#   19  u16  size of the reason, which follows
cdef enum:
    HANDOUT_ROW_VERSION = 1
    HANDOUT_ITEM = 21
    RANKS = 5
    # OpenState of group.pxd has so many, of which the first, HANDED, is stored as another.
    HANDOUT_STATES = 6


cdef bint record_is_sound(const char* record, size_t room) noexcept nogil
