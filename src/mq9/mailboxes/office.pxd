# The post office: all mailboxes, what is being written, and what happens with time. See office.pyx.

from libc.stdint cimport uint32_t, uint64_t

from mq9.mailboxes.batch cimport Batch
from mq9.mailboxes.blocks cimport BlockCache, BlockTable
from mq9.mailboxes.capacity cimport Capacity
from mq9.mailboxes.delivery cimport Delivery
from mq9.mailboxes.dedup cimport Repeats, Seen
from mq9.mailboxes.drops cimport DropIds
from mq9.mailboxes.groups cimport Groups
from mq9.mailboxes.index cimport Entry
from mq9.mailboxes.mailbox cimport Mailbox, Sender
from mq9.mailboxes.numbers cimport Numbers
from mq9.mailboxes.owner cimport Owner
from mq9.mailboxes.timers cimport Timers
from mq9.mailboxes.writing cimport Message
from mq9.native.bytemap cimport ByteMap


cdef class PostOffice:
    cdef readonly ByteMap mailboxes
    cdef DropIds _drops
    cdef readonly object public            # mail_id → Mailbox, by name
    cdef readonly dict owners              # name → Owner
    cdef readonly BlockTable blocks
    cdef readonly Delivery delivery
    cdef readonly Numbers numbers
    cdef readonly Capacity capacity
    cdef readonly object rewriting         # the Rewriting that is not durable yet, or None
    cdef readonly Timers timers
    cdef readonly Groups groups
    cdef readonly Repeats repeats
    cdef readonly Timers expiries          # those of messages, which may be a million at once and nobody waits for
    cdef readonly dict unsettled           # mail_id → (row or None, the last row): its latest change that is not durable yet
    cdef readonly object refusal           # why nothing can be stored now (ProtocolError), or None
    cdef readonly uint64_t backlog         # bytes of what is not durable yet
    cdef readonly uint64_t messages
    cdef readonly uint64_t message_bytes
    cdef readonly uint64_t expired_messages
    cdef readonly uint64_t expired_mailboxes
    cdef Batch _batch
    cdef object _full                      # batches before it that wait to be sealed
    cdef object _has_work
    cdef object _public_event
    cdef bint _told
    cdef uint64_t _next_msg_id
    cdef uint64_t _next_block
    cdef uint64_t _next_mailbox
    cdef object _dismantling
    cdef list _appeared                    # (msg_id, rank, mailbox) of messages that have just become visible
    cdef object _expired_rows              # numbers of expired mailboxes whose rows are still stored

    cdef int send(self, Mailbox mailbox, Message* message, Sender sender, const char* reply, size_t reply_size,
                  uint64_t now) except -1
    cdef bint has_room_for_any(self, Mailbox mailbox, size_t size) noexcept
    cdef Mailbox find_destination(self, const char* address, size_t size, uint64_t now)
    cdef Mailbox find(self, const char* mail_id, size_t size, uint64_t now)
    cdef int _settle_messages(self, Batch batch, size_t first, size_t last, list stirred) except -1
    cdef int place(self, Mailbox mailbox, int priority, Entry* entry, uint64_t visible_ms) except -1
    cdef int _settle_flagged(self, Batch batch, size_t at, Entry* entry) except -1
    cdef int _stir(self, list mailboxes) except -1
    cdef int _repeat(self, Mailbox mailbox, Seen* seen, Sender sender, const char* reply, size_t reply_size) except -1
    cdef int _refuse_messages(self, Batch batch, object error) except -1
    cdef bint _is_being_renewed(self, Mailbox mailbox, uint64_t now) except -1
    cdef int _dismantle(self, uint32_t budget) except -1
    cdef uint32_t _fire_due(self, Timers timers, uint64_t now, uint32_t budget) except? 0
    cdef int _fire(self, Mailbox mailbox, uint64_t msg_id, uint64_t now) except -1
    cdef int _appear(self, Mailbox mailbox, uint64_t msg_id) except -1
    cdef int _list_appeared(self) except -1
    cdef int _take_out(self, Mailbox mailbox, int priority, Entry* entry) except -1
