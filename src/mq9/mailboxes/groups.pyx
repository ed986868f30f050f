"""All groups of a post office: found by name, stored with the next commit, and told when there is something for those who wait.

Each group has a row that says how far it is, and one for each handout with unfinished messages; both are written from what the
group is when a batch is sealed, so that many changes cost one row (docs/protocol.md §4).
"""

from bisect import bisect_right
from collections import OrderedDict, deque
from itertools import islice
from operator import itemgetter

from libc.stdint cimport uint16_t

from mq9.mailboxes.batch cimport Batch
from mq9.mailboxes.group cimport DEAD, DONE, HANDED, LEASED, RETURNED, Choice, Handout, Open
from mq9.mailboxes.mailbox cimport LEVELS
from mq9.mailboxes.format cimport HANDOUT_ITEM, HANDOUT_ROW_VERSION
from mq9.mailboxes.format import DamagedError, GroupRow, HandoutRow, group_key, seal_row
from mq9.native.memory cimport buffer_append, buffer_free, buffer_reserve, buffer_t, store16, store64
from mq9.store.contract import Table

cdef enum:
    # Rows of ended groups removed with one commit.
    DROPS_PER_COMMIT = 4096
    # Telling a FETCH that its mailbox has ended takes about as long as taking apart so many open messages.
    STEPS_TO_ANSWER = 64


cdef class Fetch(TimerOwner):
    """A FETCH that may wait.

    Arguments:
        groups: of the post office.
        mailbox, group: where; a group of None reads without leasing.
        limit: how many messages at most.
        bytes_max: about how large the reply may become.
        lease_ms: for how long they are leased.
        holder: the number of the client that asks.
        deadline_ms: until when it waits, Unix ms.
    """

    def __init__(
        self, Groups groups not None, Mailbox mailbox not None, Group group, limit, bytes_max, lease_ms, holder, deadline_ms
    ):
        self.groups = groups
        self.mailbox = mailbox
        self.group = group
        self.limit = limit
        self.bytes_max = bytes_max
        self.lease_ms = lease_ms
        self.holder = holder
        self.deadline_ms = deadline_ms

    def is_open(self):
        """Whether its client is still there."""
        raise NotImplementedError

    def answer(self, Handout handout):
        """It has got messages, or, with None, nothing came in time."""
        raise NotImplementedError

    def abandoned(self):
        """Its client is gone."""
        raise NotImplementedError

    def look(self):
        """Without a group: something has come to the mailbox. Returns whether it is answered."""
        raise NotImplementedError

    def mailbox_ended(self):
        """The mailbox is gone."""
        raise NotImplementedError

    cdef bint is_stale(self, uint64_t msg_id, uint64_t now) noexcept:
        return self.over

    cdef int due(self, uint64_t msg_id, uint64_t now) except -1:
        if self.over:
            self.groups.timers.lost_one_fired()
            return 0
        self.groups.give_up(self)
        if self.is_open():
            self.answer(None)
        else:
            self.abandoned()
        return 0


cdef class MailboxGroups:
    """The groups of one mailbox; none yet."""

    def __init__(self):
        self.by_name = {}
        self.attentive = {}
        self.readers = {}
        self.next_number = 1
        self.appeared = Appeared()


