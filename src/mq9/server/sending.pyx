"""What a send says besides its payload: its headers, read where they lie (docs/protocol.md §3, send)."""

import re

from libc.string cimport memcmp

from mq9.mailboxes.dedup cimport DEDUP_ID_MAX
from mq9.mailboxes.timers cimport passed
from mq9.mailboxes.writing cimport KEY_MAX, plain_message
from mq9.native.memory cimport buffer_append
from mq9.protocol import DELAY_MAX_S, PRIORITIES, TAGS_BYTES_MAX, TAGS_MAX, TTL_MAX_S, ProtocolError
from mq9.wire.headers cimport Header, first_header, next_header, same_name

WORDS[0], WORDS[1], WORDS[2], WORDS[3], WORDS[4] = b"critical", b"urgent", b"high", b"normal", b"low"
WORD_SIZES[0], WORD_SIZES[1], WORD_SIZES[2], WORD_SIZES[3], WORD_SIZES[4] = 8, 6, 4, 6, 3

cdef enum Name:
    # The headers that mean something to the broker.
    PRIORITY
    TTL
    DELAY
    KEY
    TAGS
    DEDUP
    RESERVED                   # set by the broker alone
    OTHER

_NAMES = ("mq9-priority", "mq9-ttl", "mq9-delay", "mq9-key", "mq9-tags", "Nats-Msg-Id")
_DELAY = re.compile(rb"([0-9]{1,12})(?:\.([0-9]{1,3}))?")


cdef _malformed():
    # A new one each time: an exception that is raised again and again keeps what each of these times has left in its traceback.
    return ProtocolError(400, "the header block is malformed")


cdef int priority_rank(const char* word, Py_ssize_t size) noexcept nogil:
    """The rank of a priority word, 0 for critical, or -1."""
    cdef int rank
    for rank in range(5):
        if size == WORD_SIZES[rank] and memcmp(word, WORDS[rank], size) == 0:
            return rank
    return -1


cdef Name _name_of(Header* header) noexcept nogil:
    cdef char first = header.name[0] | 32
    if first == c"m" and header.name_size > 6:
        if same_name(header, b"mq9-priority", 12):
            return PRIORITY
        if same_name(header, b"mq9-ttl", 7):
            return TTL
        if same_name(header, b"mq9-delay", 9):
            return DELAY
        if same_name(header, b"mq9-key", 7):
            return KEY
        if same_name(header, b"mq9-tags", 8):
            return TAGS
        if same_name(header, b"mq9-msg-id", 10) or same_name(header, b"mq9-time", 8) or same_name(header, b"mq9-pending", 11):
            return RESERVED
    elif first == c"n" and same_name(header, b"nats-msg-id", 11):
        return DEDUP
    return OTHER


cdef int read_send(Publish* frame, Mailbox mailbox, int rank, uint64_t now, Message* message, buffer_t* scratch) except -1:
    """Make a message of a send with headers.

    Arguments:
        frame: the send.
        mailbox: where it goes.
        rank: of the priority in its subject, or -1.
        now: Unix ms.
        message: to be filled; points into the frame and `scratch`.
        scratch: takes what is kept of the header block. The broker's own headers are added anew at delivery, so whatever a
            sender put in their place is left out.

    Raises ProtocolError 400 for a header block or value that is malformed.
    """
    cdef const char* at = first_header(frame.data, frame.header_size)
    cdef const char* end = frame.data + frame.header_size
    cdef Header header
    cdef int found, seen = 0
    cdef Name name
    cdef bint kept = False
    plain_message(message, rank, frame.data + frame.header_size, frame.size - frame.header_size)
    if at == NULL:
        raise _malformed()
    buffer_append(scratch, frame.data, at - frame.data)
    while True:
        found = next_header(&at, end, &header)
        if found <= 0:
            break
        name = _name_of(&header)
        if name < RESERVED:
            if seen >> <int>name & 1:
                raise ProtocolError(400, f"{_NAMES[<int>name]} is given twice")
            seen |= 1 << <int>name
            _read_value(&header, name, now, message)
        if name == PRIORITY or name == RESERVED:
            continue
        buffer_append(scratch, header.line, header.line_size)
        kept = True
    if found < 0:
        raise _malformed()
    if message.priority < 0:
        message.priority = NORMAL
    message.headers = scratch.data
    message.header_size = scratch.size
    if not kept and scratch.size == 10:  # nothing but the version line
        message.header_size = 0
    return _look_whether_it_appears(message, mailbox)


cdef int _read_value(Header* header, Name name, uint64_t now, Message* message) except -1:
    """Take over the value of a header that means something. Raises ProtocolError 400 when it is malformed."""
    cdef int rank
    if name == PRIORITY:
        rank = priority_rank(header.value, header.value_size)
        if rank < 0:
            raise ProtocolError(400, f"mq9-priority must be one of {', '.join(PRIORITIES)}")
        if message.priority < 0:
            message.priority = rank
    elif name == TTL:
        message.expires_ms = _end_of_ttl(header.value[:header.value_size], now)
    elif name == DELAY:
        message.visible_ms = _end_of_delay(header.value[:header.value_size], now)
    elif name == KEY:
        if not 1 <= header.value_size <= KEY_MAX:
            raise ProtocolError(400, f"mq9-key must have 1 to {KEY_MAX} bytes")
        message.key = header.value
        message.key_size = header.value_size
    elif name == DEDUP:
        if not 1 <= header.value_size <= DEDUP_ID_MAX:
            raise ProtocolError(400, f"Nats-Msg-Id must have 1 to {DEDUP_ID_MAX} bytes")
        message.dedup_id = header.value
        message.dedup_size = header.value_size
    elif header.value_size > TAGS_BYTES_MAX or header.value[:header.value_size].count(b",") >= TAGS_MAX:
        raise ProtocolError(400, f"mq9-tags must have at most {TAGS_MAX} tags and {TAGS_BYTES_MAX} bytes")
    return 0


cdef int _look_whether_it_appears(Message* message, Mailbox mailbox) except -1:
    """A message that would never be seen is a mistake of its sender."""
    if message.visible_ms == 0:
        return 0
    if message.expires_ms and message.visible_ms >= message.expires_ms:
        raise ProtocolError(400, "mq9-delay must be shorter than mq9-ttl")
    if mailbox.expires_ms and message.visible_ms >= mailbox.expires_ms:
        raise ProtocolError(400, "mq9-delay reaches beyond the end of the mailbox")
    return 0


cdef uint64_t _end_of_ttl(bytes value, uint64_t now) except? 0:
    """When a message with this mq9-ttl ends, in Unix ms; 0 for a ttl of 0, which sets no end of its own."""
    if not value.isdigit() or len(value) > 12 or int(value) > TTL_MAX_S:
        raise ProtocolError(400, f"mq9-ttl must be a whole number of seconds from 0 to {TTL_MAX_S}")
    return now + int(value) * 1000 if int(value) else 0


cdef uint64_t _end_of_delay(bytes value, uint64_t now) except? 0:
    """When a message with this mq9-delay is to be seen, in Unix ms; 0 for a delay of 0."""
    found = _DELAY.fullmatch(value)
    delay_ms = int(found[1]) * 1000 + int((found[2] or b"").ljust(3, b"0")) if found else -1
    if not 0 <= delay_ms <= DELAY_MAX_S * 1000:
        raise ProtocolError(
            400, f"mq9-delay must be a number of seconds from 0 to {DELAY_MAX_S}, with at most 3 digits after the point"
        )
    return passed(now, delay_ms) if delay_ms else 0
