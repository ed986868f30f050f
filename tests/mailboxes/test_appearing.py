"""Delayed messages that appear behind groups: many at once, in slices, with a crash in between, and none twice or never."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from mq9.mailboxes import operations
from mq9.mailboxes.settling import settle
from mq9.protocol import AckRequest, CreateRequest
from mq9.store.contract import Commit
from mq9.store.memory_engine import MemoryStore
from tests.mailboxes.stored import started

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mq9.mailboxes.group import Group
    from mq9.mailboxes.mailbox import Mailbox

DELAY_MS = 1_000
TICK_MS = 4
# Entries that the list of what has appeared holds in one piece.
STRETCH = 512


class Place:
    """A mailbox in a post office that can be ended at any moment and begun again with what is stored."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.store = MemoryStore()
        self.now = 1_000_000
        self.begin()
        operations.create(self.office, CreateRequest(name="box", ttl=0), "", 0, self.now, lambda answer: None)
        self.commit()

    def begin(self) -> None:
        """Go on with what is stored."""
        self.office = started(self.store, self.loop, self.now)

    def crash(self) -> None:
        """What is not committed is gone."""
        self.office.close()
        self.begin()

    @property
    def mailbox(self) -> Mailbox:
        mailbox = self.office.get(b"box", self.now)
        assert mailbox is not None
        return mailbox

    def group(self, name: str) -> Group:
        group = self.office.groups.find(self.mailbox, name.encode())
        return group or self.office.groups.create(self.mailbox, name.encode(), 1)

    def put(self, visible_ms: int = 0) -> None:
        self.office.put(self.mailbox, 3, b"", 0, self.now, visible_ms=visible_ms)

    def commit(self) -> None:
        while (batch := self.office.seal(self.now)) is not None:
            commit = Commit([(block.number, memoryview(block)) for block in batch.blocks], batch.dropped, batch.rows)
            self.loop.run_until_complete(self.store.commit(commit))
            self.office.settle(batch, self.now)

    def pass_time(self, milliseconds: int) -> None:
        self.now += milliseconds
        while self.office.tick(self.now, 4_096):
            pass

    def take(self, name: str, *, count: int = 1_000_000, done: bool = True) -> list[int]:
        """Lease what there is, in one go, and have it done."""
        handout = self.group(name).lease(count, 1 << 40, 60_000, 1, self.now)
        found = [] if handout is None else [msg_id for msg_id, _ in handout.listing()]
        if found and done:
            assert settle(self.group(name), AckRequest(name, None, tuple(found)), 1, self.now, lambda _: True) == []
        return found


@pytest.fixture
def place() -> Iterator[Place]:
    place = Place()
    yield place
    place.office.close()
    place.loop.close()


def late(place: Place, count: int, *groups: str) -> list[int]:
    """Messages that will appear together, behind where these groups are by then; their msg_ids."""
    for _ in range(count):
        place.put(place.now + DELAY_MS)
    place.put()
    place.commit()
    (last,) = {place.take(name)[-1] for name in groups}
    place.commit()
    return list(range(last - count, last))


def test_what_is_done_does_not_come_again_when_a_crash_comes_between_the_slices(place: Place) -> None:
    expected = late(place, 12, "g", "h")
    place.now += DELAY_MS
    assert place.office.tick(place.now, 4)
    assert place.take("g") == expected[:4]
    place.commit()
    place.crash()
    assert place.take("g") == expected[4:]
    place.commit()
    place.crash()
    assert place.take("h") == expected
    place.commit()
    place.crash()
    assert place.take("g") == place.take("h") == []


def test_what_is_done_between_the_slices_is_forgotten_after_them(place: Place) -> None:
    expected = late(place, 12, "g")
    place.now += DELAY_MS
    assert place.office.tick(place.now, 4)
    assert place.take("g") == expected[:4]
    assert len(place.group("g").open) == 4
    while place.office.tick(place.now, 4):
        pass
    assert sorted(place.group("g").open) == expected[4:]
    assert place.take("g") == expected[4:]
    place.commit()
    # The same, with what the broker knew before it was started again.
    expected = late(place, 12, "g")
    place.now += DELAY_MS
    assert place.office.tick(place.now, 4)
    assert place.take("g") == expected[:4]
    place.commit()
    place.crash()
    assert len(place.group("g").open) == 4
    place.pass_time(0)
    assert place.take("g") == expected[4:]
    assert len(place.group("g").open) == 0


def test_a_message_that_is_stored_between_the_slices_of_its_time_is_seen_at_once_and_given_once(place: Place) -> None:
    expected = late(place, 12, "g")
    place.now += DELAY_MS
    place.put(place.now)
    place.put()
    assert place.office.tick(place.now, 4)
    place.commit()
    found = place.take("g")
    assert found == [*expected[:4], expected[-1] + 2, expected[-1] + 3]
    place.commit()
    place.crash()
    place.pass_time(0)
    assert place.take("g") == expected[4:]


def test_thousands_that_appear_at_once_are_told_to_nobody_and_heard_by_who_asks(place: Place) -> None:
    names = [f"g{number}" for number in range(300)]
    expected = late(place, 3_000, *names)
    place.pass_time(DELAY_MS)
    assert {len(place.group(name).open) for name in names} == {0}
    assert place.group("g7").state_of(expected[0], 3) == ("waiting", 0)
    assert place.take("g7", done=False) == expected
    assert place.group("g7").state_of(expected[0], 3) == ("leased", 1)
    assert place.group("g8").state_of(expected[0], 3) == ("waiting", 0)
    place.commit()
    place.crash()
    assert place.take("g7") == []
    assert place.take("g8") == expected


def test_what_a_group_hears_of_in_slices_it_gives_when_it_has_heard_all(place: Place) -> None:
    place.office.groups.slice_max = 10
    expected = late(place, 35, "g")
    place.pass_time(DELAY_MS)
    group = place.group("g")
    assert [place.take("g") for _ in range(3)] == [[], [], []]
    assert [group.ready() for _ in range(2)] == [True, True]
    assert place.take("g") == expected


def listed(place: Place) -> int:
    assert place.mailbox.groups is not None
    return len(place.mailbox.groups.appeared)


def test_what_all_groups_have_heard_of_is_let_go(place: Place) -> None:
    for _ in range(20):
        expected = late(place, 300, "g", "h")
        place.pass_time(DELAY_MS)
        assert place.take("g") == place.take("h") == expected
        place.commit()
        assert listed(place) <= 2 * STRETCH


def test_what_is_gone_is_let_go_though_a_group_never_asks(place: Place) -> None:
    late(place, 1, "idle", "g")
    place.pass_time(DELAY_MS)
    place.take("g")
    for _ in range(60):
        expected = late(place, 300, "g")
        place.pass_time(DELAY_MS)
        assert place.take("g") == expected
        for msg_id in expected:
            operations.delete(place.office, place.mailbox, msg_id, place.now, lambda answer: None)
        place.commit()
    assert listed(place) <= 6 * STRETCH
    place.commit()
    there = [msg_id for msg_id, *_ in place.mailbox.page(0, 31, 1_000, place.now)]
    assert place.take("idle") == [there[0], *there[2:]]
