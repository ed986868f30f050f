"""What touches all that is open in a group takes it a slice at a time, and a crash between the slices leaves nothing half done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mq9.mailboxes import operations
from mq9.mailboxes.groups import Fetch
from mq9.mailboxes.settling import settle
from mq9.protocol import AckRequest, ProtocolError
from mq9.store.contract import Table
from tests.mailboxes.stored import rows_of

if TYPE_CHECKING:
    from mq9.mailboxes.group import Handout
    from tests.mailboxes.place import Place

SLICE = 4


class Waiting(Fetch):
    """A FETCH that waits for what never comes, and notes how that ended."""

    def __init__(self, place: Place) -> None:
        super().__init__(
            place.office.groups, place.mailbox, place.group("g"), 1, 1 << 20, 1_000, 1, place.now + 100_000
        )
        self.ended = 0

    def is_open(self) -> bool:
        return True

    def answer(self, handout: Handout | None) -> None:
        raise AssertionError(handout)

    def mailbox_ended(self) -> None:
        self.ended += 1


def say(place: Place, op: str, *msg_ids: int) -> None:
    assert settle(place.group("g"), AckRequest("g", None, msg_ids, op), 1, place.now, lambda _: True) == []


def leased(place: Place, count: int) -> list[int]:
    """So many messages, which a worker has."""
    for _ in range(count):
        place.put()
    place.commit()
    return place.take("g", done=False)


def start_over(place: Place, from_id: int) -> int:
    """Make the group start over with slices of four; returns in how many more slices it did."""
    place.office.groups.slice_max = SLICE
    place.group("g").start(from_id)
    return slices(place)


def slices(place: Place) -> int:
    count = 0
    while not place.group("g").ready():
        count += 1
    return count


def test_a_group_starts_over_a_slice_at_a_time(place: Place) -> None:
    msg_ids = leased(place, 40)
    say(place, "nack", *msg_ids[:10])
    say(place, "ack", *msg_ids[10:20])
    # What is leased stays; what was given back before the new beginning counts as done; what was done comes again.
    assert start_over(place, msg_ids[5]) == 30 // SLICE - 1
    assert place.take("g") == msg_ids[5:20]
    assert place.take("g") == []


def test_nothing_is_given_out_between_the_slices(place: Place) -> None:
    msg_ids = leased(place, 40)
    place.office.groups.slice_max = SLICE
    place.group("g").start(1)
    place.put()
    place.commit()
    asked = 0
    while place.group("g").lease(1, 1 << 20, 1_000, 1, place.now) is None:
        asked += 1
    assert asked >= len(msg_ids) // SLICE - 2


def test_a_crash_between_the_slices_undoes_the_start(place: Place) -> None:
    msg_ids = leased(place, 40)
    say(place, "nack", *msg_ids[:20])
    place.commit()
    # Answered before, and with the next commit, in which nothing of the start may be.
    say(place, "ack", *msg_ids[20:30])
    place.office.groups.slice_max = SLICE
    place.group("g").start(msg_ids[-1] + 1)
    place.commit()
    assert not place.group("g").ready()
    place.commit()
    place.crash()
    assert place.take("g") == msg_ids[:20]
    assert sorted(place.group("g").open) == msg_ids[30:]


def test_what_was_changed_before_the_start_is_stored_when_a_commit_fails_in_between(place: Place) -> None:
    msg_ids = leased(place, 40)
    place.commit()
    say(place, "ack", *msg_ids[:30])
    assert start_over(place, msg_ids[-1] + 1)
    batch = place.office.seal(place.now)
    assert batch is not None
    place.office.fail(batch, ProtocolError(503, "the storage is unavailable"))
    place.office.accept()
    place.commit()
    place.crash()
    assert place.take("g") == []
    assert sorted(place.group("g").open) == msg_ids[30:]


def test_a_finished_start_is_durable_with_the_next_commit(place: Place) -> None:
    msg_ids = leased(place, 40)
    say(place, "ack", *msg_ids)
    place.commit()
    assert start_over(place, msg_ids[8]) == 0
    place.commit()
    place.crash()
    assert place.take("g") == msg_ids[8:]


def test_a_start_begun_anew_in_the_middle_is_the_later_one(place: Place) -> None:
    msg_ids = leased(place, 40)
    say(place, "nack", *msg_ids)
    place.office.groups.slice_max = SLICE
    place.group("g").start(msg_ids[20])
    assert start_over(place, msg_ids[30])
    assert place.take("g") == msg_ids[30:]


def test_the_groups_of_an_ended_mailbox_are_taken_apart_a_slice_at_a_time(place: Place) -> None:
    for _ in range(300):
        place.put()
    place.commit()
    for name in ("g", "h", "i"):
        assert len(place.take(name, done=False)) == 300
    place.commit()
    waits = [Waiting(place) for _ in range(3)]
    for fetch in waits:
        place.office.groups.wait(fetch)
    operations.remove(place.office, place.mailbox, lambda answer: None)
    place.commit()
    assert place.office.groups.groups == 0
    count = 1
    while place.office.tick(place.now, 100):
        count += 1
    assert count >= 3 * 300 // 100
    assert [fetch.ended for fetch in waits] == [1, 1, 1]
    place.commit()
    assert rows_of(place.store, place.loop, Table.GROUPS) == []
    place.pass_time(200_000)  # nobody's lease is left to run out, and no FETCH to give up
    assert place.office.timers.count == 0


def test_a_crash_while_groups_are_taken_apart_leaves_nothing_of_them(place: Place) -> None:
    leased(place, 300)
    place.commit()
    operations.remove(place.office, place.mailbox, lambda answer: None)
    place.commit()
    place.office.tick(place.now, 100)
    place.commit()
    place.crash()
    place.pass_time(0)
    place.commit()
    assert rows_of(place.store, place.loop, Table.GROUPS) == []


def test_the_dead_are_listed_page_by_page(place: Place) -> None:
    msg_ids = leased(place, 100)
    say(place, "dead", *reversed(msg_ids))
    say(place, "revive", *msg_ids[10:20])
    found: list[int] = []
    after: int | None = 0
    pages = 0
    while after is not None:
        page, end = place.office.groups.dead(place.group("g"), after, 8, place.now)
        assert len(page) <= 8
        found += [msg_id for msg_id, *_ in page]
        after = end
        pages += 1
    assert found == msg_ids[:10] + msg_ids[20:]
    assert pages == 1 + -(-100 // 8)


def test_messages_that_are_gone_are_cleared_away_a_slice_at_a_time(place: Place) -> None:
    msg_ids = leased(place, 3_000)
    say(place, "dead", *msg_ids)
    for msg_id in msg_ids:
        place.office.remove_message(place.mailbox, msg_id)
    sizes = []
    for _ in range(4):
        place.put()
        place.commit()
        assert len(place.take("g", count=1)) == 1
        sizes.append(len(place.group("g").open))
    # The first 1,024 had been looked at already when they were leased.
    assert sizes == [3_000 - 1_024, 1_024, 1_024, 1_024]
