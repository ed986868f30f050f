"""Giving receivers what they have not had yet.

A receiver is a cursor for each priority. It stands in the queue of those that are ready as long as there is more for it and its
client has room; every turn each gets a little, the highest priority first, straight from the block in memory. A block that is not
in memory is asked for, and its receivers wait. Nothing is copied or queued for a receiver that does not read.
"""

from collections import deque

from mq9.mailboxes.group cimport Choice, Group
from mq9.mailboxes.format cimport record_msg_id
from mq9.mailboxes.index cimport ENTRY_OFFERED, Level, level_count_after, level_peek, level_seek
from mq9.mailboxes.late cimport late_count, late_detached, late_peek, late_skip
from mq9.mailboxes.mailbox cimport IDLE, PAUSED, READY, WAITING

cdef enum:
    # Bytes for one receiver before it is another's turn.
    QUANTUM = 262144
    # What a message costs beyond its record: the head of its frame.
    FRAME_OVERHEAD = 160
    # Blocks asked for ahead of the one that a receiver waits for, and how far to look for their numbers.
    AHEAD = 2
    AHEAD_ENTRIES = 16384


cdef inline int _first(View* view) noexcept nogil:
    """The first priority with something to give, or -1."""
    cdef int rank
    for rank in range(LEVELS):
        if view.entries[rank] != NULL:
            return rank
    return -1


cdef void _look(Receiver receiver, uint64_t now, View* view) noexcept:
    """See what the receiver has not had, at `now` (Unix ms)."""
    cdef int rank
    cdef Mailbox mailbox = receiver.mailbox
    for rank in range(LEVELS):
        view.entries[rank] = NULL
        if mailbox.levels[rank] != NULL and receiver.mask >> rank & 1:
            _look_at(receiver, rank, now, view)


cdef void _look_at(Receiver receiver, int rank, uint64_t now, View* view) noexcept:
    """See what the receiver has not had of one level: first what has appeared behind its cursor."""
    cdef Level* level = receiver.mailbox.levels[rank]
    view.entries[rank] = late_peek(receiver, rank, now)
    view.late[rank] = view.entries[rank] != NULL
    if view.late[rank]:
        level_seek(level, view.entries[rank].msg_id - 1, &view.cursors[rank])
    elif level.last_id > receiver.cursors[rank]:
        level_seek(level, receiver.cursors[rank], &view.cursors[rank])
        view.entries[rank] = level_peek(&view.cursors[rank], now)


cdef void _pass(Receiver receiver, int rank, uint64_t now, View* view) noexcept:
    """The receiver has been given the message that it sees of a level, or cannot be: see what comes next."""
    if view.late[rank]:
        receiver.late[rank] += 1
        _look_at(receiver, rank, now, view)
    else:
        receiver.cursors[rank] = view.entries[rank].msg_id
        view.cursors[rank].at += 1
        view.entries[rank] = level_peek(&view.cursors[rank], now)


cdef uint64_t _remaining(Receiver receiver) noexcept:
    """About how many messages are still to come."""
    cdef int rank
    cdef uint64_t count = 0
    cdef Mailbox mailbox = receiver.mailbox
    for rank in range(LEVELS):
        if mailbox.levels[rank] != NULL and receiver.mask >> rank & 1:
            count += level_count_after(mailbox.levels[rank], receiver.cursors[rank]) + late_count(receiver, rank)
    return count


