# When things end: mailboxes and messages, by their time. See timers.pyx.

from cpython.object cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    WHEELS = 5
    SLOTS = 256

cdef struct Timer:
    uint64_t due               # Unix ms
    uint64_t msg_id            # 0: the owner itself
    PyObject* owner            # a reference is held

cdef struct Slot:
    Timer* timers
    uint32_t first             # those before it were taken out
    uint32_t count             # where the last one ends
    uint32_t capacity


cdef inline uint64_t passed(uint64_t now, uint64_t milliseconds) noexcept nogil:
    """The first Unix ms at which as many milliseconds have passed for certain since something that happened at `now`.

    The clock shows whole milliseconds, rounded down, so it may have happened up to one later than it shows.
    """
    return now + 1 + milliseconds


ctypedef bint (*is_stale_t)(object owner, uint64_t msg_id, uint64_t now) noexcept


cdef class TimerOwner:
    # Somebody other than a mailbox who has timers. `due` returns how much it had to look at, for a slice of time.
    cdef int due(self, uint64_t msg_id, uint64_t now) except -1
    cdef bint is_stale(self, uint64_t msg_id, uint64_t now) noexcept


cdef class Timers:
    cdef Slot _slots[WHEELS][SLOTS]
    cdef Slot _due
    cdef Slot _dealing         # a coarse slot on its way to finer ones
    cdef int _wheel            # the wheel whose slot of this tick was opened last; 0: all were
    cdef uint64_t _tick
    cdef readonly uint64_t count
    cdef uint64_t stale
    cdef uint64_t _awaited     # until when whoever lets time pass sleeps (Unix ms); 0: awake, or told to wake up
    cdef object _sooner
    cdef uint32_t _sweep_at
    cdef uint32_t _barren      # slots looked through since one had something stale

    cdef int add(self, uint64_t due, object owner, uint64_t msg_id) except -1
    cdef int lose_one(self) except -1
    cdef void lost_one_fired(self) noexcept
    cdef int hurry(self) except -1
    cdef uint64_t finished(self) noexcept
    cdef bint is_halfway(self) noexcept
    cdef bint has_come(self, uint64_t due) noexcept
    cdef bint pop(self, uint64_t now, Timer* timer) except -1
    cdef int sweep(self, is_stale_t is_stale, uint64_t now, uint32_t budget) except -1
    cdef int _open_slot(self) except -1
    cdef int _deal_one(self) except -1
    cdef int _place(self, Timer* timer) except -1
    cdef void _drop(self, Slot* slot) noexcept
    cdef void _drop_all(self) noexcept
    cdef bint _must_sweep(self) noexcept
    cdef uint64_t _next_tick(self) noexcept
