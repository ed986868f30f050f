# The grammar of subjects (nats-facts: tokens between dots, `*` one token, `>` all that follow). See subjects.pyx.

cdef bint is_subscription_subject(const char* subject, Py_ssize_t size) noexcept nogil
cdef bint is_literal(const char* subject, Py_ssize_t size) noexcept nogil
cdef bint subject_matches(
    const char* pattern, Py_ssize_t pattern_size, const char* subject, Py_ssize_t size
) noexcept nogil
cdef bint subject_covers(const char* wider, Py_ssize_t wider_size, const char* narrower, Py_ssize_t size) noexcept nogil
cdef bint subjects_meet(const char* one, Py_ssize_t one_size, const char* other, Py_ssize_t other_size) noexcept nogil