cdef class Delivery:
    """The receivers of all mailboxes.

    Arguments:
        cache: the blocks in memory.
    """

    def __init__(self, BlockCache cache not None):
        self.cache = cache
        self._ready = deque()
        self._waiting = {}
        self._wanted = []
        self._damaged = set()

    cdef int attach(self, Receiver receiver) except -1:
        """A new receiver: it starts with everything that its mailbox holds."""
        cdef Mailbox mailbox = receiver.mailbox
        if mailbox.receivers is None:
            mailbox.receivers = []
        mailbox.receivers.append(receiver)
        late_skip(receiver)
        if receiver.group is not None:
            (<Group>receiver.group).members.append(receiver)
        receiver.state = IDLE
        return self.wake(receiver)

    cdef int detach(self, Receiver receiver) except -1:
        """The receiver wants no more."""
        cdef Mailbox mailbox = receiver.mailbox
        receiver.ended = True
        if mailbox.receivers is not None and receiver in mailbox.receivers:
            mailbox.receivers.remove(receiver)
            if not mailbox.receivers:
                mailbox.receivers = None
            if receiver.group is not None:
                (<Group>receiver.group).members.remove(receiver)
            late_detached(mailbox)
        return 0

    cdef int wake(self, Receiver receiver) except -1:
        """There may be something new for it."""
        if receiver.state == IDLE and not receiver.ended:
            receiver.state = READY
            self._ready.append(receiver)
        return 0

    def wake_idle(self, Receiver receiver not None):
        """As `wake`, from Python; returns whether the receiver had been idle."""
        if receiver.state != IDLE or receiver.ended:
            return False
        self.wake(receiver)
        return True

    cdef int resume(self, Receiver receiver) except -1:
        """Its client has room again."""
        if receiver.state == PAUSED:
            receiver.state = IDLE
            self.wake(receiver)
        return 0

    cdef int stir(self, Mailbox mailbox) except -1:
        """There may be something new for all who listen to the mailbox."""
        cdef Receiver receiver
        mailbox.stirred = False
        if mailbox.receivers is not None:
            for receiver in mailbox.receivers:
                self.wake(receiver)
        return 0

    def run(self, uint64_t now, Py_ssize_t budget):
        """Give those who are ready about `budget` bytes in all, at `now` (Unix ms). Returns whether some are ready still."""
        cdef Receiver receiver
        while self._ready and budget > 0:
            receiver = <Receiver>self._ready.popleft()
            if not receiver.ended:
                receiver.state = IDLE
                if receiver.mailbox.is_over(now):
                    continue  # it ends as soon as somebody notices, unless it is renewed, which wakes the receiver
                if receiver.group is None:
                    budget -= self._pump(receiver, now)
                else:
                    budget -= self._pump_member(receiver, now)
        return bool(self._ready)

    cdef Py_ssize_t _pump(self, Receiver receiver, uint64_t now) except -1:
        """Give one receiver its share; returns the bytes that went to it. Its state says why it got no more."""
        cdef View view
        cdef Block block = None
        cdef Entry* entry
        cdef Py_ssize_t given = 0
        cdef uint64_t remaining = 0, pending
        cdef bint counted = False
        cdef int rank, following
        _look(receiver, now, &view)
        rank = _first(&view)
        while rank >= 0:
            entry = view.entries[rank]
            if self._damaged and entry.block in self._damaged:
                _pass(receiver, rank, now, &view)
                rank = _first(&view)
                continue
            if block is None or block.number != entry.block:
                block = self.cache.get(entry.block)
                if block is None:
                    receiver.state = WAITING
                    self._want(entry.block, receiver, &view.cursors[rank])
                    return given
            if receiver.room() <= 0:
                receiver.state = PAUSED
                return given
            if given >= QUANTUM:
                receiver.state = READY
                self._ready.append(receiver)
                return given
            entry.end |= ENTRY_OFFERED
            given += entry.size + FRAME_OVERHEAD
            _pass(receiver, rank, now, &view)
            following = _first(&view)
            pending = 0
            if following >= 0:
                # Counting walks over all chunks of a large mailbox: once for each turn.
                remaining = remaining - 1 if counted and remaining else _remaining(receiver)
                counted = True
                pending = max(remaining, <uint64_t>1)
            receiver.write(block.data + entry.offset, pending)
            if receiver.ended:
                return given
            rank = following
        return given

    cdef Py_ssize_t _pump_member(self, Receiver receiver, uint64_t now) except -1:
        """Give a member of a group its share: with others beside it one message, then it is their turn."""
        cdef Group group = receiver.group
        cdef Choice choice
        cdef LevelCursor cursor
        cdef Block block
        cdef Py_ssize_t given = 0
        cdef const char* record
        cdef bint more
        cdef Py_ssize_t quantum = QUANTUM if len(group.members) == 1 else 1
        while group.peek(receiver.mask, now, &choice, False):
            if choice.entry.block in self._damaged:
                group.hand(&choice, receiver)
                group.discard(choice.entry.msg_id)
                continue
            block = self.cache.get(choice.entry.block)
            if block is None:
                receiver.state = WAITING
                level_seek(receiver.mailbox.levels[choice.rank], choice.entry.msg_id - 1, &cursor)
                self._want(choice.entry.block, receiver, &cursor)
                return given
            if receiver.room() <= 0:
                receiver.state = PAUSED
                return given
            if given >= quantum:
                receiver.state = READY
                self._ready.append(receiver)
                return given
            given += choice.entry.size + FRAME_OVERHEAD
            record = block.data + choice.entry.offset
            choice.entry.end |= ENTRY_OFFERED
            group.hand(&choice, receiver)
            more = group.peek(receiver.mask, now, &choice, False)
            receiver.write(record, max(group.left(receiver.mask), <uint64_t>1) if more else 0)
            if receiver.ended:
                return given
        return given

    cdef int _want(self, uint64_t number, Receiver receiver, LevelCursor* cursor) except -1:
        """Ask for a block, and for those that the receiver will need next."""
        cdef LevelCursor ahead = cursor[0]
        cdef Entry* entry
        cdef int blocks = 0, looked = 0
        cdef uint64_t last = number
        if number not in self._waiting:
            self._waiting[number] = []
            self._wanted.append(number)
        self._waiting[number].append(receiver)
        while blocks < AHEAD and looked < AHEAD_ENTRIES:
            entry = level_peek(&ahead, 0)
            if entry == NULL:
                break
            if entry.block != last:
                last = entry.block
                blocks += 1
                if last not in self._waiting and self.cache.get(last) is None:
                    self._waiting[last] = []
                    self._wanted.append(last)
            ahead.at += 1
            looked += 1
        return 0

    def take_wanted(self):
        """The numbers of the blocks that are to be read and given to `loaded`; each is named once."""
        wanted, self._wanted = self._wanted, []
        return wanted

    def keep(self, uint64_t number, bytes data not None):
        """A block was read: keep it in memory for a while."""
        self.cache.put(Block(number, data))

    def damaged(self, uint64_t number):
        """A wanted block cannot be read, now or ever: its messages are passed over."""
        self._damaged.add(number)
        self.look_again(number)

    def look_again(self, uint64_t number):
        """Let those who wait for the block see whether they still need it."""
        cdef Receiver receiver
        for receiver in self._waiting.pop(number, ()):
            if receiver.state == WAITING:
                receiver.state = IDLE
                self.wake(receiver)


