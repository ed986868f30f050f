# A mailbox, and the two kinds of people who meet there: senders and receivers. See mailbox.pyx.

from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from mq9.mailboxes.index cimport LEVEL_STEPS, Entry, Level, level_expect
from mq9.mailboxes.keys cimport Keys
from mq9.mailboxes.owner cimport Owner
from mq9.native.bytemap cimport Named, fetch_named

cdef enum:
    LEVELS = 5
    DELAYED = LEVELS           # in the place of a rank: not visible yet
    ADD_STEPS = LEVEL_STEPS + 1  # of expect_add


cdef class Mailbox(Named):
    # `name` is the mail_id. Times in Unix ms. First what each send looks at, which is to lie in as few lines of the cache as possible.
    cdef readonly uint64_t number
    cdef readonly uint64_t expires_ms      # 0: never
    cdef readonly bint gone                # ended: nothing may be done with it any more
    cdef uint32_t arriving                 # how many records are not durable yet
    cdef uint64_t arriving_bytes           # bytes of those
    cdef readonly uint64_t count
    cdef readonly uint64_t size
    cdef readonly Owner owner              # None: it was created by nobody in particular
    cdef readonly list receivers           # None as long as there was none
    cdef public object groups              # its MailboxGroups; None as long as there was none
    cdef Level* levels[LEVELS + 1]         # the last one holds the messages that are not visible yet
    cdef bint stirred                      # its receivers are to be looked after in this turn
    cdef readonly bint public
    cdef readonly bint owner_only          # nobody but its owner may do more than send
    cdef readonly uint32_t ttl_s           # 0: never
    cdef readonly list watchers            # callables told of events; None as long as there was none
    cdef Keys keys                         # None as long as no message had one
    cdef readonly uint64_t created_ms
    cdef readonly bytes desc

    cdef int add(self, int priority, const Entry* entry) except -1
    cdef int delay(self, int priority, const Entry* entry) except -1
    cdef int reveal(self, uint64_t msg_id) except -2
    cdef int take_out(self, int priority, uint64_t msg_id) except -1
    cdef void _remove(self, int priority, uint64_t msg_id) noexcept
    cdef Entry* find(self, uint64_t msg_id, int* priority) noexcept
    cdef bint is_over(self, uint64_t now) noexcept


cdef inline void expect_add(PyObject* mailbox, int priority, int step) noexcept:
    """`add` will be called: fetch what it will look at, a part in each of ADD_STEPS steps, some time apart.

    Each step follows a pointer that the step before has fetched, so with many mailboxes nobody waits for memory.
    """
    cdef Level* level
    if step == 0:
        fetch_named(mailbox)
        return
    level = (<Mailbox>mailbox).levels[priority]
    if level != NULL:
        level_expect(level, step - 1)


cdef enum ReceiverState:
    IDLE                       # has everything there is
    READY                      # in the queue of those to be given more
    PAUSED                     # its client has no room
    WAITING                    # for a block to be read


cdef class Receiver:
    # Somebody who is given the messages of a mailbox as there is room: a cursor for each priority, no copy of anything.
    cdef readonly Mailbox mailbox
    cdef uint8_t mask                      # bit n: wants priority n
    cdef ReceiverState state
    cdef bint ended
    cdef uint64_t cursors[LEVELS]          # the msg_id written last; not used by a member of a group
    cdef uint64_t late[LEVELS]             # its place among what has appeared behind its cursor
    cdef object group                      # the Group of which it is a member, or None
    cdef object handout                    # what a member was given that has not reached its socket yet, or None

    cdef Py_ssize_t room(self) noexcept
    cdef int write(self, const char* record, uint64_t pending) except -1
    cdef int mailbox_ended(self) except -1


cdef class Sender:
    # Somebody who waits to hear that a message is stored.
    cdef int sent(self, const char* reply, Py_ssize_t reply_size, uint64_t msg_id, Mailbox mailbox, bint duplicate) except -1
    cdef int refused(self, const char* reply, Py_ssize_t reply_size, object error) except -1


cdef class Told(Sender):
    # A Sender that calls a function.
    cdef object _told
