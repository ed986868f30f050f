"""When time is to pass: whoever sleeps until `next_due` and is woken by `on_sooner` is late for nothing and wakes up for little."""

from __future__ import annotations

import json
from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st

from mq9.mailboxes import operations
from mq9.mailboxes.loading import Loading
from mq9.mailboxes.office import PostOffice
from mq9.protocol import CreateRequest

START_MS = 1_800_000_000_000
# The wheel's finest slots: the latest that a timer may fire after its time, with an unhurried clock.
SLOT_MS = 4
WHEELS = 5
# As the post office has them: how large a block becomes, what one commit drops of them, and entries that go at once.
TAKEN_AT_ONCE = 1_024
DROPS_AT_ONCE = 4_096
SECOND = 1_000
CENTURY_S = 100 * 365 * 86_400


class Sleeper:
    """A post office, and somebody who lets time pass as the broker does, but for having to wait for it."""

    def __init__(self, start: int = START_MS) -> None:
        self.now = start
        self.ended: dict[str, int] = {}
        self.wakes = 0
        self.calls = 0
        self.office = PostOffice(self.now, lambda: None, lambda event, mailbox: None, lambda: None)
        self.office.on_sooner(self.sooner)
        Loading(self.office).finish_loading(set(), self.now)
        self.due = self.office.next_due()

    def sooner(self) -> None:
        self.calls += 1
        self.due = self.now

    def create(self, name: str, ttl_s: int) -> None:
        operations.create(self.office, CreateRequest(name=name, ttl=ttl_s), "", 0, self.now, lambda _: None)
        self.settle()
        mailbox = self.office.get(name.encode(), self.now)
        assert mailbox is not None

        def ended(_event: str) -> None:
            self.ended[name] = self.now

        mailbox.watch(ended)

    def settle(self) -> None:
        while (batch := self.office.seal(self.now)) is not None:
            self.office.settle(batch, self.now)

    def sleep_until(self, end: int) -> None:
        while self.due is not None and self.due <= end:
            self.now = max(self.due, self.now)
            self.wakes += 1
            while self.office.tick(self.now, 4_096):
                pass
            self.due = self.office.next_due()
            assert self.due is None or self.due > self.now
        self.now = end
        self.settle()


LIVES = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 5_000), st.integers(0, 10**8)),
        st.one_of(st.integers(1, 5), st.integers(1, 10**6), st.integers(1, CENTURY_S)),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(lives=LIVES, phase=st.integers(0, 2_000))
@example(lives=[(0, CENTURY_S), (5, 1)], phase=0)
@example(lives=[(0, 1), (0, 1), (1, 1), (300, 262)], phase=3)
def test_everything_ends_when_it_is_due_and_whoever_waits_for_it_sleeps_long(
    lives: list[tuple[int, int]], phase: int
) -> None:
    sleeper = Sleeper(START_MS + phase)
    ends: dict[str, int] = {}
    for number, (pause_ms, ttl_s) in enumerate(lives):
        sleeper.sleep_until(sleeper.now + pause_ms)
        sleeper.create(f"box{number}", ttl_s)
        ends[f"box{number}"] = sleeper.now + ttl_s * SECOND
    sleeper.sleep_until(max(ends.values()) + SLOT_MS)
    assert set(sleeper.ended) == set(ends)
    for name, end in ends.items():
        assert 0 <= sleeper.ended[name] - end <= SLOT_MS, name
    assert sleeper.due is None
    # Each timer is looked at once for every wheel that it passes through, and when it was set.
    assert sleeper.wakes <= len(lives) * (WHEELS + 1)


def test_who_sleeps_is_called_once_when_something_is_due_sooner_and_not_for_what_is_due_later() -> None:
    sleeper = Sleeper()
    sleeper.create("soon", 100)
    assert sleeper.calls == 1
    sleeper.due = sleeper.office.next_due()
    sleeper.create("later", 500)
    assert sleeper.calls == 1
    sleeper.create("sooner", 2)
    sleeper.create("soonest", 1)
    assert sleeper.calls == 2


def test_what_an_ended_mailbox_holds_is_given_back_without_waiting_for_another_timer() -> None:
    sleeper = Sleeper()
    sleeper.create("ada", 0)
    mailbox = sleeper.office.get(b"ada", sleeper.now)
    assert mailbox is not None
    sleeper.office.put(mailbox, 3, b"payload", 0, sleeper.now)
    sleeper.settle()
    sleeper.due = sleeper.office.next_due()
    assert sleeper.due is None
    operations.remove(sleeper.office, mailbox, lambda _: None)
    sleeper.settle()
    assert sleeper.calls == 1
    sleeper.sleep_until(sleeper.now)
    assert (sleeper.office.messages, sleeper.office.blocks.blocks) == (0, 0)


