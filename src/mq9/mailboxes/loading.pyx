"""Starting with what is stored: rows and blocks become a post office again (docs/design.md §4).

First the marks and the mailboxes, then groups and the dead, then the blocks in the order of their numbers, then the end.
"""

from cpython.object cimport PyObject
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from mq9.mailboxes.blocks cimport BLOCK_TARGET
from mq9.mailboxes.dedup cimport DEDUP_ID_MAX, STORED, WINDOW_MS, Mark, mark_of
from mq9.mailboxes.format cimport (
    BLOCK_HEAD, FLAG_DEDUP, FLAG_KEY, RECORD_MIN, load16, record_expires_ms, record_field, record_flags, record_is_sound,
    record_mailbox, record_msg_id, record_priority, record_size, record_time_ms, record_visible_ms,
)
from mq9.mailboxes.drops import drop_id_of
from mq9.mailboxes.format import DamagedError, MailboxRow, Marks, check_block, open_row
from mq9.mailboxes.index cimport ENTRY_KEYED, Entry
from mq9.mailboxes.keys cimport Keys
from mq9.mailboxes.mailbox cimport ADD_STEPS, Mailbox, expect_add
from mq9.mailboxes.office cimport PostOffice
from mq9.native.bytemap cimport name_of


cdef enum:
    # Records between two steps of fetching what taking one over looks at.
    STEP_DISTANCE = 4


