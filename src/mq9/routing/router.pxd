# Who gets a message that is published to a core NATS subject. See router.pyx.

from libc.stdint cimport uint64_t

from mq9.native.bytemap cimport ByteMap, Named
from mq9.wire.frames cimport Publish


cdef class Subscription:
    # One SUB of one client. The server's subclass knows the client.
    cdef readonly bytes subject
    cdef readonly bytes queue
    cdef readonly bytes sid

    cdef bint deliver(self, Publish* frame) except -1


cdef class Route(Named):
    # Everybody who gets what is published to the subject `name`, as long as `generation` is the router's.
    cdef list plain
    cdef list groups
    cdef uint64_t generation


cdef class _Node:
    cdef dict children
    cdef _Node star
    cdef list plain
    cdef dict queues
    cdef list plain_rest
    cdef dict queues_rest

    cdef bint is_empty(self)


cdef class Router:
    cdef _Node _root
    cdef ByteMap _routes
    cdef readonly uint64_t generation
    cdef readonly size_t count
    cdef uint64_t _spread
    cdef uint64_t _inserts
    cdef uint64_t _removes
    cdef uint64_t _matches
    cdef uint64_t _hits

    cdef Route route(self, const char* subject, Py_ssize_t size)
    cdef int publish(self, Route route, Publish* frame) except -1
    cdef Route _build(self, const char* subject, Py_ssize_t size)
    cdef uint64_t _next_spread(self) noexcept
    cdef int _forget(self, Subscription subscription) except -1
