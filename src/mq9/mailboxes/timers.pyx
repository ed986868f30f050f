"""A hierarchical timing wheel: when mailboxes and messages end.

Five wheels of 256 slots, the finest with slots of 4 ms, the coarsest reaching beyond a century. Adding and firing cost the same
with ten timers and ten million. A timer is not removed when its cause is: whoever gets a due timer looks whether it still means
something, and `sweep` clears those out that do not before they are the greater part.

Nobody has to look every few milliseconds: `next_due` says until when there is nothing to do, and when that changes whoever asked
is called.
"""

from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdlib cimport free, realloc
from libc.string cimport memset

cdef enum:
    TICK_SHIFT = 2             # a tick is 4 ms
    SLOT_BITS = 8
    # Slots opened and timers dealt out to finer ones for each timer asked for: a slice of time.
    STEPS_PER_POP = 4096
    # So few stale timers are not worth sweeping.
    STALE_MIN = 64

cdef uint64_t NEVER = <uint64_t>-1


cdef int _push(Slot* slot, Timer* timer) except -1:
    cdef uint32_t capacity
    cdef Timer* timers
    if slot.count == slot.capacity:
        capacity = slot.capacity + slot.capacity // 2 + 1
        timers = <Timer*>realloc(slot.timers, capacity * sizeof(Timer))
        if timers == NULL:
            raise MemoryError()
        slot.timers = timers
        slot.capacity = capacity
    slot.timers[slot.count] = timer[0]
    slot.count += 1
    return 0


cdef inline uint64_t _tick_of(uint64_t due) noexcept nogil:
    """The first tick at which a time (Unix ms) has come."""
    return (due + (1 << TICK_SHIFT) - 1) >> TICK_SHIFT


cdef void _release(Slot* slot) noexcept:
    free(slot.timers)
    memset(slot, 0, sizeof(Slot))


cdef class TimerOwner:
    """Somebody who has timers. (Mailboxes have them without this, since the post office does what theirs are for.)"""

    cdef int due(self, uint64_t msg_id, uint64_t now) except -1:
        """The timer that was added for (this owner, `msg_id`) has fired at `now` (Unix ms); it may have lost its cause.

        Returns how many things beside the timer itself were looked at.
        """
        return 0

    cdef bint is_stale(self, uint64_t msg_id, uint64_t now) noexcept:
        """Whether the timer that was added for (this owner, `msg_id`) has lost its cause."""
        return False


