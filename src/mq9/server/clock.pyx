"""The broker's clock: Unix ms that never jump, whatever is done to the system's clock.

A lease, a delay and a timer end at a moment of this clock, so an hour that somebody sets the system's clock by must not come into it:
it runs with the time since the machine was booted, and what the system's clock was set by it makes up little by little. The row of
the store that says how it runs lets the next broker on the machine go on with the same clock. docs/protocol.md §2 is what clients may
count on.
"""

from posix.time cimport CLOCK_REALTIME, clock_gettime, timespec

import struct

from mq9.mailboxes.format import DamagedError, open_row, seal_row

cdef extern from *:
    """
    #include <time.h>
    /* The time that goes on while the machine sleeps; where there is no such clock, the monotonic one does that. */
    #ifndef CLOCK_BOOTTIME
    #define CLOCK_BOOTTIME CLOCK_MONOTONIC
    #endif
    """
    int CLOCK_BOOTTIME

cdef enum:
    # Of what the system's clock was set by, a second is made up in so many.
    CATCH_UP_S = 100
    NS_PER_MS = 1_000_000

# The system's clock is taken to have been set when it is as far from where it should be.
cdef int64_t SET_NS = 100 * NS_PER_MS
# Two clocks were read at one moment when no more lies between.
cdef int64_t READ_NS_MAX = 10 * NS_PER_MS
# So far from the system's clock another broker's clock is not continued.
cdef int64_t CONTINUED_NS_MAX = 86_400_000 * <int64_t>NS_PER_MS

CLOCK_KEY = b"clock"
_ROW = struct.Struct("<Bqqq")
_ROW_VERSION = 1


cdef int64_t _read_ns(int which) noexcept nogil:
    cdef timespec now
    clock_gettime(which, &now)
    return <int64_t>now.tv_sec * 1_000_000_000 + now.tv_nsec


cdef class SteadyClock:
    """A clock that shows what the system's clock shows now.

    Arguments:
        boot: names the time since the machine was booted: its boot_id, or nothing where that is not known.
    """

    def __init__(self, bytes boot not None=b""):
        self._boot = boot
        self._from_ns, system = _read_both()
        self._unix_ns = system
        self._lag_ns = 0

    cdef uint64_t time_ms(self) noexcept nogil:
        """Now, in Unix ms; never less than before."""
        return <uint64_t>(self._at(_read_ns(CLOCK_BOOTTIME)) // NS_PER_MS)

    cdef int64_t _at(self, int64_t booted_ns) noexcept nogil:
        return self._unix_ns + (booted_ns - self._from_ns) + self._lag_ns - self._lag_at(booted_ns)

    cdef int64_t _lag_at(self, int64_t booted_ns) noexcept nogil:
        """What is still to be made up."""
        cdef int64_t made_up = (booted_ns - self._from_ns) // CATCH_UP_S
        if self._lag_ns >= 0:
            return max(self._lag_ns - made_up, 0)
        return min(self._lag_ns + made_up, 0)

    def __call__(self):
        """Now, in Unix ms."""
        return self.time_ms()

    def follow(self):
        """Look whether the system's clock was set, and begin to make up for it.

        Returns by how many ms it was set since the last look, 0 when it was not.
        """
        cdef int64_t booted, system, set_by
        booted, system = _read_both()
        set_by = system - self._at(booted) - self._lag_at(booted)
        if -SET_NS < set_by < SET_NS:
            return 0
        self._unix_ns = self._at(booted)
        self._from_ns = booted
        self._lag_ns = system - self._unix_ns
        return set_by // NS_PER_MS

    @property
    def lag_ms(self):
        """By how much the system's clock is ahead of this one, in ms, as of the last look."""
        return self._lag_at(_read_ns(CLOCK_BOOTTIME)) // NS_PER_MS

    def pack(self):
        """The value of the row CLOCK_KEY in Table.META, by which another clock goes on with this one."""
        return seal_row(
            CLOCK_KEY, _ROW.pack(_ROW_VERSION, self._from_ns, self._unix_ns, self._lag_ns) + self._boot
        )

    def take_up(self, bytes value not None):
        """Go on with the clock of an earlier broker, which wrote this row.

        Returns whether it does: not when the machine was booted since, nor when that clock is more than a day from the system's. Raises
        DamagedError.
        """
        cdef SteadyClock former
        cdef int64_t booted, system
        body = open_row(CLOCK_KEY, value)
        if len(body) < _ROW.size or body[0] != _ROW_VERSION:
            raise DamagedError("has a wrong size or version")
        former = SteadyClock(body[_ROW.size:])
        _, former._from_ns, former._unix_ns, former._lag_ns = _ROW.unpack_from(body)
        booted, system = _read_both()
        if not self._boot or former._boot != self._boot or booted < former._from_ns:
            return False
        if abs(former._at(booted) - system) > CONTINUED_NS_MAX:
            return False
        self._from_ns, self._unix_ns, self._lag_ns = former._from_ns, former._unix_ns, former._lag_ns
        return True


cdef (int64_t, int64_t) _read_both() except *:
    """The time since the machine was booted and the system's clock, of one moment."""
    cdef int64_t before, system, after
    while True:
        before = _read_ns(CLOCK_BOOTTIME)
        system = _read_ns(CLOCK_REALTIME)
        after = _read_ns(CLOCK_BOOTTIME)
        if after - before <= READ_NS_MAX:
            return after, system


def boot_id():
    """What names the time since the machine was booted; nothing where the system does not say."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return file.read(64).strip()
    except OSError:
        return b""
