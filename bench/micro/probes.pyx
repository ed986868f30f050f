"""Calls, many times, what only compiled modules can call of each other.

Every probe is a class: made with what it works on, `run(n)` does it `n` times and returns how often it saw that it was done.
"""

from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset

from mq9.mailboxes.blocks cimport BlockTable
from mq9.mailboxes.dedup cimport STORED, Mark, Repeats, mark_of
from mq9.mailboxes.index cimport Entry, Level, LevelCursor, level_add, level_free, level_peek, level_remove, level_seek
from mq9.mailboxes.mailbox cimport Mailbox
from mq9.mailboxes.timers cimport Timer, Timers
from mq9.mailboxes.writing cimport Message, plain_message, size_of, write_record
from mq9.native.bytemap cimport ByteMap, Named
from mq9.native.memory cimport buffer_free, buffer_t
from mq9.routing.router cimport Route, Router, Subscription
from mq9.routing.subjects cimport is_literal, subject_matches
from mq9.server.sending cimport read_send
from mq9.wire.encode cimport message_head, message_head_max
from mq9.wire.frames cimport FrameHandler, Limits, Publish, parse_frames
from mq9.wire.headers cimport Header, first_header, next_header, same_name

cdef uint64_t NOW_MS = 1800000000000


cdef class _Counter(FrameHandler):
    cdef uint64_t seen

    cdef int publish(self, Publish* frame) except -1:
        self.seen += 1
        return 0