cdef class Timers:
    """All timers of a broker.

    Arguments:
        now: Unix ms; the wheel's time only moves forward from here.
    """

    def __cinit__(self, uint64_t now=0):
        memset(self._slots, 0, sizeof(self._slots))
        memset(&self._due, 0, sizeof(Slot))
        memset(&self._dealing, 0, sizeof(Slot))
        self._tick = now >> TICK_SHIFT

    def __dealloc__(self):
        self._drop_all()

    def clear(self):
        """Forget all timers. Who has one may refer to whoever owns this, and the garbage collector does not look in here."""
        self.count = self.stale = 0
        self._drop_all()

    cdef void _drop_all(self) noexcept:
        cdef int wheel, at
        for wheel in range(WHEELS):
            for at in range(SLOTS):
                self._drop(&self._slots[wheel][at])
        self._drop(&self._due)
        self._drop(&self._dealing)

    cdef void _drop(self, Slot* slot) noexcept:
        cdef uint32_t at
        for at in range(slot.first, slot.count):
            Py_DECREF(<object>slot.timers[at].owner)
        _release(slot)

    cdef int add(self, uint64_t due, object owner, uint64_t msg_id) except -1:
        """Let (`owner`, `msg_id`) be due at `due` (Unix ms); it is never handed out before."""
        cdef Timer timer
        timer.due = due
        timer.msg_id = msg_id
        timer.owner = <PyObject*>owner
        self._place(&timer)
        Py_INCREF(owner)
        self.count += 1
        if due < self._awaited:
            self.hurry()
        return 0

    cdef int lose_one(self) except -1:
        """A timer has lost its cause."""
        self.stale += 1
        if self._awaited and self._must_sweep():
            self.hurry()
        return 0

    cdef void lost_one_fired(self) noexcept:
        """A timer that had lost its cause has fired."""
        if self.stale:
            self.stale -= 1

    def on_sooner(self, sooner not None):
        """Call `sooner()`, once, when time has to pass before the moment that `next_due` gave last."""
        self._sooner = sooner

    cdef int hurry(self) except -1:
        """Wake up whoever lets time pass, unless that is done."""
        if self._awaited:
            self._awaited = 0
            if self._sooner is not None:
                self._sooner()
        return 0

    def next_due(self):
        """The Unix ms before which there is nothing to do, or None when there will be nothing; in the past when there is now.

        Exact for timers of the next second or so. Others give the beginning of a stretch of time in which something is due; who
        asks again then gets to know more.
        """
        cdef uint64_t tick
        if self._due.count or self._dealing.count or self._wheel > 0 or self._must_sweep():
            tick = self._tick
        else:
            tick = self._next_tick()
        self._awaited = NEVER if tick == NEVER else tick << TICK_SHIFT
        return None if tick == NEVER else self._awaited

    cdef uint64_t _next_tick(self) noexcept:
        """The first tick to come in which a slot is opened that is not empty, or NEVER."""
        cdef int wheel
        cdef uint64_t place, last
        if self.count == 0:
            return NEVER
        for wheel in range(WHEELS):
            place = self._tick >> (SLOT_BITS * wheel)
            # The coarsest wheel is the only one that may hold something behind its end, which is over a century away.
            last = place + SLOTS if wheel == WHEELS - 1 else place | (SLOTS - 1)
            while place < last:
                place += 1
                if self._slots[wheel][place & (SLOTS - 1)].count:
                    return place << (SLOT_BITS * wheel)
        return NEVER

    cdef bint is_halfway(self) noexcept:
        """Whether some of the timers of a tick have been handed out, and others have not."""
        return self._due.count or self._dealing.count or self._wheel > 0

    cdef bint has_come(self, uint64_t due) noexcept:
        """Whether timers that are due at `due` (Unix ms) have been handed out, or are being so."""
        return _tick_of(due) <= self._tick

    cdef uint64_t finished(self) noexcept:
        """As `done_until`."""
        if self.is_halfway():
            return (self._tick - 1) << TICK_SHIFT if self._tick else 0
        return self._tick << TICK_SHIFT

    def done_until(self):
        """The Unix ms up to which every timer has been handed out, but for those that were added when it had passed."""
        return self.finished()

    cdef bint _must_sweep(self) noexcept:
        return self.stale * 2 > self.count + STALE_MIN

    cdef int _place(self, Timer* timer) except -1:
        # Rounded up, so that a timer is never early; what lies behind the wheel's own time is due with its next step.
        cdef uint64_t tick = max(_tick_of(timer.due), self._tick + 1)
        cdef uint64_t distance = tick ^ self._tick
        cdef int wheel = 0
        while wheel < WHEELS - 1 and distance >> (SLOT_BITS * (wheel + 1)):
            wheel += 1
        return _push(&self._slots[wheel][(tick >> (SLOT_BITS * wheel)) & (SLOTS - 1)], timer)

    cdef bint pop(self, uint64_t now, Timer* timer) except -1:
        """Take out one timer that is due at `now` (Unix ms). The reference in `timer.owner` is the caller's to give up.

        False when none is due, or when so many had to be dealt out to finer slots that it takes another call: `is_behind` then.
        """
        cdef uint32_t steps = STEPS_PER_POP
        cdef uint64_t tick = now >> TICK_SHIFT
        cdef uint64_t next_tick
        while self._due.count == 0 and steps:
            steps -= 1
            if self._dealing.count:
                self._deal_one()
            elif self._wheel > 0:
                self._open_slot()
            elif self._tick < tick:
                next_tick = self._next_tick()
                self._tick = min(next_tick, tick)
                if next_tick <= tick:
                    self._wheel = WHEELS
            else:
                break
        if self._due.count == 0:
            return False
        # In the order in which they were set: messages that are due together appear as they were sent.
        timer[0] = self._due.timers[self._due.first]
        self._due.first += 1
        if self._due.first == self._due.count:
            _release(&self._due)
        self.count -= 1
        return True

    def is_behind(self, uint64_t now):
        """Whether `pop` and `sweep` have more to look through at `now` (Unix ms)."""
        return (
            self._due.count > 0 or self._must_sweep()
            or (self.count > 0 and (self._wheel > 0 or self._tick < now >> TICK_SHIFT))
        )

    cdef int _open_slot(self) except -1:
        """Go on with the tick that was entered: from the coarsest wheel down, a slot that begins here is dealt out to finer ones."""
        cdef int wheel
        cdef Slot* source
        self._wheel -= 1
        wheel = self._wheel
        if self._tick & ((<uint64_t>1 << (SLOT_BITS * wheel)) - 1):
            return 0
        source = &self._slots[wheel][(self._tick >> (SLOT_BITS * wheel)) & (SLOTS - 1)]
        if source.count == 0:
            return 0
        _release(&self._dealing)
        self._dealing = source[0]
        memset(source, 0, sizeof(Slot))
        if wheel == 0:  # everything in it is due now
            _release(&self._due)
            self._due = self._dealing
            memset(&self._dealing, 0, sizeof(Slot))
        return 0

    cdef int _deal_one(self) except -1:
        cdef Timer timer
        timer = self._dealing.timers[self._dealing.first]
        self._dealing.first += 1
        if self._dealing.first == self._dealing.count:
            _release(&self._dealing)
        # Due with this very tick: into the finest slot, which is opened after the coarser ones.
        if _tick_of(timer.due) <= self._tick:
            return _push(&self._slots[0][self._tick & (SLOTS - 1)], &timer)
        return self._place(&timer)

    cdef int sweep(self, is_stale_t is_stale, uint64_t now, uint32_t budget) except -1:
        """Clear out stale timers, once they are the greater part, about `budget` timers at a time."""
        cdef Slot* slot
        cdef uint32_t at, kept, looked = 0
        while looked < budget and self._must_sweep():
            slot = &self._slots[self._sweep_at // SLOTS][self._sweep_at % SLOTS]
            kept = 0
            for at in range(slot.count):
                if is_stale(<object>slot.timers[at].owner, slot.timers[at].msg_id, now):
                    Py_DECREF(<object>slot.timers[at].owner)
                    self.count -= 1
                    if self.stale:
                        self.stale -= 1
                else:
                    slot.timers[kept] = slot.timers[at]
                    kept += 1
            looked += slot.count + 1
            self._barren = self._barren + 1 if kept == slot.count else 0
            slot.count = kept
            if kept == 0:
                _release(slot)
            self._sweep_at = (self._sweep_at + 1) % (WHEELS * SLOTS)
            if self._barren == WHEELS * SLOTS:
                # A whole round found nothing: what was counted as stale has been handed out.
                self._barren = 0
                self.stale = 0
        return 0
