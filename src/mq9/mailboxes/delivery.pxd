# Giving receivers what they have not had yet. See delivery.pyx.

from libc.stdint cimport uint64_t

from mq9.mailboxes.blocks cimport Block, BlockCache
from mq9.mailboxes.index cimport Entry, LevelCursor
from mq9.mailboxes.mailbox cimport LEVELS, Mailbox, Receiver

cdef struct View:
    # A mailbox as one receiver sees it: for each priority the first message that it has not had.
    LevelCursor cursors[LEVELS]            # its place in the level
    Entry* entries[LEVELS]
    bint late[LEVELS]                      # the message lies behind its place, where it appeared late


cdef class Delivery:
    cdef readonly BlockCache cache
    cdef object _ready
    cdef dict _waiting         # number of a block → the receivers that wait for it
    cdef list _wanted          # blocks that nobody was asked for yet
    cdef set _damaged

    cdef int attach(self, Receiver receiver) except -1
    cdef int detach(self, Receiver receiver) except -1
    cdef int wake(self, Receiver receiver) except -1
    cdef int resume(self, Receiver receiver) except -1
    cdef int stir(self, Mailbox mailbox) except -1
    cdef Py_ssize_t _pump(self, Receiver receiver, uint64_t now) except -1
    cdef Py_ssize_t _pump_member(self, Receiver receiver, uint64_t now) except -1
    cdef int _want(self, uint64_t number, Receiver receiver, LevelCursor* cursor) except -1


cdef class Listener(Receiver):
    cdef readonly Py_ssize_t space
    cdef readonly uint64_t position        # how many messages it was given
    cdef Delivery _delivery
    cdef object _heard
