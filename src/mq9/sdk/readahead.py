"""What a receiver has been sent and has not handed over yet: the messages a callback gets next, highest priority first.

The broker pushes everything, and always reading it is what lets an urgent message overtake what lies here. So this may
not grow with the mailbox: each priority level keeps the next few messages only. What arrives for a full level is let go,
counted, and later fetched again from the broker, where it is stored anyway; a level is in this state between
`kept` (the last message that is here or handed over) and `seen` (the last one that arrived).

Since messages of one level arrive in rising msg_id, those two numbers are also all that is needed to recognise what the broker
repeats after a reconnect. No I/O, no clock; `take` may be called from any thread, all else from the event loop's.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

from mq9.protocol import PRIORITIES, Priority

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mq9.sdk.message import Record

LEVEL_MESSAGES_MAX: Final = 10_000
LEVEL_BYTES_MAX: Final = 8 * 1024 * 1024
FETCH_MESSAGES_MAX: Final = 1_000


class Gap(NamedTuple):
    """What was let go and is wanted now: at most `limit` messages of `priority` after msg_id `after`.

    `seen` is the last msg_id that had arrived when the gap was found: a fetch that starts later misses nothing up to it.
    """

    priority: Priority
    after: int
    limit: int
    seen: int


class _Level:
    """One priority level: see the module."""

    __slots__ = ("kept", "messages", "missing", "seen", "size_taken", "size_total")

    def __init__(self) -> None:
        self.messages: deque[Record] = deque()
        self.kept = 0
        self.seen = 0
        self.missing = 0  # how many were let go between the two, or a few more when some have been deleted since
        # Two counters, each written by one thread only, instead of one that both would have to lock.
        self.size_total = 0
        self.size_taken = 0

    @property
    def size(self) -> int:
        return self.size_total - self.size_taken

    @property
    def full(self) -> bool:
        return len(self.messages) >= LEVEL_MESSAGES_MAX or self.size >= LEVEL_BYTES_MAX

    @property
    def behind(self) -> bool:
        return self.seen > self.kept

    @property
    def low(self) -> bool:
        return len(self.messages) <= LEVEL_MESSAGES_MAX // 2 and self.size <= LEVEL_BYTES_MAX // 2

    def keep(self, record: Record) -> None:
        # The message first: whoever sees that the level is not behind must also see the message.
        msg_id = record.msg_id
        self.messages.append(record)
        self.size_total += record.size
        if msg_id > self.seen:
            self.seen = msg_id
        self.kept = msg_id


class ReadAhead:
    """The messages between the broker and the callback of one receiver."""

    def __init__(self) -> None:
        self._levels = {priority: _Level() for priority in PRIORITIES}
        self._in_order = tuple(self._levels.values())
        self._told_pending = 0
        self._newest_ms = 0
        # Whether `gap` may find something: asked for every message, it is not looked for while all is well.
        self.lacks = False

    def __len__(self) -> int:
        """How many messages are here, ready to be taken."""
        return sum(len(level.messages) for level in self._levels.values())

    def offer(self, record: Record) -> None:
        """Take in what the broker pushed; what was here before is ignored, what finds no room is only counted."""
        level = self._levels[record.priority]
        if record.pending is not None:
            self._told_pending = record.pending
        if record.msg_id <= level.seen:
            if record.time_ms <= self._newest_ms:
                return
            # Whatever was seen was not newer than that: this is another mailbox of the same name, numbered anew.
            self._forget_numbers()
        if record.time_ms > self._newest_ms:
            self._newest_ms = record.time_ms
        if level.behind or level.full:
            level.seen = record.msg_id
            level.missing += 1
            self.lacks = True
        else:
            level.keep(record)

    def _forget_numbers(self) -> None:
        for level in self._levels.values():
            level.kept = level.seen = level.missing = 0

    def take(self) -> Record | None:
        """The next message to hand over, or None when none is here or a higher one has to be fetched first."""
        for level in self._in_order:
            try:
                record = level.messages.popleft()
            except IndexError:
                if level.behind:
                    return None
                continue
            level.size_taken += record.size
            return record.handed_over(self.pending)
        return None

    @property
    def available(self) -> bool:
        """Whether `take` has something right now."""
        for level in self._levels.values():
            if level.messages:
                return True
            if level.behind:
                return False
        return False

    @property
    def pending(self) -> int:
        """About how many messages are still to come: those here, those let go, and those the broker told of."""
        count = self._told_pending
        for level in self._in_order:
            count += len(level.messages) + level.missing
        return count

    def gap(self) -> Gap | None:
        """The most urgent thing to fetch, or None while every level has enough."""
        self.lacks = False  # before looking: what another thread lets go meanwhile says so again
        for priority, level in self._levels.items():
            if level.behind:
                self.lacks = True
                if level.low:
                    limit = min(FETCH_MESSAGES_MAX, LEVEL_MESSAGES_MAX - len(level.messages))
                    return Gap(priority, level.kept, limit, level.seen)
        return None

    def fill(self, gap: Gap, records: Sequence[Record], complete: bool) -> None:
        """Take in the answer to `gap`; `complete` says that nothing of it is left at the broker."""
        level = self._levels[gap.priority]
        for record in records:
            if record.msg_id > level.kept:
                level.keep(record)
        level.missing = max(0, level.missing - len(records))
        if complete:
            level.kept = max(level.kept, gap.seen)
        if not level.behind:
            level.missing = 0

    def settle(self) -> None:
        """Nothing more can be fetched: what was let go is gone, what is here can be taken."""
        for level in self._levels.values():
            level.kept = level.seen
            level.missing = 0
        self._told_pending = 0

    def clear(self) -> None:
        """Forget what is here; what was seen stays seen."""
        self.settle()
        for level in self._levels.values():
            level.messages.clear()
            level.size_taken = level.size_total
