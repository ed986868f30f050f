# Which messages were sent lately under an id of their senders. See dedup.pyx.

from libc.stdint cimport uint32_t, uint64_t

from mq9.mailboxes.blocks cimport BlockTable
from mq9.mailboxes.mailbox cimport Mailbox, Sender
from mq9.mailboxes.timers cimport TimerOwner, Timers

cdef enum:
    # For so long after a send, another one with its id is a repeat.
    WINDOW_MS = 120000
    DEDUP_ID_MAX = 256
    SEGMENTS = 1024
    PIECE = 128

cdef enum SeenState:
    PENDING                    # not durable yet
    STORED
    FORGOTTEN                  # found no more; its place is reused when its time has come

cdef struct Mark:
    # 128 bits of a keyed hash of a mailbox's number and an id.
    uint64_t first
    uint64_t second

cdef struct Seen:
    # A message that was sent under an id. It stays where it is in memory until its time has come.
    Mark mark
    uint64_t msg_id
    uint64_t stamp             # when it was sent (Unix ms) * 4 + its SeenState
    Seen* next

cdef struct Segment:
    Seen** buckets
    uint32_t size              # buckets: 0 or a power of two
    uint32_t count

cdef struct Piece:
    Piece* next
    uint32_t used
    Seen seen[PIECE]


cdef class Repeats(TimerOwner):
    cdef readonly Timers timers
    cdef readonly BlockTable blocks
    cdef readonly uint64_t count
    cdef Segment _segments[SEGMENTS]
    cdef Piece* _oldest
    cdef Piece* _newest
    cdef uint32_t _done        # how many of the oldest piece are over
    cdef bint _watching
    cdef dict _waiting         # msg_id → the Repeats of it that wait until it is durable

    cdef Seen* find(self, const Mark* mark, uint64_t now) noexcept
    cdef Seen* add(self, const Mark* mark, uint64_t msg_id, uint64_t sent_ms, SeenState state) except NULL
    cdef int stored(self, Seen* seen, uint64_t block) except -1
    cdef int hold(self, uint64_t block, uint64_t sent_ms) except -1
    cdef int refuse(self, Seen* seen, object error) except -1
    cdef object wait(self, Seen* seen, Mailbox mailbox, Sender sender, bytes reply)
    cdef int _watch(self, uint64_t due) except -1
    cdef void _unlink(self, Seen* seen) noexcept
    cdef Seen* _room(self) except NULL


cdef class Repeat:
    # Somebody who sent a message again before it was durable.
    cdef uint64_t _msg_id
    cdef Mailbox _mailbox
    cdef Sender _sender
    cdef bytes _reply
    cdef object _error


cdef void mark_of(uint64_t mailbox, const char* dedup_id, size_t size, Mark* mark) noexcept
