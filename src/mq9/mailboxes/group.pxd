# One group of workers on one mailbox: what it has been given, and what of that is unfinished. See group.pyx.

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from mq9.mailboxes.appeared cimport Appeared
from mq9.mailboxes.index cimport Entry, LevelCursor
from mq9.mailboxes.mailbox cimport LEVELS, Mailbox, Receiver
from mq9.mailboxes.timers cimport TimerOwner, Timers

cdef enum OpenState:
    HANDED                     # written for a receiver, and not known to have reached its socket
    LEASED
    LAPSED                     # its lease ran out: to be leased again, but an ack still counts
    RETURNED                   # given back: to be leased again when it is due
    DEAD
    DONE                       # finished, and kept in mind because it would be given out again otherwise

cdef struct Open:
    # A message that the group was given and has not finished.
    uint64_t msg_id
    uint64_t due               # LEASED: when the lease ends; RETURNED: when it may be given out (Unix ms); HANDED: where it ends in the output
    uint64_t holder            # whose lease it is: the number of a client, 0 for one of before the broker's start
    uint8_t state
    uint8_t rank
    uint8_t attempts

cdef enum:
    ATTEMPTS_MAX = 16


cdef class Handout(TimerOwner):
    # What went out together and is not finished: the messages of one FETCH reply, or those on their way to one receiver.
    cdef readonly Group group
    cdef readonly uint64_t number
    cdef Open* items           # in the order in which they were listed
    cdef uint32_t count
    cdef uint32_t capacity
    cdef uint32_t _hint        # where the last one was found
    cdef uint64_t timer        # when it is looked at next (Unix ms), 0: never
    cdef bint stored           # it may have a row
    cdef bint changed          # since its row was written
    cdef readonly dict reasons # msg_id → why it was given back or is dead; None as long as there was none

    cdef Open* add(self, uint64_t msg_id, int rank, int attempts) except NULL
    cdef Open* find(self, uint64_t msg_id) noexcept
    cdef bint is_offered(self, uint64_t msg_id) noexcept
    cdef bint is_done(self, uint64_t msg_id) noexcept
    cdef int remove(self, Open* item) except -1
    cdef int watch(self, uint64_t due) except -1


cdef struct Choice:
    # The next message for somebody. `open` is NULL when the group has never had it.
    Entry* entry
    Open* open
    int rank


cdef class Group:
    cdef readonly Mailbox mailbox
    cdef readonly bytes name
    cdef readonly uint32_t number
    cdef readonly bint gone
    cdef bint dirty            # what is stored of it is to be written anew
    cdef uint64_t next_handout
    cdef uint64_t cursors[LEVELS]          # up to here everything was given out, but for what is open
    cdef Ledger ledger
    cdef readonly dict open                # msg_id → the Handout that it is in
    cdef object _dead                      # SortedSet of the msg_ids of the dead, and of some that are not any more; None until used
    cdef list _again                       # for each level a heap of msg_ids that are to be given out again; None until used
    cdef dict _former                      # msg_id → clients that held it before, in their order
    cdef object _retried                   # msg_id → attempts of those done lately that needed more than one
    cdef Appeared appeared                 # what has appeared in the mailbox
    cdef uint64_t heard        # its place in that: what stands before it is taken up, if it lies below a cursor
    cdef uint64_t heard_ms     # of what appeared up to then (Unix ms) it has heard
    cdef Handout _late                     # where messages that appear below the cursor are put
    cdef list _kept                        # msg_ids of those that are kept in mind as done until all of a tick is heard; None until used
    cdef set changed                       # Handouts whose rows are to be written
    cdef readonly object fetches           # those who wait for messages, as keys in their order; None until used
    cdef readonly list members             # its receivers
    cdef readonly set stored               # numbers of the Handouts that may have rows
    cdef uint64_t overlap      # what is open up to here may lie above the cursors
    cdef list starting         # msg_ids that are to be looked at still because it starts over, the last one first; None: it does not
    cdef uint64_t _start_id    # where it starts over
    cdef bint receivers_first
    cdef Py_ssize_t counted    # its part in what the ledger says is unfinished
    cdef bint stirred          # it may have something to give to those who wait
    cdef size_t _tidy_at
    cdef list _untidy          # msg_ids of which it is to be seen still whether they are gone; None: none are
    cdef uint64_t _left        # as `left` said last, for which priorities, and how often it may say so still
    cdef int _left_mask
    cdef int _left_uses

    cdef bint is_full(self) noexcept
    cdef bint peek(self, int mask, uint64_t now, Choice* choice, bint known_only) except -1
    cdef int _peek_again(self, int rank, uint64_t now, Choice* choice) except -1
    cdef Open* give(self, Choice* choice, Handout handout) except NULL
    cdef int touch(self, Handout handout) except -1
    cdef int finish(self, Handout handout, Open* item) except -1
    cdef int drop(self, Handout handout, Open* item) except -1
    cdef int note_holder(self, const Open* item) except -1
    cdef int note_dead(self, uint64_t msg_id) except -1
    cdef int forget_holders(self, uint64_t msg_id) except -1
    cdef int _remember(self, const Open* item) except -1
    cdef int put_back(self, Handout handout, Open* item, OpenState state, uint64_t due, uint64_t now) except -1
    cdef int bury(self, Handout handout, Open* item, bytes reason) except -1
    cpdef bint is_there(self, uint64_t msg_id, uint64_t now) except -1
    cpdef bint was_leased_again(self, uint64_t msg_id, uint64_t holder, attempt) except -1
    cdef bint hear(self) except -1
    cpdef bint ready(self) except -1
    cdef bint _go_on_starting(self) except -1
    cdef int _take_up(self, int rank, uint64_t msg_id) except -1
    cdef bint _hears_more(self) noexcept
    cdef uint64_t heard_until(self) noexcept
    cdef int keep(self, uint64_t msg_id) except -1
    cdef int forget_kept(self, Py_ssize_t budget) except -1
    cdef int hand(self, Choice* choice, Receiver receiver) except -1
    cdef int written(self, Handout handout, uint64_t position) except -1
    cdef int _offer(self, int rank, uint64_t msg_id) except -1
    cdef int _pass_over(self, uint64_t msg_id) except -1
    cdef int _tidy(self, uint64_t now) except -1
    cdef uint64_t count(self, int mask) except? 0
    cdef uint64_t left(self, int mask) except? 0


cdef class Ledger:
    # What all groups of a post office share.
    cdef readonly Timers timers
    cdef list dirty
    cdef public Py_ssize_t slice_max       # open messages that a group looks at in one go
    cdef list keeping                      # groups that keep messages in mind as done, to be forgotten
    cdef object _has_work
    cdef object _wants_run
    cdef object _wake
    cdef readonly uint64_t groups
    cdef readonly uint64_t unfinished      # messages that all groups were given and have not finished, by what was stored last
    cdef public uint64_t unfinished_max    # of those, how many one group may have when it leases more
    cdef readonly object stirred           # groups that have something to give to those who wait

    cdef int mark(self, Group group) except -1
    cdef int store_now(self, Group group) except -1
    cdef int stir(self, Group group) except -1
