"""Messages as FETCH shows them (docs/protocol.md §4), written as JSON straight from their blocks."""

import json

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcmp

from mq9.mailboxes.blocks cimport Block, BlockCache
from mq9.mailboxes.format cimport (
    record_header_size, record_headers, record_msg_id, record_priority, record_size, record_time_ms,
)
from mq9.mailboxes.group cimport LAPSED, LEASED, Handout, Open
from mq9.mailboxes.index cimport Entry, entry_is_gone
from mq9.mailboxes.mailbox cimport Mailbox
from mq9.native.memory cimport DECIMAL_MAX, buffer_append, buffer_free, buffer_reserve, write_bytes, write_decimal
from mq9.protocol import PRIORITIES
from mq9.wire.headers cimport Header, first_header, next_header
from mq9.wire.headers import read_headers

cdef const char* DIGITS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

cdef enum:
    # What is written around the values of a message, their numbers included.
    AROUND_MAX = 160 + 4 * DECIMAL_MAX
    # More headers than this are left to the slow way, so that comparing each with each costs nothing.
    HEADERS_MAX = 16

_WORDS = tuple([word.encode() for word in PRIORITIES])


cdef char* _write_base64(char* at, const unsigned char* data, size_t size) noexcept nogil:
    """Write `size` bytes in base64; there is room for four characters for every three bytes begun."""
    cdef const unsigned char* end = data + size - size % 3
    while data < end:
        at[0] = DIGITS[data[0] >> 2]
        at[1] = DIGITS[(data[0] << 4 | data[1] >> 4) & 63]
        at[2] = DIGITS[(data[1] << 2 | data[2] >> 6) & 63]
        at[3] = DIGITS[data[2] & 63]
        data += 3
        at += 4
    if size % 3:
        at[0] = DIGITS[data[0] >> 2]
        at[1] = DIGITS[(data[0] << 4 | (data[1] >> 4 if size % 3 == 2 else 0)) & 63]
        at[2] = DIGITS[(data[1] << 2) & 63] if size % 3 == 2 else c"="
        at[3] = c"="
        at += 4
    return at


cdef bint _is_plain(const char* text, Py_ssize_t size) noexcept nogil:
    """Whether JSON writes the text as it is."""
    cdef Py_ssize_t at
    for at in range(size):
        if not 32 <= <unsigned char>text[at] < 127 or text[at] == c'"' or text[at] == c"\\":
            return False
    return True


cdef int _find_plain_headers(const char* block, Py_ssize_t size, Header* headers) noexcept nogil:
    """The headers of a block, if they can be written one after the other as they are; returns how many, or -1.

    `block` is without its last, empty line.
    """
    cdef const char* at = block
    cdef int count = 0, other
    while at < block + size and at[0] != c"\n":
        at += 1
    at += 1
    while at < block + size:
        # With the two bytes that are missing the block would end as `next_header` wants it; a line that is cut off is no header.
        if count == HEADERS_MAX or next_header(&at, block + size, &headers[count]) != 1:
            return -1
        if not _is_plain(headers[count].name, headers[count].name_size):
            return -1
        if not _is_plain(headers[count].value, headers[count].value_size):
            return -1
        for other in range(count):
            if headers[other].name_size == headers[count].name_size and (
                memcmp(headers[other].name, headers[count].name, headers[count].name_size) == 0
            ):
                return -1
        count += 1
    return count


cdef int _append_headers(buffer_t* json_, const char* block, Py_ssize_t size) except -1:
    """Write a header block twice, as its bytes and as names with their values."""
    cdef Header headers[HEADERS_MAX]
    cdef int count = _find_plain_headers(block, size, headers), at
    cdef Py_ssize_t place
    cdef bytes text
    cdef char* out = buffer_reserve(json_, 5 * (size + 2) + 32)
    cdef char* start = out
    out = write_bytes(out, b'"header": [', 11)
    for place in range(size):
        out = write_decimal(out, <unsigned char>block[place])
        out = write_bytes(out, b", ", 2)
    out = write_bytes(out, b'13, 10], "headers": ', 20)
    json_.size += out - start
    if count < 0:
        text = json.dumps(read_headers(block[:size] + b"\r\n")).encode()
        return buffer_append(json_, text, len(text))
    # Each header has at least five bytes in its line, `a:` and the end, which are eight characters here around the same text.
    out = start = buffer_reserve(json_, 4 * size + 8)
    out = write_bytes(out, b"{", 1)
    for at in range(count):
        out = write_bytes(out, b'"' if at == 0 else b', "', 1 if at == 0 else 3)
        out = write_bytes(out, headers[at].name, headers[at].name_size)
        out = write_bytes(out, b'": ["', 5)
        out = write_bytes(out, headers[at].value, headers[at].value_size)
        out = write_bytes(out, b'"]', 2)
    out = write_bytes(out, b"}", 1)
    json_.size += out - start
    return 0