cdef class Listener(Receiver):
    """A member of a group for whoever takes messages as objects, as `PostOffice.put` is for whoever sends them so.

    Arguments:
        delivery: the post office's.
        group: of which it becomes a member.
        space: how many messages it takes before it is paused.
        heard: called with the msg_id of each.
    """

    def __init__(self, Delivery delivery not None, Group group not None, Py_ssize_t space, heard not None):
        self.mailbox = group.mailbox
        self.mask = (1 << LEVELS) - 1
        self.group = group
        self.space = space
        self._delivery = delivery
        self._heard = heard
        delivery.attach(self)

    cdef Py_ssize_t room(self) noexcept:
        return self.space

    cdef int write(self, const char* record, uint64_t pending) except -1:
        self.space -= 1
        self.position += 1
        (<Group>self.group).written(self.handout, self.position)
        self._heard(record_msg_id(record))
        return 0

    def more(self, Py_ssize_t space):
        """It has room for so many more."""
        self.space += space
        self._delivery.resume(self)

    def taken(self, uint64_t position):
        """The first so many of the messages that it was given have reached their end."""
        if self.handout is not None:
            (<Group>self.group).taken(self.handout, position)

    def leave(self, uint64_t now):
        """It is gone, and what was not taken goes to others."""
        self._delivery.detach(self)
        if self.handout is not None:
            (<Group>self.group).give_back(self.handout, (), 0, now)
