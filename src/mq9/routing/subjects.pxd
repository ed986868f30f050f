# The grammar of subjects (nats-facts: tokens between dots, `*` one token, `>` all that follow). See subjects.pyx.

cdef bint is_subscription_subject(const char* subject, Py_ssize_t size) noexcept nogil
cdef bint is_literal(const char* subject, Py_ssize_t size) noexcept nogil
cdef bint subject_matches(
    const char* pattern, Py_ssize_t pattern_size, const char* subject, Py_ssize_t size
) noexcept nogil
