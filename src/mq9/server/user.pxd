# A user, as all connections of that user share it. See user.pyx.

from mq9.mailboxes.owner cimport Owner
from mq9.server.permissions cimport Permissions


cdef class Rate:
    cdef readonly double rate              # a second; 0: no limit
    cdef double _spare                     # messages that may be published at once; below zero: too many were
    cdef double _counted_at

    cdef void _refill(self, double now, double most) noexcept
    cdef bint spend(self) noexcept


cdef class User(Rate):
    cdef readonly str name
    cdef readonly object proof             # what a client shows to be this user; compared when the configuration changes
    cdef readonly Permissions permissions  # None: everything
    cdef readonly Owner owner
    cdef readonly Py_ssize_t connections_max     # 0: no limit, here and below
    cdef readonly Py_ssize_t subscriptions_max
    cdef public Py_ssize_t connections
    cdef public Py_ssize_t subscriptions
