"""One group of workers on one mailbox: what it has been given, and what of that is unfinished.

A group is a cursor for each priority, up to which everything was given out, and the messages below it that are not finished:
leased, given back, dead, or on their way to a receiver. So a group costs what is unfinished in it, whatever its mailbox holds.
Queue-group receivers and FETCHes of one name share one group (docs/protocol.md §4).

What changes here is in force at once; `Ledger` writes it with the next commit, and whoever is to be told waits for that. A commit
that fails is written again with the next one, so what is stored is always a state that the group was in.
"""

from collections import OrderedDict, deque
from heapq import heappop, heappush

from libc.stdlib cimport free, realloc
from libc.string cimport memmove

from sortedcontainers import SortedSet

from mq9.mailboxes.appeared cimport Appearance, AppearedCursor, appearance_place, appearance_rank
from mq9.mailboxes.index cimport ENTRY_OFFERED, Level, entry_expires, entry_is_gone, level_count_after, level_find, level_peek, level_seek
from mq9.mailboxes.timers cimport passed

cdef enum:
    # Bytes of a FETCH reply for a message beyond its payload, about.
    ITEM_OVERHEAD = 160
    # Messages that appeared below the cursor, in one row.
    LATE_MAX = 256
    # Open messages that a group looks at in one go: a slice of time.
    SLICE_MAX = 4096
    # Messages whose number of attempts is remembered after they are done.
    RETRIED_MAX = 1024
    # With fewer open messages nobody looks whether some of them are gone.
    TIDY_MIN = 1024
    # Of more of them, so many are looked at with each lease.
    TIDY_STEPS = 1024
    # What may be given out again stands in a heap, with so many entries that have lost their cause before it is cleaned.
    OFFERS_SLACK = 64
    # So often a receiver is told how much is left without counting.
    LEFT_USES = 64

LEASE_RAN_OUT = b"the lease ran out"


cdef class Ledger:
    """What all groups of a post office share; `Groups` is all of it.

    Arguments:
        timers: the post office's.
        has_work: called when something is to be committed.
        wants_run: called when groups have something for those who wait.
        wake: called with a receiver for which there may be something; returns whether it was idle.
    """

    def __init__(self, Timers timers not None, has_work, wants_run, wake):
        self.timers = timers
        self.dirty = []
        self.keeping = []
        self.slice_max = SLICE_MAX
        self.stirred = deque()
        self._has_work = has_work
        self._wants_run = wants_run
        self._wake = wake

    cdef int mark(self, Group group) except -1:
        """The group has changed."""
        if not group.dirty:
            group.dirty = True
            self.dirty.append(group)
            self._has_work()
        return 0

    cdef int store_now(self, Group group) except -1:
        """The group is about to be what may not be stored: what has changed of it before is stored with the next commit as it is."""
        raise NotImplementedError

    cdef int stir(self, Group group) except -1:
        """The group may have something for those who wait."""
        if not group.stirred and (group.fetches or group.members):
            group.stirred = True
            self.stirred.append(group)
            self._wants_run()
        return 0


