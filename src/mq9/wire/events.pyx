"""The parser as a function from bytes to a list of what they say, for tests, fuzzing and tools: nothing hot goes through it."""

from mq9.wire.frames cimport (
    CONTROL_LINE_TOO_LONG, MALFORMED_ARGUMENTS, PAYLOAD_TOO_LARGE, PEER_ERROR, UNKNOWN_OPERATION,
    FrameHandler, Limits, Publish, Violation, parse_frames,
)

_VIOLATIONS = {
    UNKNOWN_OPERATION: "unknown operation",
    CONTROL_LINE_TOO_LONG: "control line too long",
    PAYLOAD_TOO_LARGE: "payload too large",
    MALFORMED_ARGUMENTS: "malformed arguments",
    PEER_ERROR: "peer error",
}


cdef class _Recorder(FrameHandler):
    cdef list events

    def __cinit__(self):
        self.events = []

    cdef int publish(self, Publish* frame) except -1:
        headers = None if frame.header_size < 0 else frame.data[:frame.header_size]
        skip = max(frame.header_size, 0)
        self.events.append((
            "publish",
            frame.subject[:frame.subject_size],
            None if frame.reply == NULL else frame.reply[:frame.reply_size],
            headers,
            frame.data[skip:frame.size],
        ))
        return 0

    cdef int connect(self, bytes options) except -1:
        self.events.append(("connect", options))
        return 0

    cdef int subscribe(self, bytes subject, bytes queue, bytes sid) except -1:
        self.events.append(("subscribe", subject, queue, sid))
        return 0

    cdef int unsubscribe(self, bytes sid, long long maximum) except -1:
        self.events.append(("unsubscribe", sid, maximum))
        return 0

    cdef int ping(self) except -1:
        self.events.append(("ping",))
        return 0

    cdef int pong(self) except -1:
        self.events.append(("pong",))
        return 0

    cdef int violate(self, Violation violation) except -1:
        self.events.append(("violation", _VIOLATIONS[violation]))
        self.stopped = True
        return 0


def parse(bytes data not None, Py_ssize_t control_line_max=4096, Py_ssize_t payload_max=1048576):
    """Parse `data` from its first byte.

    Arguments:
        data: bytes as they came from a client.
        control_line_max: the longest control line, in bytes.
        payload_max: the largest header block and payload together, in bytes.

    Returns the events as tuples, how many bytes were consumed, and the size of the unfinished frame behind them (0: not known).
    """
    cdef _Recorder recorder = _Recorder()
    cdef Limits limits
    cdef Py_ssize_t wanted = 0, consumed
    limits.control_line_max = control_line_max
    limits.payload_max = payload_max
    consumed = parse_frames(recorder, data, len(data), &limits, &wanted)
    return recorder.events, consumed, wanted