cdef int append_leased(buffer_t* json_, const char* record, int attempt) except -1:
    """Write the message of a record; `attempt` 0 when it is only read."""
    cdef const char* headers = record_headers(record)
    cdef size_t header_size = record_header_size(record)
    cdef size_t payload_size = record + record_size(record) - headers - header_size
    cdef bytes word = _WORDS[record_priority(record)]
    cdef char* at = buffer_reserve(json_, AROUND_MAX + (payload_size + 2) // 3 * 4)
    cdef char* start = at
    at = write_bytes(at, b'{"msg_id": ', 11)
    at = write_decimal(at, record_msg_id(record))
    at = write_bytes(at, b', "priority": "', 15)
    at = write_bytes(at, <const char*>word, len(word))
    at = write_bytes(at, b'", "payload": "', 15)
    at = _write_base64(at, <const unsigned char*>headers + header_size, payload_size)
    at = write_bytes(at, b'", "create_time": ', 18)
    at = write_decimal(at, record_time_ms(record) // 1000)
    at = write_bytes(at, b", ", 2)
    json_.size += at - start
    if header_size:
        _append_headers(json_, headers, header_size)
    else:
        buffer_append(json_, b'"header": null, "headers": {}', 29)
    at = start = buffer_reserve(json_, 16 + DECIMAL_MAX)
    at = write_bytes(at, b', "attempt": ', 13)
    at = write_decimal(at, attempt)
    at = write_bytes(at, b"}", 1)
    json_.size += at - start
    return 0


def compose(Handout handout not None, uint64_t holder, BlockCache cache not None, uint64_t now, size_t bytes_max):
    """The messages of a handout that are still leased to a client, as JSON with commas between.

    Arguments:
        holder: the client's number.
        now: Unix ms.
        bytes_max: as many as fit into so much, but always one.

    Returns (JSON, whether messages have ended, None if all others are in it or else the msg_ids that are); or the number of a block that
    is not in memory and has to be.
    """
    cdef Mailbox mailbox = handout.group.mailbox
    cdef Block block = None
    cdef buffer_t json_
    cdef uint32_t at, count = 0
    cdef size_t before
    cdef bint ended = False
    cdef int rank
    cdef Open* item
    cdef Entry* entry
    json_.data = NULL
    json_.size = json_.capacity = 0
    try:
        for at in range(handout.count):
            item = &handout.items[at]
            if item.state not in (LEASED, LAPSED) or item.holder != holder:
                continue
            entry = mailbox.find(item.msg_id, &rank)
            if entry == NULL or entry_is_gone(entry, now):
                ended = True
                continue
            if block is None or block.number != entry.block:
                block = cache.get(entry.block)
                if block is None:
                    return entry.block
            before = json_.size
            if before:
                buffer_append(&json_, b", ", 2)
            append_leased(&json_, block.data + entry.offset, item.attempts)
            if before and json_.size > bytes_max:
                json_.size = before
                break
            count += 1
        reached = None
        if count < handout.count:
            there = [msg_id for msg_id, _ in handout.leased(holder) if mailbox.where(msg_id, now) is not None]
            reached = set(there[:count])
        return json_.data[:json_.size], ended, reached
    finally:
        buffer_free(&json_)


def leased_item(data not None, Py_ssize_t offset, int attempt):
    """As `append_leased`, of the record that begins at `offset` of a block's bytes; the block must have been checked before."""
    cdef const unsigned char[::1] view = data
    cdef buffer_t json_
    json_.data = NULL
    json_.size = json_.capacity = 0
    try:
        append_leased(&json_, <const char*>&view[offset], attempt)
        return json_.data[:json_.size]
    finally:
        buffer_free(&json_)
