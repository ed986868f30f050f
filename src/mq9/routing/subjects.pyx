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


cdef inline bint _is(const char* at, const char* end, char wildcard) noexcept nogil:
    return end - at == 1 and at[0] == wildcard


cdef inline bint _same(const char* one, const char* one_end, const char* other, const char* other_end) noexcept nogil:
    return one_end - one == other_end - other and memcmp(one, other, one_end - one) == 0


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
        if _is(pattern, pattern_token_end, c">"):
            return True
        if not _is(pattern, pattern_token_end, c"*"):
            if not _same(pattern, pattern_token_end, subject, token_end):
                return False
        if pattern_token_end == pattern_end or token_end == end:
            return pattern_token_end == pattern_end and token_end == end
        pattern = pattern_token_end + 1
        subject = token_end + 1


cdef bint subject_covers(const char* wider, Py_ssize_t wider_size, const char* narrower, Py_ssize_t size) noexcept nogil:
    """Whether a subscription to `wider` gets everything that one to `narrower`, both without empty tokens, gets."""
    cdef const char* wider_end = wider + wider_size
    cdef const char* end = narrower + size
    cdef const char* wider_token_end
    cdef const char* token_end
    while True:
        wider_token_end = _token_end(wider, wider_end)
        token_end = _token_end(narrower, end)
        if _is(wider, wider_token_end, c">"):
            return True
        if _is(narrower, token_end, c">"):
            return False
        if not _is(wider, wider_token_end, c"*"):
            if not _same(wider, wider_token_end, narrower, token_end):
                return False
        if wider_token_end == wider_end or token_end == end:
            return wider_token_end == wider_end and token_end == end
        wider = wider_token_end + 1
        narrower = token_end + 1


cdef bint subjects_meet(const char* one, Py_ssize_t one_size, const char* other, Py_ssize_t other_size) noexcept nogil:
    """Whether there is a subject that subscriptions to both, neither with empty tokens, get."""
    cdef const char* one_end = one + one_size
    cdef const char* other_end = other + other_size
    cdef const char* one_token_end
    cdef const char* other_token_end
    while True:
        one_token_end = _token_end(one, one_end)
        other_token_end = _token_end(other, other_end)
        if _is(one, one_token_end, c">") or _is(other, other_token_end, c">"):
            return True
        if not (_is(one, one_token_end, c"*") or _is(other, other_token_end, c"*")):
            if not _same(one, one_token_end, other, other_token_end):
                return False
        if one_token_end == one_end or other_token_end == other_end:
            return one_token_end == one_end and other_token_end == other_end
        one = one_token_end + 1
        other = other_token_end + 1


def valid_for_publish(bytes subject not None):
    """Whether a pedantic client may publish to `subject`: a subject without wildcards."""
    return bool(is_subscription_subject(subject, len(subject)) and is_literal(subject, len(subject)))


def valid_for_subscribe(bytes subject not None):
    """Whether one may subscribe to `subject`."""
    return bool(is_subscription_subject(subject, len(subject)))


def covers(bytes wider not None, bytes narrower not None):
    """Whether a subscription to `wider` gets everything that one to `narrower` gets; both valid for subscribing."""
    return bool(subject_covers(wider, len(wider), narrower, len(narrower)))


def meet(bytes one not None, bytes other not None):
    """Whether there is a subject that subscriptions to both get; both valid for subscribing."""
    return bool(subjects_meet(one, len(one), other, len(other)))


def matches(bytes pattern not None, bytes subject not None):
    """Whether a subscription to `pattern` gets what is published to `subject`."""
    return bool(subject_matches(pattern, len(pattern), subject, len(subject)))
