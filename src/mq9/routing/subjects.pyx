"""The grammar of NATS subjects.

Tokens between dots; `*` stands for one whole token and `>`, last, for one or more. Inside a longer token both are ordinary
characters, as in nats-server.
"""

from libc.string cimport memchr, memcmp


cdef inline const char* _token_end(const char* at, const char* end) noexcept nogil:
    cdef const char* dot = <const char*>memchr(at, c".", end - at)
    return end if dot == NULL else dot


cdef bint is_subscription_subject(const char* subject, Py_ssize_t size) noexcept nogil:
    """Whether one may subscribe to it: no empty token, and `>` only at the end."""
    cdef const char* at = subject
    cdef const char* end = subject + size
    cdef const char* token_end
    while True:
        token_end = _token_end(at, end)
        if token_end == at:
            return False
        if token_end - at == 1 and at[0] == c">" and token_end != end:
            return False
        if token_end == end:
            return True
        at = token_end + 1


cdef bint is_literal(const char* subject, Py_ssize_t size) noexcept nogil:
    """Whether no token of it is a wildcard."""
    cdef const char* at = subject
    cdef const char* end = subject + size
    cdef const char* token_end
    while True:
        token_end = _token_end(at, end)
        if token_end - at == 1 and (at[0] == c"*" or at[0] == c">"):
            return False
        if token_end == end:
            return True
        at = token_end + 1


cdef bint subject_matches(
    const char* pattern, Py_ssize_t pattern_size, const char* subject, Py_ssize_t size
) noexcept nogil:
    """Whether a subscription to `pattern` gets what is published to `subject`."""
    cdef const char* pattern_end = pattern + pattern_size
    cdef const char* end = subject + size
    cdef const char* pattern_token_end
    cdef const char* token_end
    while True:
        pattern_token_end = _token_end(pattern, pattern_end)
        token_end = _token_end(subject, end)
        if token_end == subject:
            return False
        if pattern_token_end - pattern == 1 and pattern[0] == c">":
            return True
        if not (pattern_token_end - pattern == 1 and pattern[0] == c"*"):
            if pattern_token_end - pattern != token_end - subject \
                    or memcmp(pattern, subject, token_end - subject) != 0:
                return False
        if pattern_token_end == pattern_end or token_end == end:
            return pattern_token_end == pattern_end and token_end == end
        pattern = pattern_token_end + 1
        subject = token_end + 1


def valid_for_publish(bytes subject not None):
    """Whether a pedantic client may publish to `subject`: a subject without wildcards."""
    return bool(is_subscription_subject(subject, len(subject)) and is_literal(subject, len(subject)))


def matches(bytes pattern not None, bytes subject not None):
    """Whether a subscription to `pattern` gets what is published to `subject`."""
    return bool(subject_matches(pattern, len(pattern), subject, len(subject)))
