# The broker's clock. See clock.pyx.

from libc.stdint cimport int64_t, uint64_t


cdef class SteadyClock:
    # At _from_ns after the machine was booted it showed _unix_ns, and was behind the system's clock by _lag_ns.
    cdef bytes _boot
    cdef int64_t _from_ns
    cdef int64_t _unix_ns
    cdef int64_t _lag_ns

    cdef uint64_t time_ms(self) noexcept nogil
    cdef int64_t _at(self, int64_t booted_ns) noexcept nogil
    cdef int64_t _lag_at(self, int64_t booted_ns) noexcept nogil
