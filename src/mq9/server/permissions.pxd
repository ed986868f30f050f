# What a user may publish and subscribe to. See permissions.pyx.

from libc.stdint cimport uint64_t

from mq9.native.bytemap cimport ByteMap


cdef class Patterns:
    # Some subjects, with wildcards or without.
    cdef readonly tuple patterns
    cdef ByteMap _known            # what was found out of subjects asked for before; None for few patterns

    cdef bint match(self, const char* subject, Py_ssize_t size) except -1
    cdef bint _scan(self, const char* subject, Py_ssize_t size) except -1


cdef class Rules:
    # What is allowed in one direction: `allow` (None: everything) without `deny`.
    cdef Patterns allow
    cdef tuple allow_queues        # (pattern, pattern of queue names)
    cdef Patterns deny
    cdef tuple deny_queues

    cdef bint permit(self, const char* subject, Py_ssize_t size) except -1
    cdef bint permit_subscription(self, bytes subject, bytes queue) except -1


cdef class Permissions:
    cdef Rules _publish
    cdef Rules _publish_mail       # the same for subjects below `$mq9.`
    cdef Rules _subscribe
    cdef Rules _subscribe_mail
    cdef readonly bint allow_responses
    cdef readonly uint64_t responses_max       # 0: no limit
    cdef readonly double responses_expire_s    # 0: never

    cdef bint may_publish(self, const char* subject, Py_ssize_t size) except -1
    cdef bint may_subscribe(self, bytes subject, bytes queue) except -1
    cdef Patterns hidden_from(self, bytes subject, bytes queue)
    cdef Rules _rules_of(self, bytes subject)
