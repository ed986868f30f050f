"""Copying what is alive in blocks that are mostly dead into blocks of its own, so that the old ones can be dropped.

The copies are part of a batch like everything else. When it is durable the index is pointed to them, and the old blocks have
nothing left: they are dropped with a commit that follows. In between both are stored, and whoever starts with them takes the later
copy of a record for the true one. Three things make that right:

- A block is copied as a whole or not at all: one with a record whose fate is open, since its deletion is under way, waits.
- What is gone when the batch with the copies is sealed, or goes with it, is marked as dead among the copies too (removals.pyx).
- Emptied blocks are dropped in the order in which they became empty, so no copy ever goes before what it was copied from.
"""

from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from mq9.mailboxes.blocks cimport BLOCK_TARGET, BlockInfo
from mq9.mailboxes.format cimport BLOCK_HEAD, record_mailbox, record_msg_id, record_size
from mq9.mailboxes.mailbox cimport Mailbox


cdef class Source:
    """One block that is rewritten."""

    def __dealloc__(self):
        free(self.moves)


cdef class Rewriting:
    """What one batch rewrites.

    Arguments:
        table, mailboxes: the post office's.
        next_block: the number for the first new block; those behind it are free as well.
        ended: called with whether the copies are what is stored now.
    """

    def __init__(self, BlockTable table not None, Numbers mailboxes not None, uint64_t next_block, ended):
        self._table = table
        self._mailboxes = mailboxes
        self._next_block = next_block
        self._ended = ended
        self.blocks = []
        self.sources = {}

    def add(self, uint64_t number, data not None, uint64_t now):
        """Copy what is alive in a block.

        Arguments:
            number, data: the block, which must have been checked.
            now: Unix ms.

        Returns whether that was possible; if not, nothing of it was copied, and it is to be tried again later.
        """
        cdef const unsigned char[::1] view = data
        cdef BlockInfo* info = self._table.find(number)
        cdef Source source
        if info == NULL or info.live == 0 or number in self.sources:
            return True
        if self._table.is_held(info):  # it would not be dropped, and its copies must not be before it
            return False
        source = Source()
        source.number = number
        source.moves = <Move*>malloc(info.live * sizeof(Move))
        if source.moves == NULL:
            raise MemoryError()
        if not self._choose(source, <const char*>&view[0]) or source.count != info.live:
            return False
        self._copy(source, <const char*>&view[0])
        self.sources[number] = source
        return True

    cdef bint _choose(self, Source source, const char* data) except -1:
        """Find the records of the block that are alive; false when it cannot be done without one of them."""
        cdef uint32_t offset = BLOCK_HEAD, live = self._table.find(source.number).live
        cdef uint32_t size = self._table.size_of(source.number)
        cdef const char* record
        cdef Mailbox mailbox
        cdef Entry* entry
        cdef Move* move
        cdef int rank
        while offset < size:
            record = data + offset
            mailbox = self._mailboxes.find(record_mailbox(record))
            entry = mailbox.find(record_msg_id(record), &rank) if mailbox is not None else NULL
            if entry != NULL and entry.block == source.number and entry.offset == offset:
                if source.count == live or self._table.is_dead(source.number, offset):
                    return False
                move = &source.moves[source.count]
                move.mailbox = mailbox.number
                move.msg_id = entry.msg_id
                move.former_offset = offset
                move.size = entry.size
                source.count += 1
            offset += record_size(record)
        return True

    cdef int _copy(self, Source source, const char* data) except -1:
        cdef Block block = <Block>self.blocks[len(self.blocks) - 1] if self.blocks else None
        cdef Move* move
        cdef uint32_t at
        for at in range(source.count):
            move = &source.moves[at]
            if block is None or block.size + move.size > BLOCK_TARGET and block.records:
                block = Block(self._next_block)
                self._next_block += 1
                self.blocks.append(block)
            move.block = block.number
            move.offset = <uint32_t>block.size
            memcpy(block.reserve(move.size), data + move.former_offset, move.size)
        return 0

    def copy_of(self, uint64_t number, uint32_t offset):
        """(block, offset) of the copy of a record, or None when it is not being copied."""
        cdef Source source = self.sources.get(number)
        cdef uint32_t low = 0, high, middle
        if source is None:
            return None
        high = source.count
        while low < high:
            middle = (low + high) // 2
            if source.moves[middle].former_offset < offset:
                low = middle + 1
            else:
                high = middle
        if low == source.count or source.moves[low].former_offset != offset:
            return None
        return source.moves[low].block, source.moves[low].offset

    cdef Entry* _original(self, Source source, const Move* move) noexcept:
        """The index entry of a message that is still where it was copied from; NULL when it is not."""
        cdef Mailbox mailbox = self._mailboxes.find(move.mailbox)
        cdef int rank
        cdef Entry* entry = mailbox.find(move.msg_id, &rank) if mailbox is not None else NULL
        if entry != NULL and entry.block == source.number and entry.offset == move.former_offset:
            return entry
        return NULL

    def outdated(self):
        """[(block, offset)] of the copies of what is no longer where it was copied from."""
        cdef Source source
        cdef uint32_t at
        found = []
        for source in self.sources.values():
            for at in range(source.count):
                if self._original(source, &source.moves[at]) == NULL:
                    found.append((source.moves[at].block, source.moves[at].offset))
        return found

    cdef int apply(self) except -1:
        """The copies are durable: let the index know. What has gone meanwhile is gone from the copies too."""
        cdef Source source
        cdef Entry* entry
        cdef Move* move
        cdef uint32_t at
        for source in self.sources.values():
            for at in range(source.count):
                move = &source.moves[at]
                entry = self._original(source, move)
                if entry != NULL:
                    entry.block = move.block
                    entry.offset = move.offset
                    self._table.release(source.number, move.size)
                else:
                    self._table.release(move.block, move.size)
        self._ended(True)
        return 0

    cdef int give_up(self) except -1:
        """The copies were not stored."""
        cdef Block block
        for block in self.blocks:
            self._table.forget_dead(block.number)
        self._ended(False)
        return 0
