"""The frame parser of the NATS client protocol.

`parse_frames` is given everything that has been read and not yet been consumed, tells a FrameHandler of each whole frame, and
returns how many bytes are done with. It keeps no state: an unfinished frame is looked at again when more of it has come, and
`wanted` says how much that is, so a frame cut at any byte gives the same result as a whole one. A PUB is handed on as pointers.
"""

from libc.string cimport memchr

cdef enum:
    ARGUMENTS_MAX = 4          # HPUB subject reply header_size size
    SIZE_DIGITS_MAX = 9        # nats-server refuses a longer number as malformed

cdef enum Verb:
    PUB, HPUB, SUB, UNSUB, CONNECT, PING, PONG, INFO, OK, ERR
    UNKNOWN, INCOMPLETE

cdef struct Argument:
    const char* at
    Py_ssize_t size


cdef enum:
    # How many publishes the parser is ahead of the handler, with the one that is told of.
    AHEAD_MAX = 10
    NOTHING_WRONG = -1

cdef struct Ahead:
    Publish frames[AHEAD_MAX]  # a ring
    Py_ssize_t ends[AHEAD_MAX] # where the next frame begins
    Py_ssize_t next            # how many were ever put into it
    Py_ssize_t count           # how many of those are still to be told of
    Py_ssize_t told            # where what is still to be told of begins


cdef class FrameHandler:
    """Is told of every frame, in order. A subclass does something with them."""

    cdef void expect(self, Publish* frame) noexcept:
        """`publish` will be told of this frame after those that it has not been told of yet."""

    cdef int publish(self, Publish* frame) except -1:
        """A whole PUB or HPUB; its pointers are valid during the call only."""
        return 0

    cdef bint refuses(self, Publish* frame) except -1:
        """Whether a publish was refused for what its control line says; its data must not be looked at."""
        return False

    cdef int connect(self, bytes options) except -1:
        """CONNECT with its JSON, not yet parsed."""
        return 0

    cdef int subscribe(self, bytes subject, bytes queue, bytes sid) except -1:
        """SUB; `queue` is None without a queue group."""
        return 0

    cdef int unsubscribe(self, bytes sid, long long maximum) except -1:
        """UNSUB; `maximum` 0 means at once."""
        return 0

    cdef int ping(self) except -1:
        """PING."""
        return 0

    cdef int pong(self) except -1:
        """PONG."""
        return 0

    cdef int violate(self, Violation violation) except -1:
        """The input is wrong from here on; the parser reads no further."""
        return 0

    cdef bint skip_connect(self) except -1:
        """Something else than CONNECT comes first; false when that is wrong, and the parser reads no further."""
        return True


cdef inline bint _is_blank(char byte) noexcept nogil:
    return byte == c" " or byte == c"\t"


cdef inline char _upper(char byte) noexcept nogil:
    return byte - 32 if c"a" <= byte <= c"z" else byte


cdef Verb _word(const char* data, Py_ssize_t size, const char* word, Py_ssize_t word_size, Verb verb) noexcept nogil:
    """`verb` when `data` begins with `word` in any case, INCOMPLETE when it ends inside it, else UNKNOWN."""
    cdef Py_ssize_t at
    for at in range(min(size, word_size)):
        if _upper(data[at]) != word[at]:
            return UNKNOWN
    return verb if size >= word_size else INCOMPLETE


cdef Verb _verb(const char* data, Py_ssize_t size, Py_ssize_t* after) noexcept nogil:
    """Which operation the line at `data` begins with, as soon as its bytes can tell, and where its arguments begin."""
    cdef char first = _upper(data[0])
    cdef Verb verb
    if first == c"P":
        if size < 2:
            return INCOMPLETE
        if _upper(data[1]) == c"U":
            after[0] = 3
            verb = _word(data, size, b"PUB", 3, PUB)
        elif _upper(data[1]) == c"I":
            after[0] = 4
            return _word(data, size, b"PING", 4, PING)
        else:
            after[0] = 4
            return _word(data, size, b"PONG", 4, PONG)
    elif first == c"H":
        after[0] = 4
        verb = _word(data, size, b"HPUB", 4, HPUB)
    elif first == c"S":
        after[0] = 3
        verb = _word(data, size, b"SUB", 3, SUB)
    elif first == c"U":
        after[0] = 5
        verb = _word(data, size, b"UNSUB", 5, UNSUB)
    elif first == c"C":
        after[0] = 7
        return _word(data, size, b"CONNECT", 7, CONNECT)
    elif first == c"I":
        after[0] = 4
        return _word(data, size, b"INFO", 4, INFO)
    elif first == c"+":
        after[0] = 3
        return _word(data, size, b"+OK", 3, OK)
    elif first == c"-":
        after[0] = 4
        return _word(data, size, b"-ERR", 4, ERR)
    else:
        return UNKNOWN
    # These verbs must be followed by a blank.
    if verb < UNKNOWN and size > after[0] and not _is_blank(data[after[0]]):
        return UNKNOWN
    return verb