cdef class Handout(TimerOwner):
    """Messages that went out together and are not finished.

    Arguments:
        group: whose they are.
    """

    def __init__(self, Group group not None):
        self.group = group
        group.next_handout += 1
        self.number = group.next_handout

    def __dealloc__(self):
        free(self.items)

    def __len__(self):
        return self.count

    cdef Open* add(self, uint64_t msg_id, int rank, int attempts) except NULL:
        """Append a message; the caller says what its state is."""
        cdef Open* items
        cdef uint32_t capacity
        if self.count == self.capacity:
            capacity = self.capacity * 2 + 1
            items = <Open*>realloc(self.items, capacity * sizeof(Open))
            if items == NULL:
                raise MemoryError()
            self.items = items
            self.capacity = capacity
        items = &self.items[self.count]
        items.msg_id = msg_id
        items.due = items.holder = 0
        items.rank = rank
        items.attempts = attempts
        self.count += 1
        return items

    cdef Open* find(self, uint64_t msg_id) noexcept:
        """The item of this msg_id, or NULL."""
        cdef uint32_t step, at = self._hint
        for step in range(self.count):
            if at >= self.count:
                at = 0
            if self.items[at].msg_id == msg_id:
                # Workers settle in the order in which they were given: the next one asked for is behind this one.
                self._hint = at
                return &self.items[at]
            at += 1
        return NULL

    cdef int remove(self, Open* item) except -1:
        cdef size_t at = item - self.items
        if self.reasons is not None:
            self.reasons.pop(item.msg_id, None)
        self.count -= 1
        memmove(item, item + 1, (self.count - at) * sizeof(Open))
        if self.count == 0 and self.timer:
            self.group.ledger.timers.lose_one()
            self.timer = 0  # it may be swept out, so whatever is added later needs another
        return 0

    cdef int watch(self, uint64_t due) except -1:
        """Look at the items at `due` (Unix ms)."""
        if self.timer == 0 or due < self.timer:
            if self.timer:
                self.group.ledger.timers.lose_one()
            self.timer = due
            self.group.ledger.timers.add(due, self, due)
        return 0

    cdef bint is_stale(self, uint64_t msg_id, uint64_t now) noexcept:
        return self.count == 0 or self.group.gone or msg_id != self.timer

    cdef int due(self, uint64_t msg_id, uint64_t now) except -1:
        """Its time has come: leases run out, what was given back for a while can be given out, dead messages end."""
        cdef Group group = self.group
        cdef uint64_t following = 0, look
        cdef uint32_t at = 0
        cdef int rank, looked = self.count
        cdef Open* item
        cdef Entry* entry
        if self.count == 0 or group.gone or msg_id != self.timer:
            if msg_id == self.timer:
                self.timer = 0  # `Groups.dismantle` has not come by yet to count it as lost
            else:
                group.ledger.timers.lost_one_fired()
            return 0
        self.timer = 0
        while at < self.count:
            item = &self.items[at]
            look = item.due
            if item.state == LEASED and item.due <= now:
                if not group.is_there(item.msg_id, now):
                    group.drop(self, item)
                    continue
                if item.attempts >= ATTEMPTS_MAX:
                    group.bury(self, item, LEASE_RAN_OUT)
                else:
                    group.put_back(self, item, LAPSED, 0, now)
                look = 0
            elif item.state == RETURNED and item.due and item.due <= now:
                group.put_back(self, item, RETURNED, 0, now)
                look = 0
            if item.state == DEAD:
                entry = group.mailbox.find(item.msg_id, &rank)
                if entry == NULL or entry_is_gone(entry, now):
                    group.drop(self, item)
                    continue
                look = entry_expires(entry)
            if look and item.state != HANDED and (following == 0 or look < following):
                following = look
            at += 1
        if following:
            self.watch(following)
        return looked

    cdef bint is_offered(self, uint64_t msg_id) noexcept:
        """Whether it has the message, to be given out again at once."""
        cdef Open* item = self.find(msg_id)
        return item != NULL and item.state in (LAPSED, RETURNED) and item.due == 0

    cdef bint is_done(self, uint64_t msg_id) noexcept:
        """Whether it has the message, and only keeps in mind that it is done."""
        cdef Open* item = self.find(msg_id)
        return item != NULL and item.state == DONE

    def listing(self):
        """[(msg_id, attempts)] of its messages, in their order."""
        cdef uint32_t at
        return [(self.items[at].msg_id, self.items[at].attempts) for at in range(self.count)]

    def leased(self, uint64_t holder):
        """As `listing`, of those that are leased to a client, or were and nobody else's since: not of what was given back or is dead."""
        cdef uint32_t at
        return [
            (self.items[at].msg_id, self.items[at].attempts)
            for at in range(self.count) if self.items[at].state in (LEASED, LAPSED) and self.items[at].holder == holder
        ]


