"""The read-ahead of a receiver: bounded, in order, and never twice."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mq9 import Priority
from mq9.protocol import PRIORITIES
from mq9.sdk.message import Record
from mq9.sdk.readahead import LEVEL_BYTES_MAX, ReadAhead
from tests.sdk.support import READ_AHEAD


def record(msg_id: int, priority: str = "normal", size: int = 10, pending: int = 0, time_ms: int = 0) -> Record:
    """A message as it is pushed."""
    return Record(msg_id, Priority(priority), b"", {}, time_ms, size, pending)


def taken(ahead: ReadAhead) -> list[int]:
    """The msg_ids of all that can be taken."""
    found = []
    while (got := ahead.take()) is not None:
        found.append(got.msg_id)
    return found


def test_the_highest_priority_is_taken_first_and_each_level_in_order() -> None:
    ahead = ReadAhead()
    for msg_id, priority in enumerate(["low", "normal", "critical", "low", "urgent", "high", "normal"], 1):
        ahead.offer(record(msg_id, priority))
    assert taken(ahead) == [3, 5, 6, 2, 7, 1, 4]


def test_what_was_seen_is_not_taken_again() -> None:
    ahead = ReadAhead()
    ahead.offer(record(1))
    ahead.offer(record(2, "high"))
    assert taken(ahead) == [2, 1]
    for msg_id, priority in ((2, "high"), (1, "normal"), (3, "normal")):
        ahead.offer(record(msg_id, priority))
    assert taken(ahead) == [3]


def test_a_level_at_its_cap_keeps_and_above_it_lets_go() -> None:
    ahead = ReadAhead()
    for msg_id in range(1, READ_AHEAD + 1):
        ahead.offer(record(msg_id))
    assert len(ahead) == READ_AHEAD
    assert ahead.gap() is None
    ahead.offer(record(READ_AHEAD + 1))
    assert len(ahead) == READ_AHEAD
    assert taken(ahead) == list(range(1, READ_AHEAD + 1))
    gap = ahead.gap()
    assert gap is not None
    assert (gap.priority, gap.after, gap.seen) == ("normal", READ_AHEAD, READ_AHEAD + 1)


def test_large_messages_reach_the_cap_by_their_bytes() -> None:
    ahead = ReadAhead()
    for msg_id in range(1, 9):
        ahead.offer(record(msg_id, size=LEVEL_BYTES_MAX // 4))
    assert taken(ahead) == [1, 2, 3, 4]


def test_a_full_level_does_not_keep_a_higher_one_out() -> None:
    ahead = ReadAhead()
    for msg_id in range(1, 2 * READ_AHEAD):
        ahead.offer(record(msg_id, "low"))
    ahead.offer(record(2 * READ_AHEAD, "urgent"))
    first = ahead.take()
    assert first is not None
    assert first.priority == "urgent"


def test_a_lower_level_waits_while_a_higher_one_has_to_be_fetched() -> None:
    ahead = ReadAhead()
    for msg_id in range(1, READ_AHEAD + 2):
        ahead.offer(record(msg_id, "high"))
    ahead.offer(record(READ_AHEAD + 2, "low"))
    assert len(taken(ahead)) == READ_AHEAD
    assert len(ahead) == 1
    assert not ahead.available
    gap = ahead.gap()
    assert gap is not None
    ahead.fill(gap, [record(READ_AHEAD + 1, "high")], complete=True)
    assert ahead.available
    assert taken(ahead) == [READ_AHEAD + 1, READ_AHEAD + 2]


def test_a_gap_whose_messages_were_deleted_closes() -> None:
    ahead = ReadAhead()
    for msg_id in range(1, READ_AHEAD + 4):
        ahead.offer(record(msg_id))
    taken(ahead)
    gap = ahead.gap()
    assert gap is not None
    ahead.fill(gap, [], complete=True)
    assert ahead.gap() is None
    assert ahead.pending == 0


def test_what_came_while_a_gap_was_fetched_is_a_new_gap() -> None:
    ahead = ReadAhead()
    for msg_id in range(1, READ_AHEAD + 2):
        ahead.offer(record(msg_id))
    taken(ahead)
    gap = ahead.gap()
    assert gap is not None
    ahead.offer(record(READ_AHEAD + 2))
    ahead.fill(gap, [record(READ_AHEAD + 1)], complete=True)
    assert taken(ahead) == [READ_AHEAD + 1]
    again = ahead.gap()
    assert again is not None
    assert again.after == READ_AHEAD + 1


def test_pending_counts_what_is_here_what_was_let_go_and_what_the_broker_told() -> None:
    ahead = ReadAhead()
    for msg_id in range(1, READ_AHEAD + 11):
        ahead.offer(record(msg_id, pending=5))
    first = ahead.take()
    assert first is not None
    assert first.pending == READ_AHEAD + 10 - 1 + 5


def test_pending_is_0_for_the_last_message() -> None:
    ahead = ReadAhead()
    ahead.offer(record(1, pending=1))
    ahead.offer(record(2, pending=0))
    assert [got.pending for got in (ahead.take(), ahead.take()) if got is not None] == [1, 0]


def test_settling_gives_up_what_would_have_to_be_fetched() -> None:
    ahead = ReadAhead()
    for msg_id in range(1, READ_AHEAD + 2):
        ahead.offer(record(msg_id, "high"))
    ahead.offer(record(READ_AHEAD + 2, "low"))
    ahead.settle()
    assert ahead.gap() is None
    assert taken(ahead)[-1] == READ_AHEAD + 2


def test_clearing_forgets_but_remembers_what_was_seen() -> None:
    ahead = ReadAhead()
    ahead.offer(record(1))
    ahead.clear()
    ahead.offer(record(1))
    assert taken(ahead) == []
    ahead.offer(record(2))
    assert taken(ahead) == [2]


def test_a_mailbox_of_the_same_name_that_counts_from_1_again_is_not_taken_for_a_repetition() -> None:
    ahead = ReadAhead()
    ahead.offer(record(7, "high", time_ms=1_000))
    ahead.offer(record(8, time_ms=1_001))
    taken(ahead)
    ahead.offer(record(8, time_ms=1_001))
    assert taken(ahead) == []
    ahead.offer(record(2, "high", time_ms=2_000))
    ahead.offer(record(1, time_ms=1_999))
    assert taken(ahead) == [2, 1]
    ahead.offer(record(1, time_ms=1_999))
    assert taken(ahead) == []


class Mailbox:
    """What a broker holds and pushes: the model that the read-ahead is held against."""

    def __init__(self) -> None:
        self.stored: dict[int, Record] = {}
        self.next_id = 1

    def send(self, priority: Priority) -> Record:
        stored = self.stored[self.next_id] = record(self.next_id, priority)
        self.next_id += 1
        return stored

    def replay(self) -> list[Record]:
        return sorted(self.stored.values(), key=lambda one: (PRIORITIES.index(one.priority), one.msg_id))

    def fetch(self, priority: Priority, after: int, limit: int) -> tuple[list[Record], bool]:
        found = [one for one in self.stored.values() if one.priority == priority and one.msg_id > after]
        return found[:limit], len(found) <= limit


steps = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.sampled_from(PRIORITIES), st.integers(1, 700)),
        st.tuples(st.just("take"), st.just(None), st.integers(1, 900)),
        st.tuples(st.just("fetch"), st.just(None), st.just(1)),
        st.tuples(st.just("reconnect"), st.just(None), st.just(1)),
    ),
    max_size=30,
)


@settings(max_examples=60, deadline=None)
@given(steps)
def test_everything_comes_once_and_in_order_whatever_happens(script: list[tuple[str, Priority, int]]) -> None:
    """Sends, takes, fetches and reconnects in any order: each message once, each level in order, memory bounded."""
    box, ahead, handed = Mailbox(), ReadAhead(), []

    def fetch() -> bool:
        gap = ahead.gap()
        if gap is not None:
            found, complete = box.fetch(gap.priority, gap.after, gap.limit)
            ahead.fill(gap, found, complete)
        return gap is not None

    for what, priority, times in script:
        for _ in range(times):
            if what == "send":
                ahead.offer(box.send(priority))
            elif what == "take" and (got := ahead.take()) is not None:
                handed.append(got)
            elif what == "fetch":
                fetch()
            elif what == "reconnect":
                for one in box.replay():
                    ahead.offer(one)
        assert len(ahead) <= len(PRIORITIES) * READ_AHEAD
    while True:
        while (got := ahead.take()) is not None:
            handed.append(got)
        if not fetch():
            break
    ids = [one.msg_id for one in handed]
    assert sorted(ids) == sorted(box.stored)
    for priority in PRIORITIES:
        level = [one.msg_id for one in handed if one.priority == priority]
        assert level == sorted(level)
