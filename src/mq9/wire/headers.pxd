# Reading a NATS header block line by line, without making objects. See headers.pyx.

cdef struct Header:
    const char* line           # the whole line with its CRLF
    Py_ssize_t line_size
    const char* name
    Py_ssize_t name_size
    const char* value          # without the blanks around it
    Py_ssize_t value_size


cdef const char* first_header(const char* block, Py_ssize_t size) noexcept nogil
cdef const char* first_header_line(const char* block, Py_ssize_t size) noexcept nogil
cdef int next_header(const char** at, const char* end, Header* header) noexcept nogil
cdef bint same_name(Header* header, const char* name, Py_ssize_t size) noexcept nogil