def test_a_renewal_that_was_asked_for_in_time_counts_though_a_removal_follows_it() -> None:
    sleeper = Sleeper()
    sleeper.create("ada", 1)
    mailbox = sleeper.office.get(b"ada", sleeper.now)
    assert mailbox is not None
    told: list[object] = []
    operations.create(sleeper.office, CreateRequest(name="ada", ttl=60, renew=True), "", 0, sleeper.now, told.append)
    operations.remove(sleeper.office, mailbox, told.append)
    sleeper.now += 2 * SECOND  # before the disk has answered
    sleeper.office.tick(sleeper.now, 1_000)
    sleeper.settle()
    renewed, removed = told
    assert isinstance(renewed, bytes)
    assert json.loads(renewed)["is_new"] is False
    assert removed == {"deleted": True}


def test_timers_without_a_cause_are_swept_out_without_waiting_for_another_timer() -> None:
    sleeper = Sleeper()
    sleeper.create("ada", 0)
    mailbox = sleeper.office.get(b"ada", sleeper.now)
    assert mailbox is not None
    for _ in range(1_000):
        sleeper.office.put(mailbox, 3, b"", sleeper.now + 10**9, sleeper.now)
    sleeper.settle()
    sleeper.due, sleeper.calls = sleeper.office.next_due(), 0
    for msg_id, *_ in mailbox.page(0, 31, 1_000, sleeper.now):
        operations.delete(sleeper.office, mailbox, msg_id, sleeper.now, lambda _: None)
    sleeper.settle()
    assert sleeper.calls == 1
    sleeper.sleep_until(sleeper.now)
    assert sleeper.office.expiries.count < 100


def test_what_has_been_handed_out_is_known_to_the_millisecond() -> None:
    sleeper = Sleeper()
    sleeper.create("ada", 0)
    mailbox = sleeper.office.get(b"ada", sleeper.now)
    assert mailbox is not None
    for number in range(100):
        sleeper.office.put(mailbox, 3, b"", sleeper.now + 1_000 + number % 2 * 8, sleeper.now)
    sleeper.settle()
    timers = sleeper.office.expiries
    sleeper.now += 1_008
    seen = []
    while sleeper.office.tick(sleeper.now, 30):
        seen.append((timers.done_until() - START_MS, timers.count))
    assert all(done < 1_000 for done, count in seen if count > 50)
    assert all(1_000 <= done < 1_008 for done, count in seen if 0 < count < 50)
    assert (timers.done_until() - START_MS, timers.count) == (1_008, 0)


def test_a_hundred_thousand_messages_that_end_at_once_keep_nothing_else_waiting() -> None:
    """What one slice of time and what one commit do is bounded by how much it is, whatever has come together."""
    sleeper = Sleeper()
    sleeper.create("big", 0)
    sleeper.create("watched", 1)
    mailbox = sleeper.office.get(b"big", sleeper.now)
    assert mailbox is not None
    for _ in range(100_000):
        sleeper.office.put(mailbox, 3, bytes(200), sleeper.now + SECOND, sleeper.now)
    sleeper.settle()
    office = sleeper.office
    sleeper.now += SECOND
    gone: list[int] = []
    left = office.messages
    more = True
    while more:
        more = office.tick(sleeper.now, 1_000)
        gone.append(left - office.messages)
        left = office.messages
        assert sleeper.ended == {"watched": sleeper.now}, "the end of a mailbox waited for that of messages"
    assert max(gone) == 1_000
    assert left == 0
    sleeper.settle()
    assert office.blocks.size == 0


def test_a_mailbox_that_ends_with_much_in_it_is_taken_apart_in_slices() -> None:
    sleeper = Sleeper()
    sleeper.create("big", 1)
    mailbox = sleeper.office.get(b"big", sleeper.now)
    assert mailbox is not None
    for _ in range(50_000):
        sleeper.office.put(mailbox, 3, b"", 0, sleeper.now)
    sleeper.settle()
    sleeper.now += SECOND
    left = [sleeper.office.messages]
    while sleeper.office.tick(sleeper.now, 2_000):
        left.append(sleeper.office.messages)
    assert sleeper.office.messages == 0
    assert max(before - after for before, after in pairwise(left)) <= 2_000 + TAKEN_AT_ONCE


def test_small_blocks_are_dropped_some_thousands_at_a_time() -> None:
    sleeper = Sleeper()
    sleeper.create("ada", 1)
    mailbox = sleeper.office.get(b"ada", sleeper.now)
    assert mailbox is not None
    for _ in range(6_000):
        sleeper.office.put(mailbox, 3, b"", 0, sleeper.now)
        sleeper.settle()
    sleeper.now += SECOND
    while sleeper.office.tick(sleeper.now, 4_096):
        pass
    batch = sleeper.office.seal(sleeper.now)
    assert batch is not None
    assert len(batch.dropped) == DROPS_AT_ONCE
    sleeper.office.settle(batch, sleeper.now)
    sleeper.settle()
    assert sleeper.office.blocks.blocks == 0
