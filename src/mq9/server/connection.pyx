"""One client's socket, as an asyncio buffered protocol.

Reading: all connections read into one shared buffer, and only an unfinished frame is kept per client. Writing: frames go into a
bytes object that is written to the socket once, at the end of the loop's turn, while other threads may run; what the socket does
not take becomes the transport's, without another copy. What the frames mean is the subclass's affair (session.pyx).
"""

import logging

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.buffer cimport PyBUF_WRITE
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF
from libc.string cimport memcmp, memcpy, memmove

from mq9.native.memory cimport buffer_append, buffer_free, buffer_reserve
from mq9.server.limits import LIMIT_OF_REFUSAL, LIMITS
from mq9.wire.frames cimport UNKNOWN_OPERATION, parse_frames

cdef extern from "Python.h":
    int _PyBytes_Resize(PyObject** bytes_object, Py_ssize_t size) except -1

cdef extern from "<sys/socket.h>" nogil:
    ssize_t send(int socket, const void* data, size_t size, int flags)
    int MSG_DONTWAIT
    int MSG_NOSIGNAL

log = logging.getLogger("mq9")

cdef enum:
    READ_BUFFER_SIZE = 262144
    # As much as that is read of one client while others wait: of one that sends as fast as it can, the loop reads 32 buffers at a time.
    # Of a large frame it is one buffer, since there is nothing to be passed on before it is whole.
    READ_TURN_MAX = 1048576
    # When so much of a frame has come, there is room made for the rest at once: what is not written to takes no memory, and growing
    # a buffer of megabytes is copying it.
    GROWS_UNTIL = 1048576
    # An unfinished frame up to this size is put in front of what is read next; a larger one is read on in its own buffer.
    REST_IN_SHARED_MAX = 65536
    OUTPUT_FIRST = 65536
    # What is read at a time of a client that has not said who it is: what it said is kept while that is found out.
    STRANGER_READ = 8192
    # Up to this size an output is copied into a bytes object of its own size and its room used again.
    OUTPUT_COPY_MAX = 16384
    FREE_OUTPUTS_MAX = 16
    # The transport asks for a pause above the first and for more below the second. Past the first an output is handed to the
    # transport before the turn ends.
    WRITE_HIGH = 1048576
    WRITE_LOW = 262144
    # More than this is written without the interpreter's lock: giving it up and getting it back takes as long as copying this much.
    QUICK_WRITE_MAX = 32768
    # What a record of TLS carries at most (RFC 8446, 5.1).
    TLS_RECORD_MAX = 16384
    # A publisher whose subscriber is this far behind is made to wait a little, as nats-server does.
    STALL_AT = 8388608

# How long a client may take to hang up itself when it was told why it has to go.
cdef double LINGER_S = 0.5


