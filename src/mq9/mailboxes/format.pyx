"""The layout of what is stored; format.pxd states blocks and records byte by byte, MailboxRow a mailbox's row.

To change it: give a new flag the next bit and its field the place behind the others (older programs must then refuse the block:
raise BLOCK_VERSION), or raise mq9.store.contract.FORMAT_VERSION when tables change their meaning; teach this file to read both; add
a data directory of the old version to tests/data and keep the test that opens it.
"""

import struct
from typing import NamedTuple
from zlib import crc32

from mq9.native.checksum import checksum
from mq9.protocol import MAIL_ID_BYTES_MAX, PRIORITIES, TTL_MAX_S, bad_group_name, bad_mail_id
from mq9.wire.headers cimport Header, first_header_line, next_header

_BLOCK_HEAD = struct.Struct("<IHHIIQQ")
_MAILBOX_HEAD = struct.Struct("<BBHHQQQ")
_SIZE = struct.Struct("<H")
_MARKS = struct.Struct("<QQQ")
_GROUP_KEY = struct.Struct(">QIQ")
_GROUP_HEAD = struct.Struct("<BQQ5Q")
_HANDOUT_ITEM = struct.Struct("<QQBBBH")

cdef enum:
    _ROW_VERSION = 1
    _MAILBOX_HEAD_SIZE = 30
    _FLAG_PUBLIC = 1
    _FLAG_OWNED = 2        # behind the desc: the size of the owner's name as u16, and the name
    _FLAG_OWNER_ONLY = 4

cdef uint64_t _TTL_MAX_S = TTL_MAX_S
cdef Py_ssize_t _MAIL_ID_MAX = MAIL_ID_BYTES_MAX
cdef Py_ssize_t _WORD_MAX = max(len(word) for word in PRIORITIES)

# By the version of a block.
_CHECKSUMS = {1: crc32, BLOCK_VERSION: checksum}

# The row of Table.META that holds the Marks.
MARKS_KEY = b"marks"


class DamagedError(ValueError):
    """Bytes that are not what was stored; the text says what is wrong with them."""


cdef bint record_is_sound(const char* record, size_t room) noexcept nogil:
    """Whether a record's sizes fit into each other and into the `room` bytes from its beginning to its block's end."""
    cdef const char* at = record + RECORD_MIN
    cdef const char* end
    cdef int flags, field
    if room < RECORD_MIN or record_size(record) < RECORD_MIN or record_size(record) > room:
        return False
    end = record + record_size(record)
    flags = record_flags(record)
    if record_priority(record) > 4 or flags >= 2 * FLAG_DEDUP or not 1 <= record_msg_id(record) <= STORED_MSG_ID_MAX:
        return False
    if record_time_ms(record) > TIME_MAX_MS:
        return False
    for field in range(((flags & FLAG_EXPIRES) != 0) + ((flags & FLAG_VISIBLE) != 0)):
        if end - at < 8 or load64(at) > TIME_MAX_MS:
            return False
        at += 8
    for field in range(((flags & FLAG_KEY) != 0) + ((flags & FLAG_TAGS) != 0) + ((flags & FLAG_DEDUP) != 0)):
        if end - at < 2:
            return False
        at += 2 + load16(at)
    if at > end or record_header_size(record) > <size_t>(end - at):
        return False
    return record_header_size(record) == 0 or _is_header_block(at, record_header_size(record))


cdef bint _is_header_block(const char* at, Py_ssize_t size) noexcept nogil:
    """Whether it is what a send may bring, without the last, empty line."""
    cdef const char* end = at + size
    cdef Header header
    at = first_header_line(at, size)
    while at != NULL and at < end:
        if next_header(&at, end, &header) != 1:
            return False
    return at != NULL


def _is_text(bytes text not None):
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def seal_block(data, uint64_t number, uint32_t records, uint64_t now):
    """Write the head of a finished block.

    Arguments:
        data: the whole block as a writable buffer, its first BLOCK_HEAD bytes still free.
        number: the block's number.
        records: how many records it has.
        now: Unix ms.
    """
    _BLOCK_HEAD.pack_into(data, 0, BLOCK_MAGIC, BLOCK_VERSION, 0, 0, records, number, now)
    struct.pack_into("<I", data, 8, checksum(memoryview(data)[12:]))


