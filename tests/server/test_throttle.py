"""Who keeps failing to say who they are is slowed down, by address, and nobody else is."""

from __future__ import annotations

import pytest

from mq9.server.throttle import ADDRESSES_MAX, FORGOTTEN_AFTER_S, FREE_FAILURES, PAUSE_FIRST_S, PAUSE_MAX_S, Throttle

BAD = "192.0.2.1"
PATIENCE_S = 2.0


def failed(times: int, address: str = BAD, now: float = 0.0) -> Throttle:
    throttle = Throttle()
    for _ in range(times):
        throttle.failed(address, now)
    return throttle


def test_the_first_failures_cost_nothing() -> None:
    assert failed(FREE_FAILURES - 1).wait(BAD, 0.0, PATIENCE_S) == 0.0


def test_the_next_attempts_take_turns_that_get_longer() -> None:
    throttle = failed(FREE_FAILURES)
    waits = []
    now = 0.0
    for _ in range(8):
        wait = throttle.wait(BAD, now, PATIENCE_S)
        assert wait is not None
        waits.append(wait)
        now += wait
        throttle.failed(BAD, now)
    assert waits[:3] == pytest.approx([0.0, PAUSE_FIRST_S, 2 * PAUSE_FIRST_S])
    assert waits == sorted(waits)
    assert waits[-1] == pytest.approx(PAUSE_MAX_S)


def test_many_at_once_wait_one_behind_the_other_and_not_for_ever() -> None:
    throttle = failed(FREE_FAILURES + 3)
    waits = [throttle.wait(BAD, 0.0, PATIENCE_S) for _ in range(100)]
    turns = [wait for wait in waits if wait is not None]
    assert turns == sorted(set(turns))
    assert max(turns) <= PATIENCE_S
    assert None in waits
    assert throttle.wait(BAD, PATIENCE_S + PAUSE_MAX_S, PATIENCE_S) == 0.0, "who took no turn holds up nobody later"


def test_other_addresses_are_not_slowed_down() -> None:
    throttle = failed(100)
    assert throttle.wait("192.0.2.2", 0.0, PATIENCE_S) == 0.0
    assert throttle.wait("2001:db8::1", 0.0, PATIENCE_S) == 0.0


def test_an_ipv6_network_is_one_address() -> None:
    throttle = failed(FREE_FAILURES, "2001:db8:1:2::1")
    assert throttle.wait("2001:db8:1:2:ffff::9", 0.0, PATIENCE_S) == 0.0
    assert throttle.wait("2001:db8:1:2::1", 0.0, PATIENCE_S) == PAUSE_FIRST_S
    assert throttle.wait("2001:db8:1:3::1", 0.0, PATIENCE_S) == 0.0
    mapped = failed(FREE_FAILURES, f"::ffff:{BAD}")
    assert mapped.wait(BAD, 0.0, PATIENCE_S) == 0.0
    assert mapped.wait(f"::ffff:{BAD}", 0.0, PATIENCE_S) == PAUSE_FIRST_S


def test_failures_are_forgotten() -> None:
    throttle = failed(100)
    assert throttle.wait(BAD, FORGOTTEN_AFTER_S + 1, PATIENCE_S) == 0.0
    throttle.failed(BAD, FORGOTTEN_AFTER_S + 1)
    assert throttle.wait(BAD, FORGOTTEN_AFTER_S + 1, PATIENCE_S) == 0.0


def test_no_more_addresses_are_remembered_than_there_is_room_for() -> None:
    throttle = failed(FREE_FAILURES)
    for number in range(ADDRESSES_MAX - 1):
        throttle.failed(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 1.0)
    throttle.wait(BAD, 1.0, PATIENCE_S)
    assert throttle.wait(BAD, 1.0, PATIENCE_S) == pytest.approx(PAUSE_FIRST_S), "as many as there is room for"
    throttle.failed("one.more", 1.0)
    assert throttle.wait(BAD, 1.0, PATIENCE_S) == 0.0, "the one that failed longest ago is forgotten"