cdef int _split(const char* at, const char* end, Argument* arguments) noexcept nogil:
    """Split at runs of blanks into at most ARGUMENTS_MAX arguments; returns how many, or ARGUMENTS_MAX + 1 for more."""
    cdef int count = 0
    while True:
        while at < end and (_is_blank(at[0]) or at[0] == c"\r"):
            at += 1
        if at == end:
            return count
        if count == ARGUMENTS_MAX:
            return ARGUMENTS_MAX + 1
        arguments[count].at = at
        while at < end and not (_is_blank(at[0]) or at[0] == c"\r"):
            at += 1
        arguments[count].size = at - arguments[count].at
        count += 1


cdef Py_ssize_t _number(Argument argument) noexcept nogil:
    """The argument as a number, or -1 when it is none that NATS accepts."""
    cdef Py_ssize_t value = 0, at
    if not 1 <= argument.size <= SIZE_DIGITS_MAX:
        return -1
    for at in range(argument.size):
        if not c"0" <= argument.at[at] <= c"9":
            return -1
        value = value * 10 + (argument.at[at] - c"0")
    return value


cdef bint _publish_arguments(Argument* arguments, int count, bint with_headers, Publish* frame) noexcept nogil:
    """Fill `frame` from the arguments of PUB or HPUB; false when they are malformed."""
    cdef int least = 3 if with_headers else 2
    if not least <= count <= least + 1:
        return False
    frame.subject = arguments[0].at
    frame.subject_size = arguments[0].size
    frame.reply = NULL
    frame.reply_size = 0
    if count > least:
        frame.reply = arguments[1].at
        frame.reply_size = arguments[1].size
    frame.size = _number(arguments[count - 1])
    frame.header_size = _number(arguments[count - 2]) if with_headers else -1
    return frame.size >= 0 and (not with_headers or 0 <= frame.header_size <= frame.size)


cdef int _control(FrameHandler handler, Verb verb, const char* at, const char* end) except -1:
    """Hand on one whole line that is not a publish; `at` is behind the verb, `end` before the line's end."""
    cdef Argument arguments[ARGUMENTS_MAX]
    cdef int count
    cdef Py_ssize_t maximum = 0
    if verb == PING:
        return handler.ping()
    if verb == PONG:
        return handler.pong()
    if verb == CONNECT:
        return handler.connect(at[:end - at])
    if verb == INFO or verb == OK:
        return 0  # nats-server ignores them from a client
    if verb == ERR:
        return handler.violate(PEER_ERROR)
    count = _split(at, end, arguments)
    if verb == SUB and 2 <= count <= 3:
        return handler.subscribe(
            arguments[0].at[:arguments[0].size],
            arguments[1].at[:arguments[1].size] if count == 3 else None,
            arguments[count - 1].at[:arguments[count - 1].size],
        )
    if verb == UNSUB and 1 <= count <= 2:
        if count == 2:
            maximum = max(_number(arguments[1]), 0)
        return handler.unsubscribe(arguments[0].at[:arguments[0].size], maximum)
    return handler.violate(MALFORMED_ARGUMENTS)


cdef int _tell(FrameHandler handler, Ahead* ahead, Py_ssize_t keep) except -1:
    """Let `publish` have what was read ahead, all but the `keep` latest."""
    cdef Py_ssize_t place
    while ahead.count > keep and not handler.stopped and not handler.waits:
        place = (ahead.next - ahead.count) % AHEAD_MAX
        ahead.count -= 1
        ahead.told = ahead.ends[place]
        handler.publish(&ahead.frames[place])
    return 0