cdef class Parse:
    """wire/frames: `frames` holds `count` whole frames, which are parsed as if they had just been read."""

    cdef bytes _frames
    cdef uint64_t _count

    def __init__(self, bytes frames not None, uint64_t count):
        self._frames = frames
        self._count = count

    def run(self, uint64_t n):
        """Parse `n` frames, a multiple of those there are."""
        cdef _Counter counter = _Counter()
        cdef Limits limits
        cdef Py_ssize_t wanted = 0
        cdef uint64_t turn
        limits.control_line_max = 4096
        limits.payload_max = 1048576
        for turn in range(n // self._count):
            parse_frames(counter, self._frames, len(self._frames), &limits, &wanted)
        return counter.seen


cdef class Encode:
    """wire/encode: the line before a delivered message."""

    cdef bytes _subject, _sid

    def __init__(self, bytes subject not None, bytes sid not None):
        self._subject = subject
        self._sid = sid

    def run(self, uint64_t n):
        """Write it `n` times."""
        cdef size_t room = message_head_max(len(self._subject), len(self._sid), 0)
        cdef char* start = <char*>malloc(room)
        cdef char* end = start
        cdef uint64_t turn, written = 0
        if start == NULL:
            raise MemoryError()
        for turn in range(n):
            end = message_head(
                start, self._subject, len(self._subject), self._sid, len(self._sid), NULL, 0, 90 + (turn & 7), 300 + (turn & 127)
            )
            written += (end - 2)[0] == c"\r"
        free(start)
        return written


cdef class Headers:
    """wire/headers: a header block read from its first line to its last, each name compared with one."""

    cdef bytes _block, _name

    def __init__(self, bytes block not None, bytes name not None):
        self._block = block
        self._name = name

    def run(self, uint64_t n):
        """Read it `n` times."""
        cdef const char* at
        cdef const char* end = <const char*>self._block + len(self._block)
        cdef Header header
        cdef uint64_t turn, found = 0
        for turn in range(n):
            at = first_header(self._block, len(self._block))
            while next_header(&at, end, &header) > 0:
                found += same_name(&header, self._name, len(self._name))
        return found


cdef class Subjects:
    """routing/subjects: whether a subject is literal, and whether a pattern matches it."""

    cdef bytes _pattern, _subject

    def __init__(self, bytes pattern not None, bytes subject not None):
        self._pattern = pattern
        self._subject = subject

    def run(self, uint64_t n):
        """Ask both `n` times."""
        cdef uint64_t turn, found = 0
        for turn in range(n):
            found += (
                is_literal(self._subject, len(self._subject))
                and subject_matches(self._pattern, len(self._pattern), self._subject, len(self._subject))
            )
        return found


cdef class _Taker(Subscription):
    cdef uint64_t taken

    cdef bint deliver(self, Publish* frame) except -1:
        self.taken += 1
        return True


cdef class Match:
    """routing/router: subjects with a subscription each, beside a wildcard that matches none; each publish is delivered to one."""

    cdef Router _router
    cdef list _subjects
    cdef bint _anew

    def __init__(self, list subjects not None, bint anew):
        self._router = Router()
        self._subjects = subjects
        self._anew = anew
        self._router.insert(_Taker(b"other.*.>", None, b"0"))
        for number, subject in enumerate(subjects):
            self._router.insert(_Taker(subject, None, b"%d" % (number + 1)))

    def run(self, uint64_t n):
        """Publish `n` times; `anew`, nothing is known of a subject from the time before."""
        cdef uint64_t turn, delivered = 0, count = len(self._subjects)
        cdef Subscription wildcard = _Taker(b"other.*.changed", None, b"w")
        cdef Publish frame
        cdef Route route
        cdef bytes subject
        memset(&frame, 0, sizeof(frame))
        for turn in range(n):
            if self._anew and turn % count == 0:
                self._router.insert(wildcard)
                self._router.remove(wildcard)
            subject = self._subjects[turn % count]
            route = self._router.route(subject, len(subject))
            delivered += self._router.publish(route, &frame)
        return delivered


cdef class _Item(Named):
    pass


cdef class Find:
    """native/bytemap: one of many names."""

    cdef ByteMap _map
    cdef list _names

    def __init__(self, list names not None):
        cdef _Item item
        self._map = ByteMap()
        self._names = names
        for name in names:
            item = _Item()
            item.set_name(<bytes>name, len(name))
            self._map.put(item)

    def run(self, uint64_t n):
        """Find `n` of them, far apart from each other."""
        cdef uint64_t turn, found = 0, count = len(self._names)
        cdef bytes name
        for turn in range(n):
            name = self._names[turn * 7919 % count]
            found += self._map.find(name, len(name)) != NULL
        return found


cdef class Index:
    """mailboxes/index: messages that come, are walked over by a receiver, and go."""

    def run(self, uint64_t n):
        """Do so with `n` messages."""
        cdef Level* level = <Level*>calloc(1, sizeof(Level))
        cdef LevelCursor cursor
        cdef Entry entry
        cdef uint64_t msg_id, seen = 0
        if level == NULL:
            raise MemoryError()
        memset(&entry, 0, sizeof(entry))
        for msg_id in range(1, n + 1):
            entry.msg_id = msg_id
            entry.block = msg_id >> 10
            entry.offset = (msg_id & 1023) * 200
            entry.size = 200
            level_add(level, &entry)
        level_seek(level, 0, &cursor)
        while level_peek(&cursor, NOW_MS) != NULL:
            cursor.at += 1
            seen += 1
        for msg_id in range(1, n + 1):
            seen -= not level_remove(level, msg_id)
        level_free(level)
        return seen


cdef class Timing:
    """mailboxes/timers: timers that are set for the next hour, and fire."""

    def run(self, uint64_t n):
        """Do so with `n` of them."""
        cdef Timers timers = Timers(NOW_MS)
        cdef object owner = self
        cdef Timer timer
        cdef uint64_t turn, fired = 0
        for turn in range(n):
            timers.add(NOW_MS + 1 + turn * 7919 % 3600000, owner, turn + 1)
        while timers.is_behind(NOW_MS + 3600004):
            while timers.pop(NOW_MS + 3600004, &timer):
                Py_DECREF(<object>timer.owner)
                fired += 1
        return fired


cdef class Remember:
    """mailboxes/dedup: ids that are looked for, not found, and remembered; and looked for again."""

    cdef list _ids
    cdef BlockTable _blocks

    def __init__(self, list ids not None, BlockTable blocks not None):
        self._ids = ids
        self._blocks = blocks

    def run(self, uint64_t n):
        """Do so with the first `n` of them."""
        cdef Timers timers = Timers(NOW_MS)
        cdef Repeats repeats = Repeats(timers, self._blocks)
        cdef Mark mark
        cdef uint64_t turn, repeated = 0
        cdef bytes dedup_id
        for turn in range(n):
            dedup_id = self._ids[turn]
            mark_of(7, dedup_id, len(dedup_id), &mark)
            if repeats.find(&mark, NOW_MS) == NULL:
                repeats.add(&mark, turn + 1, NOW_MS, STORED)
            repeated += repeats.find(&mark, NOW_MS) != NULL
        timers.clear()
        return repeated


cdef class Write:
    """mailboxes/writing: a message without headers becomes a record."""

    cdef bytes _payload

    def __init__(self, bytes payload not None):
        self._payload = payload

    def run(self, uint64_t n):
        """Write it `n` times."""
        cdef Message message
        cdef size_t size
        cdef char* room
        cdef uint64_t turn, written = 0
        plain_message(&message, 3, self._payload, len(self._payload))
        size = size_of(&message)
        room = <char*>malloc(size)
        if room == NULL:
            raise MemoryError()
        for turn in range(n):
            write_record(room, &message, size_of(&message), turn + 1, 7, NOW_MS)
            written += room[size - 1] == (<const char*>self._payload)[len(self._payload) - 1]
        free(room)
        return written


cdef class ReadSend:
    """server/sending: the header block of a send becomes what is stored of it."""

    cdef Mailbox _mailbox
    cdef bytes _block, _payload

    def __init__(self, Mailbox mailbox not None, bytes block not None, bytes payload not None):
        self._mailbox = mailbox
        self._block = block
        self._payload = block + payload

    def run(self, uint64_t n):
        """Read it `n` times."""
        cdef Publish frame
        cdef Message message
        cdef buffer_t scratch
        cdef uint64_t turn, read = 0
        memset(&frame, 0, sizeof(frame))
        memset(&scratch, 0, sizeof(scratch))
        frame.data = self._payload
        frame.header_size = len(self._block)
        frame.size = len(self._payload)
        for turn in range(n):
            scratch.size = 0
            read_send(&frame, self._mailbox, -1, NOW_MS, &message, &scratch)
            read += message.header_size > 0
        buffer_free(&scratch)
        return read
