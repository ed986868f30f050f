"""A stored message as Python sees it: for fetch and for tools, where a message is an object anyway."""

from mq9.mailboxes.format cimport (
    record_header_size, record_headers, record_msg_id, record_priority, record_size, record_time_ms,
)
from mq9.wire.headers import read_headers


cdef class StoredMessage:
    """One message read from its block.

    `rank` is that of its priority, `headers` are the sender's as {name: [values]}, `header_block` as they were sent, empty when there are none.
    """

    cdef readonly object msg_id
    cdef readonly int rank
    cdef readonly object time_ms
    cdef readonly dict headers
    cdef readonly bytes header_block
    cdef readonly bytes payload

    def header(self, str name not None):
        """The first value of a header, its name compared without regard to case, or None."""
        wanted = name.lower()
        for key, values in self.headers.items():
            if key.lower() == wanted:
                return values[0]
        return None


def read_message(data not None, Py_ssize_t offset):
    """The message whose record begins at `offset` of a block's bytes; the block must have been checked before."""
    cdef const unsigned char[::1] view = data
    cdef const char* record = <const char*>&view[offset]
    cdef const char* headers = record_headers(record)
    cdef Py_ssize_t header_size = record_header_size(record)
    cdef StoredMessage message = StoredMessage()
    message.msg_id = record_msg_id(record)
    message.rank = record_priority(record)
    message.time_ms = record_time_ms(record)
    message.header_block = headers[:header_size] + b"\r\n" if header_size else b""
    message.headers = read_headers(message.header_block) if header_size else {}
    message.payload = headers[header_size:record + record_size(record) - headers]
    return message
