"""The post office: all mailboxes, the batch that is being filled, what a finished commit brings about, and what time does.

Whatever changes the state goes into the open batch. The server seals it, has it committed, and settles it: only then messages
become visible and people are told. Nothing here waits, and nothing here takes longer than a slice of a few milliseconds.
"""

import logging
from collections import deque

from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF
from sortedcontainers import SortedDict

from mq9.mailboxes.batch cimport Sent
from mq9.mailboxes.blocks cimport BLOCK_TARGET, Block
from mq9.mailboxes.capacity cimport Capacity
from mq9.mailboxes.dedup cimport DEDUP_ID_MAX, PENDING, Mark, mark_of
from mq9.mailboxes.format cimport FLAG_DEDUP, FLAG_KEY
from mq9.mailboxes.format import MARKS_KEY, Marks
from mq9.mailboxes.index cimport ENTRY_KEYED, entry_expires, level_free, level_take
from mq9.mailboxes.keys cimport Keys
from mq9.mailboxes.late cimport late_add
from mq9.mailboxes.mailbox cimport DELAYED, LEVELS, Receiver, Told
from mq9.mailboxes.numbers cimport Numbers
from mq9.mailboxes.removals cimport mark_removed, unmark_removed
from mq9.mailboxes.rewriting cimport Rewriting
from mq9.mailboxes.timers cimport Timer, TimerOwner
from mq9.mailboxes.writing cimport KEY_MAX, flags_of, plain_message, size_of, write_record
from mq9.protocol import ProtocolError
from mq9.store.contract import Table

log = logging.getLogger("mq9")

cdef enum:
    # What is kept of blocks in memory, for receivers that are nearly up to date.
    CACHE_BYTES = 33554432
    # A batch that has grown to this many bytes is committed on its own: neither its commit nor what follows takes long.
    BATCH_TARGET = 2097152
    # Empty blocks, or rows, that one commit removes at most.
    DROPS_PER_COMMIT = 4096
    # What an effect counts for in the backlog: about as much as it takes in memory until it is durable.
    EFFECT_BYTES = 512
    # What the record of a message without headers has at most besides its payload.
    RECORD_OVERHEAD = 64
    # Entries taken apart in one go: a slice of time.
    DISMANTLE_ROOM = 1024

_NO_MAILBOX = ProtocolError(404, "no such mailbox")


cdef bint _is_stale(object owner, uint64_t msg_id, uint64_t now) noexcept:
    """Whether a timer has lost its cause."""
    cdef Mailbox mailbox
    cdef int priority
    if type(owner) is not Mailbox:
        return (<TimerOwner>owner).is_stale(msg_id, now)
    mailbox = <Mailbox>owner
    return mailbox.gone or (msg_id != 0 and mailbox.find(msg_id, &priority) == NULL)