cdef bint _refused(FrameHandler handler, Ahead* ahead, Publish* frame, Py_ssize_t left) except -1:
    """Whether a publish of which so many bytes are still to come is refused already: its turn comes when those before it had theirs."""
    _tell(handler, ahead, 0)
    if handler.stopped or handler.waits or not handler.refuses(frame):
        return False
    handler.skips = left
    return True


cdef Py_ssize_t parse_frames(
    FrameHandler handler, const char* data, Py_ssize_t size, Limits* limits, Py_ssize_t* wanted
) except -1:
    """Tell `handler` of every whole frame in `data[:size]`.

    Returns how many bytes were consumed. `wanted` is set to the size of the unfinished frame that follows them as far as it is
    known (0: not known yet). After a violation, or once the handler has `stopped`, everything counts as consumed; when it
    `waits`, nothing that follows.
    """
    cdef Ahead ahead
    cdef int wrong = NOTHING_WRONG
    cdef Py_ssize_t consumed
    ahead.next = ahead.count = ahead.told = 0
    wanted[0] = 0
    consumed = _parse(handler, &ahead, data, size, limits, wanted, &wrong)
    _tell(handler, &ahead, 0)
    if handler.stopped or handler.waits:
        wanted[0] = 0
        return size if handler.stopped else ahead.told
    if wrong != NOTHING_WRONG:
        handler.violate(<Violation>wrong)
        return size
    return consumed


cdef Py_ssize_t _parse(
    FrameHandler handler, Ahead* ahead, const char* data, Py_ssize_t size, Limits* limits, Py_ssize_t* wanted, int* wrong
) except -1:
    """As `parse_frames`, but leaves the last publishes in `ahead`, and a Violation in `wrong`."""
    cdef const char* at = data
    cdef const char* end = data + size
    cdef const char* line_end
    cdef const char* text_end
    cdef Py_ssize_t after, frame_size
    cdef Verb verb
    cdef Argument arguments[ARGUMENTS_MAX]
    cdef Publish* frame
    while at < end and not handler.stopped and not handler.waits:
        if handler.connect_first and _upper(at[0]) != c"C" and not handler.skip_connect():
            return size
        verb = _verb(at, end - at, &after)
        if verb == UNKNOWN:
            wrong[0] = UNKNOWN_OPERATION
            return size
        line_end = <const char*>memchr(at, c"\n", end - at)
        if (end if line_end == NULL else line_end) - at > limits.control_line_max + 1:
            wrong[0] = CONTROL_LINE_TOO_LONG
            return size
        if line_end == NULL:
            return at - data
        if verb == INCOMPLETE:
            # The line ended inside the verb.
            wrong[0] = UNKNOWN_OPERATION
            return size
        text_end = line_end
        if text_end > at and (text_end - 1)[0] == c"\r":
            text_end -= 1
        if verb != PUB and verb != HPUB:
            _tell(handler, ahead, 0)
            if not handler.stopped and not handler.waits:
                ahead.told = line_end + 1 - data
                _control(handler, verb, at + after, text_end)
            at = line_end + 1
            continue
        # The oldest of a full ring has been told of: its place is free.
        frame = &ahead.frames[ahead.next % AHEAD_MAX]
        if not _publish_arguments(arguments, _split(at + after, text_end, arguments), verb == HPUB, frame):
            wrong[0] = MALFORMED_ARGUMENTS
            return size
        if frame.size > limits.payload_max:
            wrong[0] = PAYLOAD_TOO_LARGE
            return size
        frame.data = line_end + 1
        frame_size = frame.data - at + frame.size + 2
        if end - at < frame_size:
            # A wrong byte behind the payload is wrong as soon as it is there.
            if end - at == frame_size - 1 and frame.data[frame.size] != c"\r":
                wrong[0] = UNKNOWN_OPERATION
                return size
            if _refused(handler, ahead, frame, frame_size - (end - at)):
                ahead.told = size
                return size
            wanted[0] = frame_size
            return at - data
        if frame.data[frame.size] != c"\r" or frame.data[frame.size + 1] != c"\n":
            wrong[0] = UNKNOWN_OPERATION
            return size
        at += frame_size
        ahead.ends[ahead.next % AHEAD_MAX] = at - data
        ahead.next += 1
        ahead.count += 1
        handler.expect(frame)
        _tell(handler, ahead, AHEAD_MAX - 1)
    return at - data
