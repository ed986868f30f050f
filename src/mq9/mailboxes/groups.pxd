# All groups of a post office: found, stored, and told when there is something for those who wait. See groups.pyx.

from libc.stdint cimport uint32_t, uint64_t

from mq9.mailboxes.appeared cimport Appeared
from mq9.mailboxes.group cimport Group, Handout, Ledger
from mq9.mailboxes.mailbox cimport Mailbox
from mq9.mailboxes.timers cimport TimerOwner


cdef class Groups


cdef class Fetch(TimerOwner):
    # A FETCH that waits for messages. A subclass answers it.
    cdef readonly Groups groups
    cdef readonly Mailbox mailbox
    cdef readonly Group group  # None: it reads and remembers nothing
    cdef readonly uint32_t limit
    cdef readonly size_t bytes_max
    cdef readonly uint64_t lease_ms
    cdef readonly uint64_t holder
    cdef readonly uint64_t deadline_ms
    cdef readonly bint waits   # it is among those who wait
    cdef readonly bint over    # it waits no more


cdef class MailboxGroups:
    # What a mailbox has of groups, from the first one on.
    cdef readonly dict by_name
    cdef readonly dict attentive           # groups for which a FETCH waits, as keys
    cdef readonly dict readers             # FETCHes without a group that wait, as keys in their order
    cdef readonly uint64_t waiting         # FETCHes that wait
    cdef readonly Appeared appeared
    cdef uint32_t next_number


cdef class Groups(Ledger):
    cdef object _ended                     # keys of rows that are to be removed
    cdef list _loaded_late
    cdef list _loaded
    cdef dict _mailboxes                   # number → Mailbox, of those that have groups
    cdef list _stored_now                  # (group, handouts, rows) of groups that start over, as they were before
    cdef object _leaving                   # the groups of ended mailboxes by their names, to be taken apart
    cdef object _left_waiting              # FETCHes that waited at their ends, and are to be told
    cdef list _deferred                    # groups that come next time: receivers go first, or not all is heard yet
    cdef dict _readers                     # mailboxes with FETCHes without a group, to be looked after

    cdef int stir_mailbox(self, Mailbox mailbox) except -1
    cdef int appeared(self, Mailbox mailbox, int rank, uint64_t msg_id) except -1
    cdef int forget_kept(self, Py_ssize_t budget) except -1
    cdef int dismantle(self, Py_ssize_t budget) except -1
    cdef set _write_group(self, Group group, list rows)
    cdef bytes _row_of(self, Handout handout)
    cdef int _recount(self, Group group) except -1
    cdef int _leave(self, Fetch fetch) except -1
    cdef int _list_loaded(self) except -1
    cdef int _dispatch(self, Group group, uint64_t now) except -1
