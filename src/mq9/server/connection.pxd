# One client's socket: bytes in, frames out, and what is waiting on either side. See connection.pyx.

from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

from mq9.native.memory cimport buffer_t
from mq9.wire.frames cimport FrameHandler, Limits


cdef class Shared:
    # What all connections of a broker share: the read buffer, the limits, and who has something to write this turn.
    cdef object loop
    cdef bytearray _read_buffer
    cdef object _read_view
    cdef char* read_data
    cdef Py_ssize_t read_size
    cdef Limits limits
    cdef readonly Py_ssize_t pending_max
    cdef Py_ssize_t write_high
    cdef Py_ssize_t stall_at
    cdef list _dirty
    cdef list _free_outputs
    cdef bint _flush_scheduled
    cdef public uint64_t bytes_in
    cdef public uint64_t bytes_out
    cdef public uint64_t slow_consumers
    cdef readonly dict refusals         # by their reasons
    cdef readonly dict reached          # limit → how often

    cdef int refused(self, str reason) except -1
    cdef int mark(self, Connection connection) except -1


cdef class Connection(FrameHandler):
    cdef object __weakref__
    cdef readonly object transport
    # The transport that carries it, where that is another one: TLS keeps only part of what the socket has not taken.
    cdef public object carrier
    cdef Shared shared
    # The unfinished frame at the end of what was read, and how large it will be (0: not known).
    cdef buffer_t _rest
    cdef Py_ssize_t _rest_wanted
    cdef bint _reads_in_place
    # For how much there was room when it was last read, and how much was read since others had their turn.
    cdef Py_ssize_t _read_room
    cdef Py_ssize_t _read_in_turn
    cdef char _skipped[2]              # the last bytes that were left out of a refused frame
    # What is to be written this turn: a bytes object being filled.
    cdef PyObject* _output
    cdef char* _output_data
    cdef Py_ssize_t output_size
    # Where the output ends, counted from the connection's beginning, and up to where its socket is known to have taken it.
    cdef uint64_t position
    cdef uint64_t taken
    cdef bint _watches_output
    cdef bint _ends
    cdef uint64_t _soft_end            # where the output ends that is written still while the connection ends
    cdef Py_ssize_t _output_capacity
    cdef bint _is_dirty
    # The socket to write to, or -1 when only the transport may; and whether the transport may still hold something.
    cdef int _socket
    cdef bint _transport_holds
    # Whether something was written that waits in memory only: such a client is cut off when it does not read.
    cdef bint _may_cut_off
    # What the transport held when it was last written to, as long as it is more than it likes to hold.
    cdef Py_ssize_t backlog
    cdef readonly bint write_paused
    cdef int _read_pauses
    cdef readonly bint closed
    cdef bint active
    cdef public str close_reason

    cdef char* reserve(self, Py_ssize_t size) except NULL
    cdef int commit(self, Py_ssize_t size) except -1
    cdef int commit_stored(self, Py_ssize_t size) except -1
    cdef int send(self, bytes data) except -1
    cdef Py_ssize_t room(self) noexcept
    cdef Py_ssize_t held(self) except -1
    cdef int _flush(self) except -1
    cdef int look_what_was_taken(self) except -1
    cdef bint _say_last(self, str reason, bytes last) except -1
    cdef int _ends_softly(self) except -1
    cdef int output_taken(self) except -1
    cdef Py_ssize_t _write_now(self) except -1
    cdef int _write_later(self, Py_ssize_t written) except -1
    cdef _drop_output(self)
    cdef int _end(self, str reason) except -1
    cdef Py_ssize_t _skip(self, const char* data, Py_ssize_t size) except -1
    cdef int _take_turns(self, Py_ssize_t count) except -1
    cdef int _keep_rest(self, const char* data, Py_ssize_t size) except -1