cdef class Shared:
    """What all connections of one broker share.

    Arguments:
        loop: the event loop they live on.
        control_line_max, payload_max: limits of the parser, in bytes.
        pending_max: bytes that may wait for a client that does not read before it is cut off.
    """

    def __init__(self, loop, Py_ssize_t control_line_max, Py_ssize_t payload_max, Py_ssize_t pending_max):
        self.loop = loop
        self._read_buffer = bytearray(READ_BUFFER_SIZE)
        self._read_view = memoryview(self._read_buffer)
        self.read_data = self._read_buffer
        self.read_size = READ_BUFFER_SIZE
        self.limits.control_line_max = control_line_max
        self.limits.payload_max = payload_max
        self.pending_max = pending_max
        self.write_high = min(WRITE_HIGH, pending_max)
        self.stall_at = min(STALL_AT, pending_max * 3 // 4)
        self._dirty = []
        self._free_outputs = []
        self.refusals = {}
        self.reached = dict.fromkeys(LIMITS, 0)

    cdef int refused(self, str reason) except -1:
        """Count a refusal by its reason, for the metrics."""
        self.refusals[reason] = self.refusals.get(reason, 0) + 1
        if reason in LIMIT_OF_REFUSAL:
            self.reach(LIMIT_OF_REFUSAL[reason])
        return 0

    def count_refusal(self, str reason not None):
        """As `refused`, from Python."""
        self.refused(reason)

    def reach(self, str limit not None):
        """A client has reached the limit of this name (mq9.server.limits)."""
        self.reached[limit] += 1

    cdef int mark(self, Connection connection) except -1:
        """`connection` has something to write at the end of this turn."""
        connection._is_dirty = True
        self._dirty.append(connection)
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self.loop.call_soon(self.flush)
        return 0

    def flush(self):
        """Write to every socket that something was sent to since the last time."""
        cdef Connection connection
        cdef list dirty = self._dirty
        self._dirty = []
        self._flush_scheduled = False
        for connection in dirty:
            connection._is_dirty = False
            try:
                connection._flush()
            except Exception:  # of one, which is none of the others' business
                log.exception("an error of the broker's own while writing to a client")
                connection.abort("internal error")


cdef class Connection(FrameHandler):
    """Bytes in and out of one client."""

    def __init__(self, Shared shared not None):
        self.shared = shared
        self.close_reason = ""
        self._socket = -1

    def __dealloc__(self):
        buffer_free(&self._rest)
        Py_XDECREF(self._output)

    # asyncio.BufferedProtocol

    def connection_made(self, transport):
        self.transport = transport
        plain = transport.get_extra_info("socket") if transport.get_extra_info("ssl_object") is None else None
        self._socket = -1 if plain is None else plain.fileno()
        transport.set_write_buffer_limits(high=self.shared.write_high, low=min(WRITE_LOW, self.shared.write_high // 4))

    def connection_lost(self, exception):
        if exception is None:
            self.taken = max(self.taken, self._soft_end)
        self.closed = self.stopped = True
        self._socket = -1
        buffer_free(&self._rest)
        self._drop_output()

    def eof_received(self):
        if self._watches_output and not self.closed:
            self.look_what_was_taken()
        self._ends_softly()
        self._socket = -1
        return False

    def pause_writing(self):
        self.write_paused = True

    def resume_writing(self):
        self.write_paused = False
        self.backlog = 0

    def get_buffer(self, Py_ssize_t hint):
        cdef Py_ssize_t rest = self._rest.size
        cdef Py_ssize_t extra
        self._reads_in_place = rest > REST_IN_SHARED_MAX
        if self._reads_in_place:
            # Grows as bytes come, not as large as was announced: announcing costs a client nothing.
            extra = max(self._rest_wanted - rest, OUTPUT_FIRST)
            self._read_room = min(extra, READ_BUFFER_SIZE)
            if rest < GROWS_UNTIL:
                extra = self._read_room
            return PyMemoryView_FromMemory(buffer_reserve(&self._rest, extra), self._read_room, PyBUF_WRITE)
        if rest > 0:
            memcpy(self.shared.read_data, self._rest.data, rest)
        if self.connect_first:
            self._read_room = STRANGER_READ
            return self.shared._read_view[rest:rest + STRANGER_READ]
        self._read_room = self.shared.read_size - rest
        return self.shared._read_view[rest:] if rest > 0 else self.shared._read_view

    def buffer_updated(self, Py_ssize_t count):
        cdef const char* data
        cdef Py_ssize_t size = self._rest.size + count, consumed, wanted
        if self.stopped:
            return
        self.active = True
        self.shared.bytes_in += count
        self._take_turns(count)
        if self._reads_in_place:
            self._rest.size = size
            if size < self._rest_wanted:
                return
            data = self._rest.data
        else:
            data = self.shared.read_data
        if self.skips:
            consumed = self._skip(data, size)
            data += consumed
            size -= consumed
            if size == 0 or self.stopped:
                return
        consumed = parse_frames(self, data, size, &self.shared.limits, &wanted)
        if self.stopped or consumed == size:
            buffer_free(&self._rest)
            self._rest_wanted = 0
        else:
            self._rest_wanted = wanted
            self._keep_rest(data + consumed, size - consumed)

    cdef int _take_turns(self, Py_ssize_t count) except -1:
        """After so many bytes were read: let others have their turn when there was much, and more is there."""
        if count < self._read_room:
            self._read_in_turn = 0
            return 0
        self._read_in_turn += count
        if self._read_in_turn >= READ_TURN_MAX or self._reads_in_place:
            self._read_in_turn = 0
            self.pause_reading()
            self.shared.loop.call_soon(self.resume_reading)
        return 0

    cdef Py_ssize_t _skip(self, const char* data, Py_ssize_t size) except -1:
        """Leave out what there is of a refused frame; returns how much that is. It must end as frames do."""
        cdef Py_ssize_t count = min(self.skips, size), at
        for at in range(max(count - 2, 0), count):
            self._skipped[0] = self._skipped[1]
            self._skipped[1] = data[at]
        self.skips -= count
        if self.skips == 0 and memcmp(self._skipped, b"\r\n", 2) != 0:
            self.violate(UNKNOWN_OPERATION)
        return count

    cdef int _keep_rest(self, const char* data, Py_ssize_t size) except -1:
        if self._reads_in_place:
            memmove(self._rest.data, data, size)
            self._rest.size = size
        else:
            self._rest.size = 0
            buffer_append(&self._rest, data, size)
        return 0

    # writing

    cdef char* reserve(self, Py_ssize_t size) except NULL:
        """Room for `size` bytes of output; `commit` says how many were used."""
        cdef Py_ssize_t capacity
        cdef list free_outputs
        if self._output == NULL:
            free_outputs = self.shared._free_outputs
            if size <= OUTPUT_FIRST and free_outputs:
                output = free_outputs.pop()
                capacity = OUTPUT_FIRST
            else:
                capacity = max(size, OUTPUT_FIRST)
                output = PyBytes_FromStringAndSize(NULL, capacity)
            Py_INCREF(output)
            self._output = <PyObject*>output
            del output
            self._output_capacity = capacity
            self._output_data = PyBytes_AS_STRING(<object>self._output)
        elif self.output_size + size > self._output_capacity:
            capacity = self._output_capacity * 2
            while capacity < self.output_size + size:
                capacity *= 2
            _PyBytes_Resize(&self._output, capacity)
            self._output_capacity = capacity
            self._output_data = PyBytes_AS_STRING(<object>self._output)
        return self._output_data + self.output_size

    cdef int commit(self, Py_ssize_t size) except -1:
        """`size` more bytes of output were written where `reserve` said."""
        self._may_cut_off = True
        return self.commit_stored(size)

    cdef int commit_stored(self, Py_ssize_t size) except -1:
        """As `commit`, for bytes that the client is only given while it has room: they never get it cut off."""
        self.output_size += size
        self.position += size
        if not self._is_dirty:
            self.shared.mark(self)
        if self.output_size >= self.shared.write_high:
            # Not before the turn ends but now: what the transport makes of it says whether there is room for more.
            self._flush()
        return 0

    cdef int send(self, bytes data) except -1:
        """Write `data` at the end of this turn."""
        cdef Py_ssize_t size = len(data)
        if not self.closed:
            memcpy(self.reserve(size), PyBytes_AS_STRING(data), size)
            self.commit(size)
        return 0

    cdef Py_ssize_t room(self) noexcept:
        """How many bytes this client would take now without being asked to wait."""
        if self.closed or self.write_paused or self._ends:
            return 0
        return max(self.shared.write_high - self.output_size, 0)

    cdef Py_ssize_t held(self) except -1:
        """How many bytes of output the socket has not taken yet, over TLS about."""
        cdef Py_ssize_t size = self.transport.get_write_buffer_size()
        if self.carrier is not None:
            size += self.carrier.get_write_buffer_size()
        return size

    cdef int _flush(self) except -1:
        cdef Py_ssize_t size = self.output_size, written
        if size == 0 or self.closed:
            return 0
        self.shared.bytes_out += size
        written = self._write_now()
        if written == size:
            self._drop_output()
        else:
            self._write_later(written)
        if self.write_paused:
            self.backlog = self.held()
            if self._may_cut_off and self.backlog > self.shared.pending_max:
                self.shared.slow_consumers += 1
                self.abort("Slow Consumer (Pending Bytes)")
        self._may_cut_off = False
        if self._watches_output and not self.closed:
            self.look_what_was_taken()
        return 0

    cdef int look_what_was_taken(self) except -1:
        """See how much of the output has reached the socket, and tell `output_taken`.

        Over TLS the socket may have taken a part of a record. The client can read nothing of that, so that none of it counts.
        """
        cdef uint64_t held = self.output_size
        if self.transport.is_closing() or self.carrier is not None and self.carrier.is_closing():
            return 0  # it drops what it is given, so that it holds nothing is no sign
        if self._transport_holds:
            held += self.held()
            if self.carrier is not None and self.carrier.get_write_buffer_size():
                held += TLS_RECORD_MAX
        self.taken = max(self.taken, self.position - min(held, self.position))
        return self.output_taken()

    cdef int _ends_softly(self) except -1:
        """The connection ends when the transport has written what it holds, unless an error comes first; it takes nothing more."""
        self._ends = True
        self._soft_end = self.position - self.output_size
        return 0

    cdef int output_taken(self) except -1:
        """The socket has taken the output up to `taken`; for a subclass that watches it."""
        return 0

    cdef Py_ssize_t _write_now(self) except -1:
        """Write to the socket what it takes; returns how many bytes that was.

        Nothing goes past what the transport still holds. An error is left for the transport to find.
        """
        cdef Py_ssize_t written
        cdef Py_ssize_t size = self.output_size
        cdef const char* data = self._output_data
        cdef int socket = self._socket
        if socket < 0:
            return 0
        if self._transport_holds:
            self._transport_holds = self.held() > 0
            if self._transport_holds:
                return 0
        if size <= QUICK_WRITE_MAX:
            return max(send(socket, data, size, MSG_DONTWAIT | MSG_NOSIGNAL), 0)
        with nogil:
            written = send(socket, data, size, MSG_DONTWAIT | MSG_NOSIGNAL)
        return max(written, 0)

    cdef int _write_later(self, Py_ssize_t written) except -1:
        """Give the transport what the socket did not take."""
        cdef Py_ssize_t size = self.output_size
        if size - written <= OUTPUT_COPY_MAX:
            data = PyBytes_FromStringAndSize(self._output_data + written, size - written)
            self._drop_output()
        else:
            _PyBytes_Resize(&self._output, size)
            data = <object>self._output
            Py_DECREF(data)  # the reference that _output held is now `data`'s
            self._output = NULL
            self.output_size = self._output_capacity = 0
            if written:
                data = memoryview(data)[written:]
        self._transport_holds = True
        self.transport.write(data)
        return 0

    cdef _drop_output(self):
        cdef list free_outputs
        if self._output == NULL:
            return
        output = <object>self._output
        Py_DECREF(output)
        self._output = NULL
        free_outputs = self.shared._free_outputs
        if self._output_capacity == OUTPUT_FIRST and len(free_outputs) < FREE_OUTPUTS_MAX:
            free_outputs.append(output)
        self.output_size = self._output_capacity = 0

    # reading less, and ending

    def pause_reading(self):
        """Stop taking bytes from this client, TCP makes it wait, until as many times `resume_reading` was called."""
        self._read_pauses += 1
        if self._read_pauses == 1 and not self.closed:
            self.transport.pause_reading()

    def resume_reading(self):
        """Take back one `pause_reading`."""
        self._read_pauses -= 1
        if self._read_pauses == 0 and not self.closed:
            self.transport.resume_reading()

    def hold(self):
        """Let what this client says wait, frames that have been read included, until `go_on`."""
        self.waits = True
        self.pause_reading()

    def go_on(self):
        """Take back `hold`."""
        self.waits = False
        if self._rest.size and not self.stopped:
            self.get_buffer(0)
            self.buffer_updated(0)
        self.resume_reading()

    def close(self, str reason not None, bytes last not None=b""):
        """End the connection after everything that was sent, and `last`, has been written."""
        if self._say_last(reason, last):
            self.transport.close()

    def part(self, str reason not None, bytes last not None):
        """As `close`, for a client that may be in the middle of saying something: what it says goes unread for a while.

        A socket that is closed with something unread tells the other side of an error, which may be faster than `last`.
        """
        if not self._say_last(reason, last):
            return
        self.transport.resume_reading()
        if not self.transport.can_write_eof():  # TLS: its own farewell reads what comes
            self.transport.close()
            return
        try:
            self.transport.write_eof()
        except OSError:  # it has hung up already
            self.transport.close()
            return
        self.shared.loop.call_later(LINGER_S, self.transport.close)

    cdef bint _say_last(self, str reason, bytes last) except -1:
        """Write `last` behind everything that was sent, and end; false when the connection had ended, or ended by that."""
        if self.closed:
            return False
        if last:
            self.send(last)
        self._flush()
        if self.closed:
            return False
        self._ends_softly()
        self._end(reason)
        return True

    def abort(self, str reason not None):
        """End the connection now, also one that is closing; what was not written is dropped."""
        self._soft_end = 0
        if not self.closed:
            self._end(reason)
        self.transport.abort()

    cdef int _end(self, str reason) except -1:
        self.closed = self.stopped = True
        # The system may give the number to another client's socket as soon as the transport closes this one.
        self._socket = -1
        self.close_reason = reason
        return 0