cdef class Groups(Ledger):
    """All groups of a post office.

    Arguments:
        timers: the post office's.
        has_work, wants_run, wake: see `Ledger`; `run` is what is wanted.
    """

    def __init__(self, timers, has_work, wants_run, wake):
        Ledger.__init__(self, timers, has_work, wants_run, wake)
        self.unfinished_max = <uint64_t>1 << 62
        self._deferred = []
        self._mailboxes = {}
        self._ended = deque()
        self._stored_now = []
        self._leaving = deque()
        self._left_waiting = deque()
        self._loaded = []
        self._loaded_late = []
        self._readers = {}

    def find(self, Mailbox mailbox not None, bytes name not None):
        """The group of this name, or None."""
        return None if mailbox.groups is None else mailbox.groups.by_name.get(name)

    def is_full(self, Group group not None):
        """Whether the group has as many unfinished messages as it may have."""
        return group.is_full()

    cdef int _recount(self, Group group) except -1:
        """See how many messages of the group are unfinished now."""
        if not group.gone:
            self.unfinished += len(group.open) - group.counted
            group.counted = len(group.open)
        return 0

    def create(self, Mailbox mailbox not None, bytes name not None, uint64_t from_id):
        """A new group, whose first message is the first one from `from_id` on. It must not exist."""
        cdef MailboxGroups book = self._book(mailbox)
        cdef Group group = Group(self, mailbox, book.appeared, name, book.next_number)
        book.next_number += 1
        book.by_name[name] = group
        self.groups += 1
        group.start(from_id)
        return group

    def _book(self, Mailbox mailbox):
        if mailbox.groups is None:
            mailbox.groups = MailboxGroups()
            self._mailboxes[mailbox.number] = mailbox
        return mailbox.groups

    def dead(self, Group group not None, uint64_t after, Py_ssize_t limit, uint64_t now):
        """The dead messages of a group with msg_ids above `after`, of which `limit` at most are looked at.

        Returns ([(msg_id, attempts, reason)] of those that are there at `now` (Unix ms), by msg_id; the msg_id up to which it has
        looked, or None when there are no more).
        """
        cdef Handout handout
        cdef Open* item
        found = []
        msg_id = None
        for msg_id in list(islice(() if group._dead is None else group._dead.irange(after + 1), limit)):
            handout = group.open.get(msg_id)
            item = NULL if handout is None else handout.find(msg_id)
            if item == NULL or item.state != DEAD:
                group._dead.discard(msg_id)  # it was revived
            elif group.is_there(msg_id, now):
                found.append((msg_id, item.attempts, (handout.reasons or {}).get(msg_id, b"")))
            else:
                group.drop(handout, item)
        return found, msg_id

    # waiting for messages

    def wait(self, Fetch fetch not None):
        """Let a FETCH that has found nothing wait until something comes or its time is up."""
        cdef MailboxGroups book = self._book(fetch.mailbox)
        if fetch.group is None:
            book.readers[fetch] = None
        else:
            if fetch.group.fetches is None:
                fetch.group.fetches = OrderedDict()
                book.attentive[fetch.group] = None
            fetch.group.fetches[fetch] = None
        fetch.waits = True
        book.waiting += 1
        self.timers.add(fetch.deadline_ms, fetch, 0)

    cdef int stir_mailbox(self, Mailbox mailbox) except -1:
        """Something has come to the mailbox."""
        cdef MailboxGroups book = mailbox.groups
        cdef Group group
        for group in book.attentive:
            self.stir(group)
        if book.readers:
            self._readers[mailbox] = None
            self._wants_run()
        return 0

    def run(self, uint64_t now):
        """Give those who wait what has come, at `now` (Unix ms)."""
        cdef Group group
        cdef Mailbox mailbox
        cdef Fetch fetch
        deferred, self._deferred = self._deferred, []
        for group in deferred:
            self.stir(group)
        while self.stirred:
            group = self.stirred.popleft()
            group.stirred = False
            if not group.gone and not group.ready():
                self._deferred.append(group)
                self._wants_run()
                continue
            if group.members:
                group.wake_members()
            if not group.gone and group.fetches and not group.mailbox.is_over(now):
                self._dispatch(group, now)
        if self._readers:
            mailboxes, self._readers = self._readers, {}
            for mailbox in mailboxes:
                over = mailbox.groups is None or mailbox.is_over(now)
                for fetch in () if over else list(mailbox.groups.readers):
                    if not fetch.is_open():
                        self.withdraw(fetch)
                    elif fetch.look():
                        self._leave(fetch)
                        self._close(fetch)

    cdef int _dispatch(self, Group group, uint64_t now) except -1:
        """Share what the group has among those who wait: an idle worker gets the next message at once, and none gets all."""
        cdef Choice choice
        cdef Fetch fetch
        cdef Handout handout
        while group.fetches and group.peek((1 << LEVELS) - 1, now, &choice, False):
            fetch = next(iter(group.fetches))
            if not fetch.is_open():
                self.withdraw(fetch)
                continue
            if group.members and not group.receivers_first:
                # Receivers are served after this: every other time those who FETCH wait for what they leave.
                group.receivers_first = True
                group.wake_members()
                self._deferred.append(group)
                self._wants_run()
                return 0
            group.receivers_first = False
            share = group.count((1 << LEVELS) - 1) // len(group.fetches)
            handout = group.lease(
                max(1, min(fetch.limit, share)), fetch.bytes_max, fetch.lease_ms, fetch.holder, now
            )
            self._leave(fetch)
            self._close(fetch)
            fetch.answer(handout)
        return 0

    cdef int _leave(self, Fetch fetch) except -1:
        """Take a FETCH out of those who wait."""
        cdef MailboxGroups book = fetch.mailbox.groups
        cdef Group group = fetch.group
        fetch.waits = False
        book.waiting -= 1
        if group is None:
            del book.readers[fetch]
        else:
            del group.fetches[fetch]
            if not group.fetches:
                group.fetches = None
                del book.attentive[group]
        return 0

    def withdraw(self, Fetch fetch not None):
        """Nobody waits for the answer to a FETCH that waits."""
        self._leave(fetch)
        self._close(fetch)
        fetch.abandoned()

    def give_up(self, Fetch fetch not None):
        """The FETCH waits no more, because its time is up."""
        fetch.over = True
        self._leave(fetch)

    def _close(self, Fetch fetch):
        """The FETCH waits no more; its timer has lost its cause."""
        fetch.over = True
        self.timers.lose_one()

    cdef int appeared(self, Mailbox mailbox, int rank, uint64_t msg_id) except -1:
        """A delayed message has become visible: those who are past its place find it in the list."""
        cdef MailboxGroups book = mailbox.groups
        cdef Group group
        cdef uint64_t heard
        if book is not None and book.by_name and book.appeared.add(rank, msg_id):
            heard = book.appeared.end
            for group in book.by_name.values():
                heard = min(heard, group.heard)
            book.appeared.trim(mailbox, heard)
        return 0

    cdef int forget_kept(self, Py_ssize_t budget) except -1:
        """Every tick is handed out whole: let groups forget what they kept in mind because of that, about `budget` of it."""
        cdef Group group
        while self.keeping and budget > 0:
            group = self.keeping[len(self.keeping) - 1]
            budget -= group.forget_kept(budget) + 1
            if group._kept is not None:
                break
            self.keeping.pop()
        return 0

    # storing

    def has_changes(self):
        """Whether something is to be written with the next commit."""
        return bool(self.dirty or self._ended or self._stored_now)

    def write(self, Batch batch not None):
        """Put everything that has changed into a batch that is about to be sealed."""
        cdef Group group
        for group, changed, rows in self._stored_now:
            if not group.gone:
                batch.groups.append((group, changed))
                batch.rows += rows
        self._stored_now = []
        dirty, self.dirty = self.dirty, []
        for group in dirty:
            group.dirty = False
            if not group.gone and group.starting is None:  # else it is marked once more when it has started
                batch.groups.append((group, self._write_group(group, batch.rows)))
        while self._ended and len(batch.ended) < DROPS_PER_COMMIT:
            key = self._ended.popleft()
            batch.ended.append(key)
            batch.rows.append((Table.GROUPS, key, None))

    cdef int store_now(self, Group group) except -1:
        if group.dirty and group.starting is None:
            rows = []
            self._stored_now.append((group, self._write_group(group, rows), rows))
        return 0

    cdef set _write_group(self, Group group, list rows):
        """Append to `rows` what has changed of the group; returns the handouts that it had in it."""
        cdef Handout handout
        changed, group.changed = group.changed, set()
        row = GroupRow(
            group.mailbox.number, group.number, group.name, group.next_handout, group.heard_until(),
            tuple([group.cursors[rank] for rank in range(LEVELS)]),
        )
        rows.append((Table.GROUPS, row.key, row.pack()))
        self._recount(group)
        for handout in changed:
            handout.changed = False
            key = group_key(group.mailbox.number, group.number, handout.number)
            if handout.count:
                rows.append((Table.GROUPS, key, seal_row(key, self._row_of(handout))))
                handout.stored = True
                group.stored.add(handout.number)
            elif handout.stored:
                rows.append((Table.GROUPS, key, None))
        return changed

    cdef bytes _row_of(self, Handout handout):
        """The body of the handout's row."""
        cdef buffer_t row
        cdef uint32_t at
        cdef Open* item
        cdef char* place
        cdef bytes reason = b""
        row.data = NULL
        row.size = row.capacity = 0
        try:
            place = buffer_reserve(&row, 1 + HANDOUT_ITEM * <size_t>handout.count)
            place[0] = HANDOUT_ROW_VERSION
            row.size = 1
            for at in range(handout.count):
                item = &handout.items[at]
                if handout.reasons is not None:
                    reason = handout.reasons.get(item.msg_id, b"")
                place = buffer_reserve(&row, HANDOUT_ITEM)
                store64(place, item.msg_id)
                # What has not reached a receiver's socket before a crash goes to another one.
                store64(place + 8, 0 if item.state == HANDED else item.due)
                place[16] = RETURNED if item.state == HANDED else item.state
                place[17] = item.rank
                place[18] = item.attempts
                store16(place + 19, <uint16_t>len(reason))
                row.size += HANDOUT_ITEM
                if reason:
                    buffer_append(&row, reason, len(reason))
            return row.data[:row.size]
        finally:
            buffer_free(&row)

    def written(self, Batch batch not None):
        """The batch is durable."""
        cdef Group group
        cdef Handout handout
        for group, changed in batch.groups:
            for handout in changed:
                if handout.stored and handout.count == 0 and not handout.changed:
                    handout.stored = False
                    group.stored.discard(handout.number)

    def failed(self, Batch batch not None):
        """The batch is not: what it held of groups is to be written again."""
        cdef Group group
        cdef Handout handout
        for group, changed in batch.groups:
            if not group.gone:
                for handout in changed:
                    # A batch before this one may have stored it: what is empty is to be removed all the same.
                    handout.stored = True
                    group.stored.add(handout.number)
                    group.touch(handout)
                self.mark(group)
        self._ended.extend(batch.ended)

    def end(self, Mailbox mailbox not None):
        """The mailbox is gone, and its groups with it, which `dismantle` takes apart."""
        cdef MailboxGroups book = mailbox.groups
        cdef Group group
        cdef Fetch fetch
        waiting = list(book.readers)
        for group in book.by_name.values():
            group.gone = True
            self.unfinished -= group.counted
            if group.fetches:
                waiting.extend(group.fetches)
                group.fetches = None
            if group.members:
                group.members.clear()
        for fetch in waiting:
            fetch.waits = False
            self._close(fetch)
        self.groups -= len(book.by_name)
        self._leaving.append(book.by_name)
        self._left_waiting.extend(waiting)
        mailbox.groups = None
        del self._mailboxes[mailbox.number]
        self.timers.hurry()

    def is_dismantling(self):
        """Whether something is left of groups whose mailboxes have ended."""
        return bool(self._leaving or self._left_waiting)

    cdef int dismantle(self, Py_ssize_t budget) except -1:
        """Take apart the groups of ended mailboxes, about `budget` open messages of them, and tell those who waited."""
        cdef dict by_name
        cdef Group group
        cdef Handout handout
        cdef Fetch fetch
        while self._left_waiting and budget > 0:
            budget -= STEPS_TO_ANSWER
            fetch = self._left_waiting.popleft()
            if fetch.is_open():
                fetch.mailbox_ended()
            else:
                fetch.abandoned()
        while self._leaving and budget > 0:
            by_name = self._leaving[0]
            if not by_name:
                self._leaving.popleft()
                continue
            group = next(iter(by_name.values()))
            while group.open and budget > 0:
                budget -= 1
                handout = group.open.popitem()[1]
                if handout.timer:
                    handout.timer = 0
                    self.timers.lose_one()
            while group.stored and budget > 0:
                budget -= 1
                self._ended.append(group_key(group.mailbox.number, group.number, group.stored.pop()))
            if not group.open and not group.stored:
                budget -= 1
                self._ended.append(group_key(group.mailbox.number, group.number, 0))
                group.changed.clear()
                del by_name[group.name]
        return 0

    def close(self):
        """Let go of all groups: they refer to mailboxes, which refer to them and are out of the garbage collector's sight."""
        cdef Mailbox mailbox
        for mailbox in self._mailboxes.values():
            mailbox.groups = None
        self._mailboxes = {}

    # starting with what is stored

    def load(self, bytes key not None, bytes value not None, by_number):
        """Take over a row of Table.GROUPS; one of a mailbox that is gone is to be removed. Raises DamagedError."""
        cdef Group group
        cdef Handout handout
        cdef MailboxGroups book
        cdef Open* item
        cdef int rank
        if len(key) != 20:
            raise DamagedError("has a wrong key")
        mailbox = by_number(int.from_bytes(key[:8], "big"))
        if mailbox is None:
            self._ended.append(key)
            return
        number = int.from_bytes(key[8:12], "big")
        if key[12:] == bytes(8):
            row = GroupRow.unpack(key, value)
            if self.find(mailbox, row.name) is not None:
                raise DamagedError("has the name of another group")
            book = self._book(mailbox)
            group = Group(self, mailbox, book.appeared, row.name, row.number)
            group.next_handout = row.next_handout
            group.heard_ms = row.until_ms
            for rank in range(LEVELS):
                group.cursors[rank] = row.cursors[rank]
            book.by_name[row.name] = group
            book.next_number = max(book.next_number, row.number + 1)
            self.groups += 1
            self._loaded.append(group)
            return
        group = self._loaded[len(self._loaded) - 1] if self._loaded else None
        if group is None or group.mailbox is not mailbox or group.number != number:
            self._ended.append(key)  # the group's own row was damaged, and the group begins anew
            return
        handout = Handout(group)
        handout.number = int.from_bytes(key[12:], "big")
        group.next_handout = max(group.next_handout - 1, handout.number)
        handout.stored = True
        group.stored.add(handout.number)
        for msg_id, due, state, level, attempts, reason in HandoutRow.unpack(key, value).items:
            if msg_id in group.open:
                continue  # a message is in one place
            item = handout.add(msg_id, level, attempts)
            item.due = due
            item.state = state
            group.open[msg_id] = handout
            group.explain(handout, msg_id, reason)

    def load_delayed(self, Mailbox mailbox not None, int rank, uint64_t msg_id, uint64_t visible_ms):
        """Note a message that was delayed and is visible, for groups that have not heard of it."""
        if mailbox.groups is not None:
            self._loaded_late.append((mailbox, rank, msg_id, visible_ms))

    def finish_loading(self, uint64_t now):
        """All messages were taken over: let what is open have its effect."""
        cdef Group group
        cdef Handout handout
        cdef Open* item
        for group in self._loaded:
            for handout in set(group.open.values()):
                for msg_id in [msg_id for msg_id, _ in handout.listing()]:
                    item = handout.find(msg_id)
                    if item.state == DEAD:
                        group.note_dead(msg_id)
                    elif item.state == DONE and msg_id <= group.cursors[item.rank]:
                        group.keep(msg_id)
                    if item.state in (DEAD, DONE, LEASED) or item.due > now:
                        continue
                    item.due = 0
                    group._offer(item.rank, msg_id)
                handout.due(0, now)
                for msg_id, _ in handout.listing():
                    item = handout.find(msg_id)
                    if item.state != LEASED and not group.is_there(msg_id, now):
                        group.drop(handout, item)
            group.overlap = max(group.open, default=0)
            self._recount(group)
        self._loaded = []
        self._list_loaded()

    cdef int _list_loaded(self) except -1:
        """List again what has appeared, each group with its place in that."""
        cdef Group group
        cdef MailboxGroups book
        cdef dict late = {}
        loaded, self._loaded_late = self._loaded_late, []
        for mailbox, rank, msg_id, visible_ms in loaded:
            late.setdefault(mailbox, []).append((visible_ms, msg_id, rank))
        for mailbox, found in late.items():
            book = (<Mailbox>mailbox).groups
            found.sort()
            first = bisect_right(found, min([group.heard_ms for group in book.by_name.values()]), key=itemgetter(0))
            times = [visible_ms for visible_ms, _, _ in found[first:]]
            for _, msg_id, rank in found[first:]:
                book.appeared.add(rank, msg_id)
            for group in book.by_name.values():
                group.heard = 1 + bisect_right(times, group.heard_ms)
        return 0