cdef class Group:
    """A group that has been given nothing yet.

    Arguments:
        ledger: of the post office.
        mailbox: on which it works.
        appeared: what has appeared in the mailbox.
        name: its name.
        number: unique among the groups that the mailbox ever had.
    """

    def __init__(
        self, Ledger ledger not None, Mailbox mailbox not None, Appeared appeared not None, bytes name not None, uint32_t number
    ):
        self.ledger = ledger
        self.mailbox = mailbox
        self.appeared = appeared
        self.heard = appeared.end
        self.heard_ms = ledger.timers.finished()
        self.name = name
        self.number = number
        self.open = {}
        self.changed = set()
        self.members = []
        self.stored = set()
        self._tidy_at = TIDY_MIN

    # choosing

    cdef bint is_full(self) noexcept:
        """Whether it has as many unfinished messages as it may have."""
        return <uint64_t>len(self.open) >= self.ledger.unfinished_max

    cdef bint peek(self, int mask, uint64_t now, Choice* choice, bint known_only) except -1:
        """Find the first message to give out by priority, then msg_id; false when there is none.

        Arguments:
            mask: bit n for priority n.
            now: Unix ms.
            choice: what was found; valid until the mailbox or the group changes.
            known_only: nothing that it has never had.
        """
        cdef Level* level
        cdef LevelCursor cursor
        cdef Entry* entry
        cdef int rank
        if (self.heard != self.appeared.end or self.starting is not None) and not self.hear():
            self.ledger.stir(self)
            return False
        for rank in range(LEVELS):
            level = self.mailbox.levels[rank]
            if level == NULL or not mask >> rank & 1:
                continue
            choice.entry = NULL
            choice.open = NULL
            choice.rank = rank
            entry = NULL
            if level.last_id > self.cursors[rank] and not known_only:
                level_seek(level, self.cursors[rank], &cursor)
                entry = level_peek(&cursor, now)
                while entry != NULL and entry.msg_id <= self.overlap and entry.msg_id in self.open:
                    self._pass_over(entry.msg_id)
                    cursor.at += 1
                    entry = level_peek(&cursor, now)
                if entry == NULL:
                    self.cursors[rank] = level.last_id
                else:
                    self.cursors[rank] = entry.msg_id - 1
            # After the cursor, which may have left open messages behind that `choice` would point to.
            if self._again is not None and self._again[rank]:
                self._peek_again(rank, now, choice)
            if entry != NULL and (choice.entry == NULL or entry.msg_id < choice.entry.msg_id):
                choice.entry = entry
                choice.open = NULL
            if choice.entry != NULL:
                return True
        return False

    cdef int _peek_again(self, int rank, uint64_t now, Choice* choice) except -1:
        """Find the first message of a priority that is to be given out again; what has lost its cause is cleared away."""
        cdef list heap = self._again[rank]
        cdef Handout handout
        cdef Open* item
        while heap:
            handout = self.open.get(heap[0])
            item = NULL if handout is None else handout.find(heap[0])
            if item == NULL or item.state not in (LAPSED, RETURNED) or item.due:
                heappop(heap)
                continue
            choice.entry = level_find(self.mailbox.levels[rank], item.msg_id)
            if choice.entry != NULL and not entry_is_gone(choice.entry, now):
                choice.open = item
                return 0
            choice.entry = NULL
            heappop(heap)
            self.drop(handout, item)
        return 0

    cdef int _pass_over(self, uint64_t msg_id) except -1:
        """The cursor goes past an open message: when that is done, it need not be kept in mind any more."""
        cdef Handout handout = self.open[msg_id]
        cdef Open* item = handout.find(msg_id)
        return self.drop(handout, item) if item.state == DONE else 0

    cdef Open* give(self, Choice* choice, Handout handout) except NULL:
        """Move the message that `peek` found into `handout`; the caller says what its state is."""
        cdef uint64_t msg_id = choice.entry.msg_id
        cdef Handout before
        cdef Open* item
        cdef int attempts = 0
        if choice.open == NULL:
            self.cursors[choice.rank] = msg_id
        else:
            before = self.open[msg_id]
            attempts = choice.open.attempts
            self.note_holder(choice.open)
            heappop(self._again[choice.rank])
            before.remove(choice.open)
            self.touch(before)
        item = handout.add(msg_id, choice.rank, attempts)
        self.open[msg_id] = handout
        return item

    def lease(self, uint32_t limit, size_t bytes_max, uint64_t lease_ms, uint64_t holder, uint64_t now):
        """Lease the next messages to a client.

        Arguments:
            limit: how many at most.
            bytes_max: about how large a reply with them may become.
            lease_ms: how long they are its own.
            holder: the client's number.
            now: Unix ms.

        Returns the Handout, or None when there is nothing to give. A group that is full gives only what it had given before.
        """
        cdef Handout handout = None
        cdef Choice choice
        cdef Open* item
        cdef size_t size = 0, cost
        cdef uint64_t until = passed(now, lease_ms)
        while (handout is None or handout.count < limit) and self.peek((1 << LEVELS) - 1, now, &choice, self.is_full()):
            cost = <size_t>choice.entry.size * 4 // 3 + ITEM_OVERHEAD
            if handout is None:
                handout = Handout(self)
            elif size + cost > bytes_max:
                break
            choice.entry.end |= ENTRY_OFFERED
            item = self.give(&choice, handout)
            item.state = LEASED
            item.due = until
            item.holder = holder
            item.attempts += 1
            size += cost
        if handout is not None:
            handout.watch(until)
            self.touch(handout)
            self._tidy(now)
        return handout

    cdef uint64_t count(self, int mask) except? 0:
        """About how many messages of the priorities in `mask` it has to give out."""
        cdef int rank
        cdef Level* level
        cdef uint64_t count = 0
        for rank in range(LEVELS):
            level = self.mailbox.levels[rank]
            if level == NULL or not mask >> rank & 1:
                continue
            count += level_count_after(level, self.cursors[rank])
            if self._again is not None:
                count += len(self._again[rank])
        return count

    cdef uint64_t left(self, int mask) except? 0:
        """As `count`, for receivers: counting walks over all chunks of a large mailbox, so it is not done for every message."""
        if mask != self._left_mask or self._left_uses == 0:
            self._left = self.count(mask)
            self._left_mask = mask
            self._left_uses = LEFT_USES
        elif self._left:
            self._left -= 1
        self._left_uses -= 1
        return self._left

    # what becomes of what was given out

    cpdef bint is_there(self, uint64_t msg_id, uint64_t now) except -1:
        """Whether its mailbox has the message at `now` (Unix ms)."""
        cdef int rank
        cdef Entry* entry = self.mailbox.find(msg_id, &rank)
        return entry != NULL and not entry_is_gone(entry, now)

    cdef int touch(self, Handout handout) except -1:
        """What is stored of the handout is no longer true."""
        if not handout.changed:
            handout.changed = True
            self.changed.add(handout)
        if not self.dirty:
            self.ledger.mark(self)
        return 0

    cdef int finish(self, Handout handout, Open* item) except -1:
        """The message is done."""
        self._remember(item)
        if item.msg_id > self.cursors[item.rank] or self._hears_more():  # else it would be given out again
            if item.msg_id <= self.cursors[item.rank]:
                self.keep(item.msg_id)
            item.state = DONE
            item.due = 0
            if handout.reasons is not None:
                handout.reasons.pop(item.msg_id, None)
            return self.touch(handout)
        return self.drop(handout, item)

    cdef int drop(self, Handout handout, Open* item) except -1:
        """Forget an open message, because it is done or gone."""
        self.forget_holders(item.msg_id)
        if self._dead is not None:
            self._dead.discard(item.msg_id)
        del self.open[item.msg_id]
        handout.remove(item)
        return self.touch(handout)

    cdef int _remember(self, const Open* item) except -1:
        """Note what is asked of a message after it is done, if that is more than nothing."""
        former = () if self._former is None else self._former.get(item.msg_id, ())
        if item.attempts > 1 or former:
            if self._retried is None:
                self._retried = OrderedDict()
            self._retried.pop(item.msg_id, None)
            self._retried[item.msg_id] = item.attempts, frozenset(former) - {item.holder}
            if len(self._retried) > RETRIED_MAX:
                self._retried.popitem(last=False)
        return 0

    cdef int note_holder(self, const Open* item) except -1:
        """Whoever has the message is about to be one of those who had it."""
        if item.holder:
            if self._former is None:
                self._former = {}
            holders = self._former.setdefault(item.msg_id, [])
            if item.holder in holders:
                holders.remove(item.holder)
            holders.append(item.holder)
        return 0

    cdef int forget_holders(self, uint64_t msg_id) except -1:
        """Who had the message is not asked any more."""
        if self._former is not None:
            self._former.pop(msg_id, None)
        return 0

    cdef int put_back(self, Handout handout, Open* item, OpenState state, uint64_t due, uint64_t now) except -1:
        """Let the message be given out again, at `due` (Unix ms) or, with 0, at once."""
        item.state = state
        item.due = due
        if due > now:
            handout.watch(due)
        else:
            item.due = 0
            self._offer(item.rank, item.msg_id)
        return self.touch(handout)

    cdef int _offer(self, int rank, uint64_t msg_id) except -1:
        cdef list heap
        cdef Handout handout
        if self._again is None:
            self._again = [[] for _ in range(LEVELS)]
        heap = self._again[rank]
        if <size_t>len(heap) > 2 * <size_t>len(self.open) + OFFERS_SLACK:
            kept = []
            for other in sorted(set(heap)):
                handout = self.open.get(other)
                if handout is not None and handout.is_offered(other):
                    kept.append(other)
            heap[:] = kept
        heappush(heap, msg_id)
        return self.ledger.stir(self)

    cdef int bury(self, Handout handout, Open* item, bytes reason) except -1:
        """The message is dead for this group, until it is revived or gone."""
        cdef int rank
        cdef Entry* entry = self.mailbox.find(item.msg_id, &rank)
        item.state = DEAD
        item.due = 0
        self.note_dead(item.msg_id)
        self.explain(handout, item.msg_id, reason)
        if entry != NULL and entry_expires(entry):
            handout.watch(entry_expires(entry))
        return self.touch(handout)

    cdef int note_dead(self, uint64_t msg_id) except -1:
        """The message is one of the dead, which are listed without a look at the others."""
        if self._dead is None:
            self._dead = SortedSet()
        self._dead.add(msg_id)
        return 0

    def explain(self, Handout handout not None, uint64_t msg_id, bytes reason not None):
        """Note why a message was given back or is dead."""
        if reason:
            if handout.reasons is None:
                handout.reasons = {}
            handout.reasons[msg_id] = reason

    def give_back(self, Handout handout not None, reached, uint64_t holder, uint64_t now):
        """Of the handout, only the msg_ids in `reached` got to the client `holder`: give the others out again, no attempt counted.

        What is on its way to a receiver is held by nobody: 0.
        """
        cdef uint32_t at
        cdef Open* item
        if self.gone:
            return
        for at in range(handout.count):
            item = &handout.items[at]
            if item.state not in (LEASED, HANDED) or item.holder != holder or item.msg_id in reached:
                continue
            if item.state == LEASED:
                item.attempts -= 1
            former = None if self._former is None else self._former.get(item.msg_id)
            item.holder = former.pop() if former else 0  # as it was before
            self.put_back(handout, item, RETURNED, 0, now)

    def discard(self, uint64_t msg_id):
        """The message cannot be read, now or ever: it is passed over."""
        cdef Handout handout = self.open.get(msg_id)
        if handout is not None:
            self.finish(handout, handout.find(msg_id))

    # what appears late

    cdef bint hear(self) except -1:
        """Take up what has appeared below the cursors, a slice of it; returns whether that was all.

        Before that no cursor may move: what it passes counts as given out.
        """
        cdef AppearedCursor cursor
        cdef const Appearance* item
        cdef int rank
        cdef Py_ssize_t taken = 0
        if self.starting is not None and not self._go_on_starting():
            return False
        self.appeared.seek(self.heard, &cursor)
        while taken < self.ledger.slice_max:
            item = self.appeared.next(&cursor)
            if item == NULL:
                self.heard = self.appeared.end
                self.heard_ms = self.ledger.timers.finished()
                return True
            rank = appearance_rank(item)
            self.heard = appearance_place(item) + 1
            if item.msg_id <= self.cursors[rank]:
                taken += 1
                if item.msg_id not in self.open:  # a group that was loaded may have it
                    self._take_up(rank, item.msg_id)
        return False

    cpdef bint ready(self) except -1:
        """As `hear`, whether there is anything to hear of or not: until that is true nothing may be asked of the group."""
        return (self.heard == self.appeared.end and self.starting is None) or self.hear()

    cdef uint64_t heard_until(self) noexcept:
        """Until when it has heard of everything that appeared, Unix ms; what appears later below a cursor, nobody has been given."""
        return self.ledger.timers.finished() if self.heard == self.appeared.end else self.heard_ms

    cdef bint _hears_more(self) noexcept:
        """Whether it may have heard of messages that appeared after `heard_until`, which is what is stored."""
        if self.heard != self.appeared.end or self.ledger.timers.is_halfway():
            return True
        self.heard_ms = self.ledger.timers.finished()
        return False

    cdef int keep(self, uint64_t msg_id) except -1:
        """A message is done that a restart might take for one that has just appeared: keep it in mind until that is over."""
        if self._kept is None:
            self._kept = []
            self.ledger.keeping.append(self)
            self.ledger.timers.hurry()
        self._kept.append(msg_id)
        return 0

    cdef int forget_kept(self, Py_ssize_t budget) except -1:
        """Forget, with `budget` at most, those that were kept in mind for that; returns how many."""
        cdef Handout handout
        cdef Open* item
        cdef Py_ssize_t done = 0
        if self.gone or self._kept is None:
            self._kept = None
            return 0
        if not self.ready() or self._hears_more():
            return self.ledger.slice_max
        while self._kept and done < budget:
            done += 1
            msg_id = self._kept.pop()
            handout = self.open.get(msg_id)
            item = NULL if handout is None else handout.find(msg_id)
            if item != NULL and item.state == DONE and item.msg_id <= self.cursors[item.rank]:
                self.drop(handout, item)
        if not self._kept:
            self._kept = None
        return done

    cdef int _take_up(self, int rank, uint64_t msg_id) except -1:
        """A message has appeared below the cursor."""
        cdef Open* item
        if self._late is None or self._late.count >= LATE_MAX:
            self._late = Handout(self)
        item = self._late.add(msg_id, rank, 0)
        item.state = RETURNED
        self.open[msg_id] = self._late
        self.touch(self._late)
        return self._offer(rank, msg_id)

    cdef int _tidy(self, uint64_t now) except -1:
        """Clear away open messages that are gone, now and then: nobody tells every group of every message that ends."""
        cdef Handout handout
        cdef Open* item
        cdef int steps = TIDY_STEPS
        if self._untidy is None:
            if <size_t>len(self.open) < self._tidy_at:
                return 0
            self._untidy = list(self.open)
            self._untidy.reverse()
        while self._untidy and steps:
            steps -= 1
            msg_id = self._untidy.pop()
            handout = self.open.get(msg_id)
            if handout is None:
                continue
            item = handout.find(msg_id)
            if item.state not in (LEASED, HANDED) and not self.is_there(msg_id, now):
                self.drop(handout, item)
        if not self._untidy:
            self._untidy = None
            self._tidy_at = 2 * len(self.open) + TIDY_MIN
        return 0

    # receivers

    def wake_members(self):
        """Let its receivers see whether there is something for them; returns how many had been idle."""
        return sum(1 for member in self.members if self.ledger._wake(member))

    cdef int hand(self, Choice* choice, Receiver receiver) except -1:
        """Give the message that `peek` found to a receiver, which writes it next."""
        cdef Open* item
        cdef Handout handout = receiver.handout
        if handout is None:
            handout = receiver.handout = Handout(self)
        item = self.give(choice, handout)
        item.state = HANDED
        item.due = <uint64_t>-1
        return self.touch(handout)

    cdef int written(self, Handout handout, uint64_t position) except -1:
        """The last message of the handout ends at `position` of its receiver's output."""
        if handout.count:
            handout.items[handout.count - 1].due = position
        return 0

    def taken(self, Handout handout not None, uint64_t position):
        """Everything up to `position` of the receiver's output has reached its socket, which counts as done.

        Returns how many messages are still on their way.
        """
        cdef uint32_t at = 0, kept = 0, waiting = 0
        cdef Open* item
        cdef bint finished = False
        if self.gone:
            return 0
        while at < handout.count:
            item = &handout.items[at]
            if item.state == HANDED and item.due > position:
                waiting = handout.count - at
                break
            at += 1
            if item.state == HANDED:
                finished = True
                self._remember(item)
                if item.msg_id <= self.cursors[item.rank]:
                    if not self._hears_more():
                        self.forget_holders(item.msg_id)
                        del self.open[item.msg_id]
                        continue
                    self.keep(item.msg_id)
                item.state = DONE
                item.due = 0
            handout.items[kept] = item[0]
            kept += 1
        if at > kept:
            handout.count -= at - kept
            memmove(handout.items + kept, handout.items + at, (handout.count - kept) * sizeof(Open))
        if finished:
            self.touch(handout)
        return waiting

    # what others ask

    def start(self, uint64_t from_id):
        """Go on with the messages from `from_id`, at least 1, on: earlier ones count as done, later ones are given out anew, but
        for those that somebody has, and the dead.

        What is open is gone through in slices: nothing may be asked of the group before it is `ready`, and nothing of it is stored.
        """
        cdef int rank
        self.ledger.store_now(self)
        self.heard = self.appeared.end
        self.heard_ms = self.ledger.timers.finished()
        for rank in range(LEVELS):
            self.cursors[rank] = from_id - 1 if from_id else 0
        self.overlap = 0
        self._start_id = from_id
        self.starting = list(self.open)
        self.starting.reverse()
        self._go_on_starting()
        self.ledger.stir(self)

    cdef bint _go_on_starting(self) except -1:
        """Go through a slice of what was open when it was made to start; returns whether that was all."""
        cdef Handout handout
        cdef Open* item
        cdef Py_ssize_t looked = 0
        while self.starting and looked < self.ledger.slice_max:
            looked += 1
            msg_id = self.starting.pop()
            handout = self.open.get(msg_id)
            if handout is None:
                continue
            item = handout.find(msg_id)
            if item.state == DONE or item.state in (LAPSED, RETURNED) and item.msg_id < self._start_id:
                self.drop(handout, item)
            else:
                self.overlap = max(self.overlap, item.msg_id)
        if self.starting:
            return False
        self.starting = None
        # Whatever was changed meanwhile was not stored.
        if not self.dirty:
            self.ledger.mark(self)
        return True

    def state_of(self, uint64_t msg_id, int rank):
        """(state, attempts) of a message of priority `rank`, as docs/protocol.md §5 names states."""
        cdef Handout handout = self.open.get(msg_id)
        cdef Open* item
        if handout is not None and not handout.is_done(msg_id):
            item = handout.find(msg_id)
            state = "dead" if item.state == DEAD else "leased" if item.state in (LEASED, HANDED) else "waiting"
            return state, item.attempts
        if handout is None and (not 0 <= rank < LEVELS or msg_id > self.cursors[rank] or self._has_not_heard_of(msg_id)):
            return "waiting", 0
        return "done", self._remembered(msg_id)[0]

    def _has_not_heard_of(self, uint64_t msg_id):
        """Whether a message has appeared below a cursor, and is not taken up yet."""
        return self.heard != self.appeared.end and self.appeared.place_of(msg_id) >= self.heard

    def _remembered(self, uint64_t msg_id):
        """(attempts, clients that held it before the one that finished it) of a message that is done."""
        return (1, ()) if self._retried is None else self._retried.get(msg_id, (1, ()))

    def was_finished_by_another(self, uint64_t msg_id, uint64_t holder, attempt):
        """Whether a message that is done was leased again since this client, or this attempt, had it."""
        attempts, former = self._remembered(msg_id)
        return attempts > attempt if attempt is not None else holder in former

    cpdef bint was_leased_again(self, uint64_t msg_id, uint64_t holder, attempt) except -1:
        """Whether an open message was leased to somebody else since this client, or this attempt, had it."""
        cdef Handout handout = self.open[msg_id]
        cdef Open* item = handout.find(msg_id)
        if attempt is not None:
            return item.attempts != attempt
        if item.holder == holder or self._former is None:
            return False
        return holder in self._former.get(msg_id, ())

    def is_done(self, uint64_t msg_id, int rank):
        """Whether a message of priority `rank` that is not open was given out and finished."""
        return 0 <= rank < LEVELS and msg_id <= self.cursors[rank]