cdef class PostOffice:
    """All mailboxes of a broker.

    Arguments:
        now: Unix ms.
        has_work: called once when the open batch is no longer empty.
        public_event: called with ("created" | "renewed" | "expired" | "removed", mailbox) for public mailboxes.
        wants_run: called when `run` has something to do.
        region_of, region_bytes: see `BlockTable`; by default the space of every block comes back by itself.
    """

    def __init__(self, uint64_t now, has_work, public_event, wants_run, region_of=int, uint64_t region_bytes=0):
        self.mailboxes = ByteMap()
        self._drops = DropIds()
        self.public = SortedDict()
        self.owners = {}
        self.blocks = BlockTable(region_of, region_bytes)
        self.delivery = Delivery(BlockCache(CACHE_BYTES))
        self.timers = Timers(now)
        self.groups = Groups(self.timers, self.tell, wants_run, self.delivery.wake_idle)
        self.expiries = Timers(now)
        self.repeats = Repeats(self.timers, self.blocks)
        self.unsettled = {}
        self._batch = Batch()
        self._full = deque()
        self._has_work = has_work
        self._public_event = public_event
        self._next_msg_id = self._next_block = self._next_mailbox = 1
        self._dismantling = deque()
        self._expired_rows = deque()
        self._appeared = []
        self.numbers = Numbers()
        self.capacity = Capacity()
        self.rewriting = None

    # what the operations ask

    cdef Mailbox find(self, const char* mail_id, size_t size, uint64_t now):
        """The mailbox of this mail_id that is there at `now` (Unix ms), or None."""
        cdef PyObject* found = self.mailboxes.find(mail_id, size)
        if found == NULL or (<Mailbox>found).is_over(now):
            return None
        return <Mailbox>found

    cdef Mailbox find_destination(self, const char* address, size_t size, uint64_t now):
        """The mailbox that a message to this mail_id or drop_id goes to, if it is there at `now` (Unix ms), or None."""
        cdef Mailbox mailbox
        if size < 2 or address[0] != c"d" or address[1] != c"-":
            return self.find(address, size, now)
        mailbox = self._drops.find(address, size)
        return None if mailbox is None or mailbox.is_over(now) else mailbox

    def destination(self, bytes address not None, uint64_t now):
        """As `find_destination`, from Python."""
        return self.find_destination(address, len(address), now)

    @property
    def last_msg_id(self):
        """The highest msg_id that was given out."""
        return self._next_msg_id - 1

    def get(self, bytes mail_id not None, uint64_t now):
        """The mailbox of this mail_id that is there at `now` (Unix ms), or None."""
        return self.find(mail_id, len(mail_id), now)

    def owner_of(self, bytes name not None):
        """The owner of this name, the same one each time."""
        owner = self.owners.get(name)
        if owner is None:
            owner = self.owners[name] = Owner(name)
        return owner

    def new_number(self):
        """A number for a new mailbox: no other one ever has it."""
        self._next_mailbox += 1
        return self._next_mailbox - 1

    def put_row(self, row not None):
        """Store a MailboxRow with the open batch."""
        self._batch.rows.append((Table.MAILBOXES, row.key, row.pack()))
        self._note(row.mail_id, row)

    def drop_row(self, uint64_t number, bytes mail_id not None):
        """Remove the row of a mailbox with the open batch."""
        self._batch.rows.append((Table.MAILBOXES, number.to_bytes(8, "big"), None))
        self._put_marks(self._batch)
        self._note(mail_id, None)

    def _put_marks(self, Batch batch):
        """Store the numbers to go on with: what showed them is about to go."""
        marks = Marks(self._next_msg_id, self._next_block, self._next_mailbox)
        batch.rows.append((Table.META, MARKS_KEY, marks.pack()))

    def _note(self, bytes mail_id, row):
        former = self.unsettled.get(mail_id)
        # With the last row that was asked for, which a removal follows: until that is settled, it says when the mailbox ends.
        change = (row, row if row is not None or former is None else former[1])
        self.unsettled[mail_id] = change
        self._batch.changes.append((mail_id, change))

    def latest_row(self, bytes mail_id not None):
        """(MailboxRow, or None for its removal, and the last row that was asked for) of the latest change to a mailbox that is not
        durable yet; None when there is none."""
        return self.unsettled.get(mail_id)

    def kill(self, Mailbox mailbox not None, uint64_t msg_id):
        """Make the removal of one message durable with the open batch."""
        self._batch.kills.append((mailbox, msg_id))

    def rewrite(self, sources, uint64_t now, ended):
        """Copy what is alive in blocks that are mostly dead into new ones, with the open batch.

        Arguments:
            sources: [(number, bytes)], checked blocks.
            now: Unix ms.
            ended: called with whether the copies are durable, unless there was nothing to copy.

        Returns the numbers of those that have to wait, and whether anything was copied. One call at a time, until `ended`.
        """
        rewriting = Rewriting(self.blocks, self.numbers, self._next_block, ended)
        waiting = [number for number, data in sources if not rewriting.add(number, data, now)]
        if rewriting.blocks:
            self._next_block += len(rewriting.blocks)
            self._batch.take_rewriting(rewriting)
            self.rewriting = rewriting
            self.tell()
        return waiting, bool(rewriting.blocks)

    def then(self, effect not None):
        """Let `effect` happen when the open batch is durable, after everything that the batch has up to now."""
        self._batch.then(effect)
        self._batch.size += EFFECT_BYTES
        self.backlog += EFFECT_BYTES
        self.tell()

    cdef int send(self, Mailbox mailbox, Message* message, Sender sender, const char* reply, size_t reply_size,
                  uint64_t now) except -1:
        """Put a message into the open batch; `sender`, unless None, hears of it under `reply`.

        Raises ProtocolError 429 or 507 when a limit leaves no room for it.
        """
        cdef Batch batch = self._batch
        cdef Block block = batch.open_block
        cdef size_t size = size_of(message)
        cdef Sent* sent
        cdef Seen* seen = NULL
        cdef Mark mark
        if message.dedup_size:
            mark_of(mailbox.number, message.dedup_id, message.dedup_size, &mark)
            seen = self.repeats.find(&mark, now)
            if seen != NULL:
                return self._repeat(mailbox, seen, sender, reply, reply_size)
        if message.dedup_size or mailbox.owner is not None or not self.capacity.has_room(mailbox, self.messages, size):
            self.capacity.look(mailbox, self.messages, self.repeats.count, message, size)
        self.capacity.arrives(mailbox, size)
        if message.dedup_size:
            seen = self.repeats.add(&mark, self._next_msg_id, now, PENDING)
        if block is None or block.size + size > BLOCK_TARGET and block.records:
            block = batch.open_block = Block(self._next_block)
            self._next_block += 1
            batch.blocks.append(block)
        if message.key_size:
            batch.keyed.append((batch.count, message.key[:message.key_size]))
        sent = batch.add(mailbox, sender, reply, reply_size)
        sent.msg_id = self._next_msg_id
        sent.expires_ms = message.expires_ms
        sent.visible_ms = message.visible_ms
        sent.block = block.number
        sent.offset = <uint32_t>block.size
        sent.size = <uint32_t>size
        sent.priority = message.priority
        sent.flags = flags_of(message)
        sent.seen = seen
        self._next_msg_id += 1
        write_record(block.reserve(size), message, size, sent.msg_id, mailbox.number, now)
        batch.size += size
        self.backlog += size
        if batch.size >= BATCH_TARGET:
            self.groups.write(batch)
            self._full.append(batch)
            self._batch = Batch()
        if not self._told:
            self.tell()
        return 0

    cdef bint has_room_for_any(self, Mailbox mailbox, size_t size) noexcept:
        """Whether any message with so many bytes of payload, and no headers, has room in the mailbox."""
        return self.capacity.has_room(mailbox, self.messages, size + RECORD_OVERHEAD)

    cdef int _repeat(self, Mailbox mailbox, Seen* seen, Sender sender, const char* reply, size_t reply_size) except -1:
        """Answer a send that is not stored, because it repeats another one."""
        if sender is None:
            return 0
        waiting = self.repeats.wait(seen, mailbox, sender, reply[:reply_size])
        if waiting is None:
            return sender.sent(reply, reply_size, seen.msg_id, mailbox, True)
        self.then(waiting)
        return 0

    def put(
        self, Mailbox mailbox not None, int rank, bytes payload not None, uint64_t expires_ms, uint64_t now, *,
        uint64_t visible_ms=0, bytes key not None=b"", bytes dedup_id not None=b"", told=None
    ):
        """As `send`, for whoever has the message as an object.

        Arguments:
            rank: of the priority, 0 to 4.
            expires_ms: when it ends, Unix ms; 0 for with its mailbox.
            visible_ms: when it may first be seen, Unix ms; 0 for at once.
            key, dedup_id: empty for none.
            told: called with (msg_id, whether it was a repeat) when it is durable, or with (ProtocolError, False).
        """
        cdef Message message
        if not 0 <= rank < LEVELS:
            raise ValueError("rank must be from 0 to 4")
        if len(key) > KEY_MAX or len(dedup_id) > DEDUP_ID_MAX:
            raise ValueError("the key or the id is too long")
        plain_message(&message, rank, payload, len(payload))
        message.expires_ms = expires_ms
        message.visible_ms = visible_ms
        message.key = key
        message.key_size = len(key)
        message.dedup_id = dedup_id
        message.dedup_size = len(dedup_id)
        self.send(mailbox, &message, None if told is None else Told(told), NULL, 0, now)

    def tell(self):
        """There is something to commit."""
        if not self._told:
            self._told = True
            self._has_work()

    # the life of a batch

    def seal(self, uint64_t now):
        """Close the open batch at `now` (Unix ms) and return it, or None when there is nothing to commit."""
        cdef Batch batch = self._batch
        cdef Block block
        if self._full:
            batch = self._full.popleft()
        else:
            self._told = False
            if self.blocks.emptied:
                self._drop_blocks(batch)
            while self._expired_rows and len(batch.expired) < DROPS_PER_COMMIT:
                number = self._expired_rows.popleft()
                batch.expired.append(number)
                batch.rows.append((Table.MAILBOXES, number.to_bytes(8, "big"), None))
            if batch.expired:
                self._put_marks(batch)
            self.groups.write(batch)
            if not batch:
                return None
            self._batch = Batch()
        batch.open_block = None
        mark_removed(batch, self.blocks)
        for block in batch.blocks:
            block.seal(now)
        return batch

    def _drop_blocks(self, Batch batch):
        """Let the batch drop blocks of which nothing is left, and note the numbers that they would have shown."""
        emptied = self.blocks.emptied
        while emptied and len(batch.dropped) < DROPS_PER_COMMIT:
            number = emptied.popleft()
            batch.dropped.append(number)
            if self.blocks.has_dead(number):
                batch.rows.append((Table.DEAD, number.to_bytes(8, "big"), None))
        self._put_marks(batch)

    def settle(self, Batch batch not None, uint64_t now):
        """The batch is durable: make it visible and tell everybody, in the order in which it was asked for."""
        cdef Block block
        cdef size_t done = 0
        cdef list stirred = []
        for block in batch.blocks:
            self.blocks.add(block.number, block.records, <uint32_t>block.size)
            if batch.rewriting is None or block not in batch.rewriting.blocks:  # nobody has asked for those
                self.delivery.cache.put(block)
        for number in batch.dropped:
            self.blocks.dropped(number)
            self.delivery.cache.discard(number)
        if batch.rewriting is not None:
            self.rewriting = None
            batch.rewriting.apply()
        if batch.count:
            self.refusal = None
        for position, effect in batch.effects:
            self._settle_messages(batch, done, position, stirred)
            done = position
            effect.apply(now)
        self._settle_messages(batch, done, batch.count, stirred)
        self._forget_changes(batch)
        self.groups.written(batch)
        self.backlog -= batch.size
        self._stir(stirred)
        if self.blocks.emptied or self._expired_rows or self.groups.has_changes():
            self.tell()

    cdef int _settle_messages(self, Batch batch, size_t first, size_t last, list stirred) except -1:
        cdef size_t at
        cdef Sent* sent
        cdef Mailbox mailbox
        cdef Entry entry
        for at in range(first, last):
            batch.expect(at, last)
            sent = &batch.sents[at]
            mailbox = <Mailbox>sent.mailbox
            self.capacity.arrived(mailbox, sent.size)
            if mailbox.gone:
                self.blocks.release(sent.block, sent.size)
                if sent.seen != NULL:
                    self.repeats.refuse(sent.seen, _NO_MAILBOX)
                if sent.sender != NULL:
                    (<Sender>sent.sender).refused(batch.replies.data + sent.reply_at, sent.reply_size, _NO_MAILBOX)
                continue
            entry.msg_id = sent.msg_id
            entry.block = sent.block
            entry.offset = sent.offset
            entry.size = sent.size
            entry.end = sent.expires_ms
            if sent.flags & (FLAG_KEY | FLAG_DEDUP):
                self._settle_flagged(batch, at, &entry)
            self.place(mailbox, sent.priority, &entry, sent.visible_ms)
            if sent.sender != NULL:
                (<Sender>sent.sender).sent(batch.replies.data + sent.reply_at, sent.reply_size, sent.msg_id, mailbox, False)
            if (mailbox.receivers is not None or mailbox.groups is not None) and not mailbox.stirred:
                mailbox.stirred = True
                stirred.append(mailbox)
        return 0

    cdef int _settle_flagged(self, Batch batch, size_t at, Entry* entry) except -1:
        """A message with a key or a dedup id is durable: let both be known, and the former message with its key go."""
        cdef Sent* sent = &batch.sents[at]
        cdef Mailbox mailbox = <Mailbox>sent.mailbox
        cdef uint64_t former
        if sent.seen != NULL:
            self.repeats.stored(sent.seen, sent.block)
        if sent.flags & FLAG_KEY:
            key = batch.key_of(at)
            if mailbox.keys is None:
                mailbox.keys = Keys()
            former = mailbox.keys.find(key)
            if former:
                self.remove_message(mailbox, former)
            mailbox.keys.put(key, sent.msg_id)
            entry.end |= ENTRY_KEYED
        return 0

    cdef int place(self, Mailbox mailbox, int priority, Entry* entry, uint64_t visible_ms) except -1:
        """Put a stored message where it belongs; one that is to be seen at `visible_ms` (Unix ms), where nobody sees it until then."""
        # By the wheel's time and not by the clock: groups store until when of the former they have heard what appeared.
        if self.timers.has_come(visible_ms):
            mailbox.add(priority, entry)
        else:
            mailbox.delay(priority, entry)
            self.timers.add(visible_ms, mailbox, entry.msg_id)
        self.messages += 1
        self.message_bytes += entry.size
        if mailbox.owner is not None:
            mailbox.owner.stored += entry.size
        if entry_expires(entry):
            self.expiries.add(entry_expires(entry), mailbox, entry.msg_id)
        return 0

    def seal_full(self, uint64_t now):
        """As `seal`, for a batch that was asked for already when another failed; None when there is none."""
        return self.seal(now) if self._full or self._batch.count or self._batch.effects else None

    def fail(self, Batch batch not None, error not None):
        """The batch could not be committed: nothing of it is there, and its people are told `error` (ProtocolError).

        Whatever needs space is refused with it until a commit succeeds.
        """
        self._refuse_messages(batch, error)
        for _, effect in batch.effects:
            effect.fail(error)
        self.blocks.emptied.extendleft(reversed(batch.dropped))  # in their order: see rewriting.pyx
        self.give_up_rewriting(batch)
        unmark_removed(batch, self.blocks)
        self._expired_rows.extend(batch.expired)
        self._forget_changes(batch)
        self.groups.failed(batch)
        self.backlog -= batch.size
        self.refusal = error
        self._told = bool(self._full)

    def accept(self):
        """Commits succeed again."""
        self.refusal = None

    def give_up_messages(self, Batch batch not None, error not None):
        """There is no space for the batch's messages: refuse them, and keep what else the batch has for another commit."""
        self._refuse_messages(batch, error)
        self.give_up_rewriting(batch)
        unmark_removed(batch, self.blocks)
        batch.drop_messages()
        mark_removed(batch, self.blocks)
        self.backlog -= batch.size
        batch.size = 0
        self.refusal = error

    def give_up_rewriting(self, Batch batch not None):
        """Take out of the batch what it copies of blocks that are mostly dead; returns whether there was something."""
        cdef Rewriting rewriting = batch.rewriting
        if rewriting is None:
            return False
        unmark_removed(batch, self.blocks)
        batch.drop_rewriting()
        self.rewriting = None
        rewriting.give_up()
        mark_removed(batch, self.blocks)
        return True

    cdef int _refuse_messages(self, Batch batch, object error) except -1:
        cdef size_t at
        cdef Sent* sent
        for at in range(batch.count):
            sent = &batch.sents[at]
            self.capacity.arrived(<Mailbox>sent.mailbox, sent.size)
            if sent.seen != NULL:
                self.repeats.refuse(sent.seen, error)
            if sent.sender != NULL:
                (<Sender>sent.sender).refused(batch.replies.data + sent.reply_at, sent.reply_size, error)
        return 0

    def _forget_changes(self, Batch batch):
        """The batch's changes to mailboxes are durable, or void."""
        for mail_id, change in batch.changes:
            if self.unsettled.get(mail_id) is change:
                del self.unsettled[mail_id]

    # what an effect does when its time has come

    def register(self, Mailbox mailbox not None, bytes drop_id not None):
        """Make a durable mailbox known to everybody, and to senders by its drop_id."""
        cdef Mailbox former = <Mailbox>self.mailboxes.get(mailbox.name)
        if former is not None:
            self.end(former, "expired")
        self.mailboxes.put(mailbox)
        self._drops.add(mailbox, drop_id)
        self.numbers.put(mailbox)
        if mailbox.owner is not None:
            mailbox.owner.mailboxes += 1
        if mailbox.public:
            self.public[mailbox.name.decode()] = mailbox
            self._public_event("created", mailbox)
        self.watch_end(mailbox)

    def watch_end(self, Mailbox mailbox not None):
        """Set the timer for the mailbox's end."""
        if mailbox.expires_ms:
            self.timers.add(mailbox.expires_ms, mailbox, 0)

    def renewed(self, Mailbox mailbox not None, uint32_t ttl_s, uint64_t expires_ms):
        """Give the mailbox another lifetime, and tell who wants to know."""
        # A later end needs no other timer: the one that is set looks again when it fires.
        cdef bint needs_timer = expires_ms != 0 and (mailbox.expires_ms == 0 or expires_ms < mailbox.expires_ms)
        mailbox.set_end(ttl_s, expires_ms)
        if needs_timer:
            self.timers.add(expires_ms, mailbox, 0)
        # Those who were there when it was over, and nobody had noticed, may go on.
        self.delivery.stir(mailbox)
        if mailbox.groups is not None:
            self.groups.stir_mailbox(mailbox)
        mailbox.tell("renewed")
        if mailbox.public:
            self._public_event("renewed", mailbox)

    def end(self, Mailbox mailbox not None, str event not None):
        """The mailbox is over ("expired" or "removed"): nobody finds it any more, and everything in it goes."""
        cdef Receiver receiver
        if mailbox.gone:
            return
        mailbox.gone = True
        if mailbox.owner is not None:
            mailbox.owner.mailboxes -= 1
            mailbox.owner.stored -= mailbox.size
        self.numbers.remove(mailbox)
        if mailbox.expires_ms:
            self.timers.lose_one()
        mail_id = mailbox.name
        if self.mailboxes.get(mail_id) is mailbox:
            self.mailboxes.discard(mail_id)
            self._drops.discard(mailbox)
        if mailbox.public and self.public.get(mail_id.decode()) is mailbox:
            del self.public[mail_id.decode()]
            self._public_event(event, mailbox)
        mailbox.tell(event)
        mailbox.watchers = None
        if mailbox.receivers is not None:
            for receiver in list(mailbox.receivers):
                receiver.mailbox_ended()
            mailbox.receivers = None
        if mailbox.groups is not None:
            self.groups.end(mailbox)
        mailbox.keys = None
        if mailbox.count:
            self._dismantling.append(mailbox)
            self.timers.hurry()

    def remove_message(self, Mailbox mailbox not None, uint64_t msg_id):
        """Take one message out; returns whether it was there."""
        cdef int priority
        cdef Entry* entry = NULL if mailbox.gone else mailbox.find(msg_id, &priority)
        if entry == NULL:
            return False
        if entry_expires(entry):
            self.expiries.lose_one()
        self._take_out(mailbox, priority, entry)
        return True

    cdef int _take_out(self, Mailbox mailbox, int priority, Entry* entry) except -1:
        if priority == DELAYED:
            self.timers.lose_one()
        self.messages -= 1
        self.message_bytes -= entry.size
        if mailbox.owner is not None:
            mailbox.owner.stored -= entry.size
        self.blocks.release(entry.block, entry.size)
        return mailbox.take_out(priority, entry.msg_id)

    def run(self, uint64_t now, Py_ssize_t budget):
        """Give FETCHes that wait, and about `budget` bytes to receivers, what is theirs at `now` (Unix ms).

        Returns whether some are ready for more.
        """
        self.groups.run(now)
        return self.delivery.run(now, budget)

    def close(self):
        """Let go of everything, so that the memory is given back; nothing may be asked after this."""
        self.groups.close()
        self.timers.clear()
        self.expiries.clear()

    # time

    def tick(self, uint64_t now, uint32_t budget):
        """Let time pass: end what is over at `now` (Unix ms), at most about `budget` things of it.

        Returns whether there is more to do at once.
        """
        cdef uint32_t fired
        self._dismantle(budget)
        self.groups.dismantle(budget)
        fired = self._fire_due(self.timers, now, budget)
        self._fire_due(self.expiries, now, budget - min(fired, budget))
        self._list_appeared()
        if not self.timers.is_halfway():
            self.groups.forget_kept(budget)
        self.timers.sweep(_is_stale, now, budget)
        self.expiries.sweep(_is_stale, now, budget)
        if self.blocks.emptied or self._expired_rows or self._batch or self.groups.has_changes():
            self.tell()
        if self._dismantling or self.groups.is_dismantling() or self.groups.keeping:
            return True
        return self.timers.is_behind(now) or self.expiries.is_behind(now)

    def next_due(self):
        """The Unix ms before which `tick` has nothing to do, or None when there will be nothing."""
        dues = [due for due in (self.timers.next_due(), self.expiries.next_due()) if due is not None]
        return 0 if self._dismantling or self.groups.is_dismantling() else min(dues, default=None)

    def on_sooner(self, sooner not None):
        """Call `sooner()` when time has to pass before the moment that `next_due` gave last."""
        self.timers.on_sooner(sooner)
        self.expiries.on_sooner(sooner)

    cdef uint32_t _fire_due(self, Timers timers, uint64_t now, uint32_t budget) except? 0:
        """Let what is due at `now` happen, at most `budget` things; returns how many."""
        cdef Timer timer
        cdef object owner
        cdef uint32_t fired = 0
        while fired < budget and timers.pop(now, &timer):
            owner = <object>timer.owner
            Py_DECREF(owner)
            if type(owner) is not Mailbox:
                fired += (<TimerOwner>owner).due(timer.msg_id, now)
            elif timer.msg_id and timers is self.timers:
                self._appear(<Mailbox>owner, timer.msg_id)
            else:
                self._fire(<Mailbox>owner, timer.msg_id, now)
            fired += 1
        return fired

    cdef int _appear(self, Mailbox mailbox, uint64_t msg_id) except -1:
        """A delayed message is to be seen from now on."""
        cdef int rank = -1 if mailbox.gone else mailbox.reveal(msg_id)
        if rank < 0:
            self.timers.lost_one_fired()
        elif mailbox.receivers is not None or mailbox.groups is not None:
            self._appeared.append((msg_id, rank, mailbox))
        return 0

    cdef int _list_appeared(self) except -1:
        """List the messages that have appeared for those who are past them, in the order of the msg_ids."""
        cdef Mailbox mailbox
        cdef uint64_t msg_id
        cdef int rank
        cdef list stirred = []
        if not self._appeared:
            return 0
        appeared, self._appeared = sorted(self._appeared), []
        for msg_id, rank, mailbox in appeared:
            late_add(mailbox, rank, msg_id)
            self.groups.appeared(mailbox, rank, msg_id)
            if not mailbox.stirred:
                mailbox.stirred = True
                stirred.append(mailbox)
        return self._stir(stirred)

    cdef int _stir(self, list mailboxes) except -1:
        """There is something new in each of these mailboxes."""
        cdef Mailbox mailbox
        for mailbox in mailboxes:
            self.delivery.stir(mailbox)
            if mailbox.groups is not None:
                self.groups.stir_mailbox(mailbox)
        return 0

    cdef int _fire(self, Mailbox mailbox, uint64_t msg_id, uint64_t now) except -1:
        """A timer is due; it says when to look, not what to find."""
        cdef int priority
        cdef Entry* entry
        if mailbox.gone:
            (self.expiries if msg_id else self.timers).lost_one_fired()
        elif msg_id == 0:
            if mailbox.is_over(now) and self._is_being_renewed(mailbox, now):
                self.timers.add(now + 1, mailbox, 0)  # what was asked for in time decides, when it is durable or has failed
            elif mailbox.is_over(now):
                self._expired_rows.append(mailbox.number)
                self.end(mailbox, "expired")
                self.timers.lost_one_fired()  # `end` counted the timer that has just fired
                self.expired_mailboxes += 1
            elif mailbox.expires_ms:
                self.timers.add(mailbox.expires_ms, mailbox, 0)
        else:
            entry = mailbox.find(msg_id, &priority)
            if entry == NULL:
                self.expiries.lost_one_fired()
            elif entry_expires(entry) <= now:
                self._take_out(mailbox, priority, entry)
                self.expired_messages += 1
            else:
                self.expiries.add(entry_expires(entry), mailbox, msg_id)
        return 0

    cdef bint _is_being_renewed(self, Mailbox mailbox, uint64_t now) except -1:
        """Whether a later end of the mailbox was asked for, and is not durable yet."""
        change = self.unsettled.get(mailbox.name)
        if change is None or change[1] is None or change[1].number != mailbox.number:
            return False
        return change[1].expires_ms == 0 or change[1].expires_ms > now

    cdef int _dismantle(self, uint32_t budget) except -1:
        """Take the messages of ended mailboxes apart, about `budget` of them."""
        cdef Entry entries[DISMANTLE_ROOM]
        cdef Mailbox mailbox
        cdef uint32_t taken, at, done = 0
        cdef int priority
        while self._dismantling and done < budget:
            mailbox = <Mailbox>self._dismantling[0]
            for priority in range(LEVELS + 1):
                if mailbox.levels[priority] == NULL:
                    continue
                taken = level_take(mailbox.levels[priority], entries, DISMANTLE_ROOM)
                for at in range(taken):
                    self.blocks.release(entries[at].block, entries[at].size)
                    self.message_bytes -= entries[at].size
                    if entry_expires(&entries[at]):
                        self.expiries.lose_one()
                    if priority == DELAYED:
                        self.timers.lose_one()
                self.messages -= taken
                mailbox.count -= taken
                done += taken
                if mailbox.levels[priority].live == 0:
                    level_free(mailbox.levels[priority])
                    mailbox.levels[priority] = NULL
                break
            else:
                self._dismantling.popleft()
        return 0