cdef class Loading:
    """Fills a post office in which nothing has happened yet.

    Arguments:
        office: the post office.
    """

    def __init__(self, PostOffice office not None):
        self._office = office

    def load_marks(self, bytes value not None):
        """Take over the numbers to go on with."""
        cdef PostOffice office = self._office
        marks = Marks.unpack(value)
        office._next_msg_id = max(office._next_msg_id, marks.msg_id)
        office._next_block = max(office._next_block, marks.block)
        office._next_mailbox = max(office._next_mailbox, marks.mailbox)

    def load_mailbox(self, bytes key not None, bytes value not None, uint64_t now):
        """Take over a mailbox from its row; one that has expired at `now` (Unix ms) is dropped instead."""
        cdef PostOffice office = self._office
        cdef Mailbox mailbox, former
        cdef PyObject* found
        cdef bytes owner
        row = MailboxRow.unpack(key, value)
        mailbox = Mailbox(row)
        office._next_mailbox = max(office._next_mailbox, mailbox.number + 1)
        found = office.mailboxes.find(name_of(mailbox), mailbox.name_size)
        former = <Mailbox>found if found != NULL else None
        if mailbox.is_over(now) or (former is not None and former.number > mailbox.number):
            office._expired_rows.append(mailbox.number)
            return
        owner = row.owner
        if owner:
            mailbox.owner = office.owner_of(owner)
            mailbox.owner.mailboxes += 1
        if former is not None:  # two creations of one name: the older one had expired and was not removed yet
            if former.owner is not None:
                former.owner.mailboxes -= 1
            office._expired_rows.append(former.number)
            office.numbers.remove(former)
            office._drops.discard(former)
        office.numbers.put(mailbox)
        office.mailboxes.put(mailbox)
        office._drops.add(mailbox, drop_id_of(mailbox.name))
        if mailbox.public:
            office.public[mailbox.name.decode()] = mailbox
        office.watch_end(mailbox)

    def load_block(self, uint64_t number, bytes data not None, uint64_t now):
        """Take over the messages of a block. Raises DamagedError, with nothing taken over, when it is not what was stored."""
        cdef PostOffice office = self._office
        cdef const char* block = data
        cdef uint32_t records, at
        cdef size_t offset = BLOCK_HEAD
        cdef Coming* coming
        office._next_block = max(office._next_block, number + 1)
        records = check_block(data, number)
        if records > (len(data) - BLOCK_HEAD) // RECORD_MIN:
            raise DamagedError("has a record that does not fit into it")
        coming = <Coming*>calloc(records or 1, sizeof(Coming))
        if coming == NULL:
            raise MemoryError()
        try:
            for at in range(records):
                if not record_is_sound(block + offset, len(data) - offset):
                    raise DamagedError("has a record that does not fit into it")
                coming[at].offset = <uint32_t>offset
                coming[at].priority = record_priority(block + offset)
                offset += record_size(block + offset)
            office.blocks.add(number, records, <uint32_t>len(data))
            for at in range(records):
                self._expect(block, coming, at, records)
                self._take_record(number, block, coming[at].offset, now)
        finally:
            free(coming)

    cdef void _expect(self, const char* block, Coming* coming, size_t at, size_t count) noexcept:
        """The record at `at` is taken over now: fetch what the next ones will look at."""
        cdef size_t next_at = at + (ADD_STEPS + 1) * STEP_DISTANCE
        cdef int step
        if next_at < count:
            self._office.numbers.expect(record_mailbox(block + coming[next_at].offset))
        next_at = at + ADD_STEPS * STEP_DISTANCE
        if next_at < count:
            coming[next_at].mailbox = self._office.numbers.look(record_mailbox(block + coming[next_at].offset))
        for step in range(ADD_STEPS):
            next_at = at + (ADD_STEPS - step) * STEP_DISTANCE
            if next_at < count and coming[next_at].mailbox != NULL:
                expect_add(coming[next_at].mailbox, coming[next_at].priority, step)

    cdef int _take_record(self, uint64_t number, const char* block, uint32_t offset, uint64_t now) except -1:
        cdef PostOffice office = self._office
        cdef const char* record = block + offset
        cdef uint64_t expires = record_expires_ms(record), visible = record_visible_ms(record)
        cdef Mailbox mailbox = office.numbers.find(record_mailbox(record))
        cdef bint dead = office.blocks.is_dead(number, offset)
        cdef Entry* former
        cdef Entry entry
        cdef int rank
        if record_msg_id(record) < office._next_msg_id and mailbox is not None:
            former = mailbox.find(record_msg_id(record), &rank)
            if former != NULL and dead:
                office.remove_message(mailbox, record_msg_id(record))
            elif former != NULL:  # it was copied from a block that had not been dropped yet
                office.blocks.release(former.block, former.size)
                former.block = number
                former.offset = offset
                return 0
        office._next_msg_id = max(office._next_msg_id, record_msg_id(record) + 1)
        office._next_mailbox = max(office._next_mailbox, record_mailbox(record) + 1)
        if record_flags(record) & FLAG_DEDUP and mailbox is not None:
            self._take_dedup(number, record, now)
        if mailbox is None or (expires and expires <= now) or dead:
            office.blocks.release(number, record_size(record))
            return 0
        entry.msg_id = record_msg_id(record)
        entry.block = number
        entry.offset = offset
        entry.size = record_size(record)
        entry.end = expires
        if record_flags(record) & FLAG_KEY and not self._take_key(mailbox, record, &entry):
            return 0
        if visible and visible <= office.timers.finished():
            office.groups.load_delayed(mailbox, record_priority(record), entry.msg_id, visible)
        office.place(mailbox, record_priority(record), &entry, visible)
        return 0

    cdef bint _take_key(self, Mailbox mailbox, const char* record, Entry* entry) except -1:
        """Take over the key of a message; false when it has been replaced, which is only found out if rows were damaged."""
        cdef PostOffice office = self._office
        cdef const char* field = record_field(record, FLAG_KEY)
        cdef bytes key = field[2:2 + load16(field)]
        cdef uint64_t former
        cdef Entry* other
        cdef int rank
        if mailbox.keys is None:
            mailbox.keys = Keys()
        former = mailbox.keys.find(key)
        if former > entry.msg_id:
            office._batch.overtaken.append((entry.block, entry.offset))
            office.blocks.release(entry.block, entry.size)
            return False
        if former and former != entry.msg_id:
            other = mailbox.find(former, &rank)
            office._batch.overtaken.append((other.block, other.offset))
            office.remove_message(mailbox, former)
        mailbox.keys.put(key, entry.msg_id)
        entry.end |= ENTRY_KEYED
        return True

    cdef int _take_dedup(self, uint64_t number, const char* record, uint64_t now) except -1:
        """Take over what a message, which may be dead, says of the repeats of it."""
        cdef PostOffice office = self._office
        cdef const char* field = record_field(record, FLAG_DEDUP)
        cdef Mark mark
        if load16(field) > DEDUP_ID_MAX or record_time_ms(record) + WINDOW_MS <= now:
            return 0
        mark_of(record_mailbox(record), field + 2, load16(field), &mark)
        if office.repeats.find(&mark, now) == NULL:
            office.repeats.add(&mark, record_msg_id(record), record_time_ms(record), STORED)
        return office.repeats.hold(number, record_time_ms(record))

    def load_dead(self, bytes key not None, bytes value not None):
        """Take over the row of a block in the table of the dead. Raises DamagedError."""
        cdef PostOffice office = self._office
        if len(key) != 8:
            raise DamagedError("has a wrong key")
        number = int.from_bytes(key, "big")
        office.blocks.load_dead(number, open_row(key, value))
        office._next_block = max(office._next_block, number + 1)  # there may be no such block, and a new one is not dead

    def load_group(self, bytes key not None, bytes value not None):
        """Take over a row of Table.GROUPS; all mailboxes must be there. Raises DamagedError."""
        cdef PostOffice office = self._office
        office.groups.load(key, value, office.numbers.get)

    def finish_loading(self, damaged, uint64_t now):
        """Everything that is stored was taken over, at `now` (Unix ms), but for the blocks whose numbers are in `damaged`.

        Their msg_ids are not known, and must not be given out again: as many as such a block can hold are left out.
        """
        cdef PostOffice office = self._office
        office.groups.finish_loading(now)
        office._next_msg_id += len(damaged) * (BLOCK_TARGET // RECORD_MIN + 1)
        # Rows of blocks that are not there go as blocks do: tried again when a commit fails.
        office.blocks.emptied.extend(office.blocks.dead_without_block(damaged))
        if office._batch or office._expired_rows or office.blocks.emptied or office.groups.has_changes():
            office.tell()
