# What the parser finds in a read buffer, and who is told. See frames.pyx.

cdef enum Violation:
    # How a frame can be wrong; what each one means for the connection is the handler's to decide (NATS: an -ERR or silence).
    UNKNOWN_OPERATION
    CONTROL_LINE_TOO_LONG
    PAYLOAD_TOO_LARGE
    MALFORMED_ARGUMENTS
    PEER_ERROR


cdef struct Publish:
    # A PUB or HPUB, pointing into the read buffer: valid only during the call.
    const char* subject
    Py_ssize_t subject_size
    const char* reply          # NULL: no reply subject
    Py_ssize_t reply_size
    const char* data           # the header block, then the payload
    Py_ssize_t header_size     # -1: a PUB; 0 or more: an HPUB
    Py_ssize_t size            # header block and payload together


cdef struct Limits:
    Py_ssize_t control_line_max
    Py_ssize_t payload_max


cdef class FrameHandler:
    # Told of every frame in order. Setting `stopped` makes the parser return after the current frame; `waits` does too, and what
    # follows is not consumed. With `connect_first`, what does not begin as CONNECT is asked about. `expect` is told of a publish a
    # little before `publish` is, if it is at all: time to bring what it will need into the processor's cache. `refuses` is asked about
    # a publish that is not whole yet; `skips` says how much is still to come of one that was refused, CRLF included, which whoever
    # reads leaves out.
    cdef bint stopped
    cdef Py_ssize_t skips
    cdef readonly bint waits
    cdef readonly bint connect_first

    cdef void expect(self, Publish* frame) noexcept
    cdef int publish(self, Publish* frame) except -1
    cdef bint refuses(self, Publish* frame) except -1
    cdef int connect(self, bytes options) except -1
    cdef int subscribe(self, bytes subject, bytes queue, bytes sid) except -1
    cdef int unsubscribe(self, bytes sid, long long maximum) except -1
    cdef int ping(self) except -1
    cdef int pong(self) except -1
    cdef int violate(self, Violation violation) except -1
    cdef bint skip_connect(self) except -1


cdef Py_ssize_t parse_frames(
    FrameHandler handler, const char* data, Py_ssize_t size, Limits* limits, Py_ssize_t* wanted
) except -1