def check_block(data, uint64_t number):
    """How many records the block holds. Raises DamagedError when it is not what was stored under `number`."""
    if len(data) < BLOCK_HEAD:
        raise DamagedError("shorter than its head")
    magic, version, unused, said, records, itself, _ = _BLOCK_HEAD.unpack_from(data)
    if magic != BLOCK_MAGIC:
        raise DamagedError("does not begin as a block does")
    if version not in _CHECKSUMS:
        raise DamagedError(f"is of version {version}, this program knows up to {BLOCK_VERSION}")
    if unused or _CHECKSUMS[version](memoryview(data)[12:]) != said:
        raise DamagedError("does not match its checksum")
    if itself != number:
        raise DamagedError(f"says that it is block {itself}")
    return records


def record_places(data):
    """Where in a block, which check_block has passed, its records are: offset // RECORD_MIN of each.

    Raises DamagedError when they do not fit.
    """
    cdef const unsigned char[::1] block = data
    cdef const char* start = <const char*>&block[0]
    cdef size_t offset = BLOCK_HEAD, size = block.shape[0]
    cdef uint32_t record
    places = set()
    for record in range(load32(start + 12)):
        if not record_is_sound(start + offset, size - offset):
            raise DamagedError("has a record that does not fit into it")
        places.add(offset // RECORD_MIN)
        offset += record_size(start + offset)
    if offset != size:
        raise DamagedError("goes on behind its records")
    return places


def seal_row(bytes key not None, bytes body not None):
    """The value of a row: its body, and a CRC-32 of key and body, since the store keeps no checksums of its own."""
    return body + crc32(body, crc32(key)).to_bytes(4, "little")


def open_row(bytes key not None, bytes value not None):
    """The body of a row. Raises DamagedError when it is not what was sealed under `key`."""
    cdef Py_ssize_t size = len(value) - 4
    if size >= 0:
        body = value[:size]
        if crc32(body, crc32(key)) == load32(<const char*>value + size):
            return body
    raise DamagedError("does not match its checksum")


class MailboxRow(NamedTuple):
    """A mailbox as it is stored, under its number. Times in Unix ms; `ttl_s` 0 and `expires_ms` 0 for never."""

    number: int
    mail_id: bytes
    public: bool
    desc: bytes
    ttl_s: int
    created_ms: int
    expires_ms: int
    owner: bytes = b""
    owner_only: bool = False

    @property
    def key(self):
        """The key of the row in Table.MAILBOXES."""
        return self.number.to_bytes(8, "big")

    def pack(self):
        """The value of the row."""
        flags = (_FLAG_PUBLIC if self.public else 0) | (_FLAG_OWNER_ONLY if self.owner_only else 0)
        owner = b""
        if self.owner:
            flags |= _FLAG_OWNED
            owner = _SIZE.pack(len(self.owner)) + self.owner
        head = _MAILBOX_HEAD.pack(
            _ROW_VERSION, flags, len(self.mail_id), len(self.desc), self.ttl_s, self.created_ms, self.expires_ms
        )
        return seal_row(self.key, head + self.mail_id + self.desc + owner)

    @classmethod
    def unpack(cls, key, value):
        """The row of this key and value. Raises DamagedError."""
        cdef bytes body = open_row(key, value)
        cdef const char* head = body
        cdef Py_ssize_t start = _MAILBOX_HEAD_SIZE, id_end, end, size = len(body)
        cdef uint64_t ttl_s, created_ms, expires_ms
        cdef int flags
        if size < start:
            raise DamagedError("is too short")
        flags = <uint8_t>head[1]
        id_end = start + load16(head + 2)
        end = id_end + load16(head + 4)
        ttl_s, created_ms, expires_ms = load64(head + 6), load64(head + 14), load64(head + 22)
        owner = b""
        if flags & _FLAG_OWNED:
            owner = body[end + 2:]
            end = end + 2 + load16(head + end) if size >= end + 2 else 0
        if head[0] != _ROW_VERSION or size != end or len(key) != 8:
            raise DamagedError("has a wrong size or version")
        if ttl_s > _TTL_MAX_S or created_ms > TIME_MAX_MS or expires_ms > TIME_MAX_MS:
            raise DamagedError("has a time that cannot be")
        mail_id, desc = body[start:id_end], body[id_end:id_end + load16(head + 4)]
        if not _is_long_token(head + start, id_end - start) and bad_mail_id(mail_id.decode("latin-1")):
            raise DamagedError("has a name that cannot be")
        if desc and not _is_text(desc):
            raise DamagedError("has a description that cannot be")
        return tuple.__new__(cls, (
            int.from_bytes(key, "big"), mail_id, bool(flags & _FLAG_PUBLIC), desc, ttl_s, created_ms, expires_ms,
            owner, bool(flags & _FLAG_OWNER_ONLY),
        ))


cdef bint _is_long_token(const char* name, Py_ssize_t size) noexcept nogil:
    """Whether it can be a mail_id, seen without the whole grammar: one token, longer than any word that may not be the last.

    That is what the broker gives out, and a start looks at all of them.
    """
    cdef Py_ssize_t at
    if not _WORD_MAX < size <= _MAIL_ID_MAX:
        return False
    for at in range(size):
        if not (c"a" <= name[at] <= c"z" or c"0" <= name[at] <= c"9" or name[at] == c"-"):
            return False
    return True


def group_key(mailbox, group, handout):
    """The key in Table.GROUPS of a handout's row, or, with handout 0, of the group's own, which comes before them."""
    return _GROUP_KEY.pack(mailbox, group, handout)


class GroupRow(NamedTuple):
    """How far a group is: `mailbox` and `number` name it; `cursors` are msg_ids, for each priority, up to which all was given out.

    Of delayed messages, those that appeared up to `until_ms` (Unix ms) below a cursor are in the rows of the group's handouts,
    unless they are done; of later ones nothing is known.
    """

    mailbox: int
    number: int
    name: bytes
    next_handout: int
    until_ms: int
    cursors: tuple

    @property
    def key(self):
        """The key of the row in Table.GROUPS."""
        return group_key(self.mailbox, self.number, 0)

    def pack(self):
        """The value of the row."""
        return seal_row(
            self.key, _GROUP_HEAD.pack(_ROW_VERSION, self.next_handout, self.until_ms, *self.cursors) + self.name
        )

    @classmethod
    def unpack(cls, key, value):
        """Raises DamagedError."""
        body = open_row(key, value)
        try:
            version, next_handout, until_ms, *cursors = _GROUP_HEAD.unpack_from(body)
        except struct.error:
            raise DamagedError("is too short") from None
        if version != _ROW_VERSION:
            raise DamagedError("has a wrong version")
        mailbox, number, _ = _GROUP_KEY.unpack(key)
        name = body[_GROUP_HEAD.size:]
        if until_ms > TIME_MAX_MS or not _is_text(name) or bad_group_name(name.decode()):
            raise DamagedError("has a time or a name that cannot be")
        return cls(mailbox, number, name, next_handout, until_ms, tuple(cursors))


class HandoutRow(NamedTuple):
    """The unfinished messages of a handout, in their order: (msg_id, due in Unix ms, state, rank, attempts, reason) for each.

    groups.pyx writes it, for every FETCH and every ACK.
    """

    items: list

    @classmethod
    def unpack(cls, key, value):
        """Raises DamagedError."""
        body = open_row(key, value)
        if body[:1] != bytes([HANDOUT_ROW_VERSION]):
            raise DamagedError("has a wrong version")
        items, at = [], 1
        while at < len(body):
            try:
                *item, size = _HANDOUT_ITEM.unpack_from(body, at)
            except struct.error:
                raise DamagedError("has a wrong size") from None
            at += _HANDOUT_ITEM.size
            if at + size > len(body):
                raise DamagedError("has a wrong size")
            _, due, state, rank, _ = item
            if due > TIME_MAX_MS or rank >= RANKS or not 1 <= state < HANDOUT_STATES:
                raise DamagedError("has a message in a state that cannot be")
            items.append((*item, body[at:at + size]))
            at += size
        return cls(items)


class Marks(NamedTuple):
    """The next numbers to give out, stored whenever the blocks that would show the last ones are dropped."""

    msg_id: int
    block: int
    mailbox: int

    def pack(self):
        """The value of the row MARKS_KEY in Table.META."""
        return seal_row(MARKS_KEY, _MARKS.pack(*self))

    @classmethod
    def unpack(cls, value):
        """Raises DamagedError."""
        try:
            return cls(*_MARKS.unpack(open_row(MARKS_KEY, value)))
        except struct.error:
            raise DamagedError("has a wrong size") from None
