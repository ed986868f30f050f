"""Reading a NATS header block: `NATS/1.0[ status]\\r\\n(Name: value\\r\\n)*\\r\\n` (ADR-4).

Core NATS hands header blocks on unread; a mailbox reads them once, when a message is sent, and refuses what is not of this form.
"""

from libc.string cimport memchr, memcmp


cdef inline char _lower(char byte) noexcept nogil:
    return byte + 32 if c"A" <= byte <= c"Z" else byte


cdef const char* first_header(const char* block, Py_ssize_t size) noexcept nogil:
    """The place behind the version line, or NULL when the block does not begin with one or does not end with an empty line."""
    if size < 12 or memcmp(block + size - 4, b"\r\n\r\n", 4) != 0:
        return NULL
    return first_header_line(block, size)


cdef const char* first_header_line(const char* block, Py_ssize_t size) noexcept nogil:
    """As `first_header`, of a block whose last, empty line may be missing."""
    cdef const char* line_end
    if size < 10 or memcmp(block, b"NATS/1.0", 8) != 0 or (block[8] != c"\r" and block[8] != c" "):
        return NULL
    line_end = <const char*>memchr(block, c"\n", size)
    if line_end == NULL or (line_end - 1)[0] != c"\r":
        return NULL
    return line_end + 1


cdef int next_header(const char** at, const char* end, Header* header) noexcept nogil:
    """Read the header at `at[0]` and move on: 1 when there was one, 0 at the block's last, empty line, -1 for anything else."""
    cdef const char* line = at[0]
    cdef const char* line_end
    cdef const char* colon
    if end - line == 2:
        return 0 if line[0] == c"\r" and line[1] == c"\n" else -1
    line_end = <const char*>memchr(line, c"\n", end - line)
    if line_end == NULL or line_end - line < 2 or (line_end - 1)[0] != c"\r":
        return -1
    colon = <const char*>memchr(line, c":", line_end - line)
    if colon == NULL or colon == line:
        return -1
    header.line = line
    header.line_size = line_end + 1 - line
    header.name = line
    header.name_size = colon - line
    header.value = colon + 1
    at[0] = line_end + 1
    line_end -= 1
    while header.value < line_end and (header.value[0] == c" " or header.value[0] == c"\t"):
        header.value += 1
    while line_end > header.value and ((line_end - 1)[0] == c" " or (line_end - 1)[0] == c"\t"):
        line_end -= 1
    header.value_size = line_end - header.value
    return 1


cdef bint same_name(Header* header, const char* name, Py_ssize_t size) noexcept nogil:
    """Whether the header is called `name` (in lower case), in any case: some clients capitalise."""
    cdef Py_ssize_t at
    if header.name_size != size:
        return False
    for at in range(size):
        if _lower(header.name[at]) != name[at]:
            return False
    return True


def read_headers(bytes block not None):
    """The block's headers as `{name: [values]}` in the order they came, values as text.

    Raises ValueError when the block is not of the form of ADR-4.
    """
    cdef const char* at = first_header(block, len(block))
    cdef const char* end = <const char*>block + len(block)
    cdef Header header
    cdef int found
    headers = {}
    if at == NULL:
        raise ValueError("not a NATS header block")
    while True:
        found = next_header(&at, end, &header)
        if found < 0:
            raise ValueError("not a NATS header block")
        if found == 0:
            return headers
        name = header.name[:header.name_size].decode("utf-8", "replace")
        value = header.value[:header.value_size].decode("utf-8", "replace")
        headers.setdefault(name, []).append(value)
