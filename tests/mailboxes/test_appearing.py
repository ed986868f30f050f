"""Delayed messages that appear behind groups: many at once, in slices, with a crash in between, and none twice or never."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mq9.mailboxes import operations

if TYPE_CHECKING:
    from tests.mailboxes.place import Place

DELAY_MS = 1_000
TICK_MS = 4
# Entries that the list of what has appeared holds in one piece.
STRETCH = 512


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
