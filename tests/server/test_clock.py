"""The broker's clock by itself: what it takes over from the broker before, and what it does not.

What somebody does to the system's clock is done to it in tests/faults/test_clock.py.
"""

from __future__ import annotations

import struct
import time

import pytest

from mq9.mailboxes.format import DamagedError, seal_row
from mq9.server.clock import CLOCK_KEY, SteadyClock, boot_id

BOOT = b"this boot"
MS = 1_000_000
TOLERANCE_MS = 500


def system_ms() -> float:
    return time.time_ns() / MS


def row(ahead_ms: int, lag_ms: int = 0, boot: bytes = BOOT) -> bytes:
    """What a broker stored whose clock is ahead of the system's, and just began to make up for `lag_ms`."""
    booted = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    return seal_row(CLOCK_KEY, struct.pack("<Bqqq", 1, booted, time.time_ns() + ahead_ms * MS, lag_ms * MS) + boot)


def test_it_shows_what_the_system_shows() -> None:
    clock = SteadyClock(boot_id())
    assert abs(clock() - system_ms()) < TOLERANCE_MS
    assert clock.follow() == 0
    assert clock.lag_ms == 0
    assert [type(clock()), clock() <= clock()] == [int, True]


@pytest.mark.parametrize("ahead_ms", [-3_600_000, 3_600_000])
def test_it_goes_on_where_the_last_one_was_and_makes_up_for_what_is_between(ahead_ms: int) -> None:
    clock = SteadyClock(BOOT)
    assert clock.take_up(row(ahead_ms))
    assert abs(clock() - system_ms() - ahead_ms) < TOLERANCE_MS
    # The last broker's clock was where the system's was: so that was set meanwhile.
    assert abs(clock.follow() + ahead_ms) < TOLERANCE_MS
    assert abs(clock.lag_ms + ahead_ms) < TOLERANCE_MS
    assert clock.follow() == 0
    after = SteadyClock(BOOT)
    assert after.take_up(clock.pack())
    assert after.follow() == 0
    assert abs(after() - clock()) < TOLERANCE_MS


def test_what_was_made_up_is_made_up_when_it_is_taken_up_later() -> None:
    booted = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    hour_ago = booted - 3_600_000 * MS
    # An hour ago it was a minute behind; by now it has made up 36 of the 60 seconds, and yesterday's would have made up for all.
    body = struct.pack("<Bqqq", 1, hour_ago, time.time_ns() - 3_660_000 * MS, 60_000 * MS) + BOOT
    clock = SteadyClock(BOOT)
    assert clock.take_up(seal_row(CLOCK_KEY, body))
    assert abs(clock.lag_ms - 24_000) < TOLERANCE_MS
    assert abs(system_ms() - clock() - 24_000) < TOLERANCE_MS
    assert clock.follow() == 0


@pytest.mark.parametrize(
    ("value", "boot"),
    [
        pytest.param(row(3_600_000), b"another boot", id="the machine was booted since"),
        pytest.param(row(3_600_000, boot=b""), b"", id="boots cannot be told apart"),
        pytest.param(row(90_000_000), BOOT, id="more than a day ahead"),
        pytest.param(row(-90_000_000), BOOT, id="more than a day behind"),
    ],
)
def test_it_does_not_go_on(value: bytes, boot: bytes) -> None:
    clock = SteadyClock(boot)
    assert not clock.take_up(value)
    assert abs(clock() - system_ms()) < TOLERANCE_MS


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"", id="empty"),
        pytest.param(row(0)[:-1], id="cut short"),
        pytest.param(bytes([row(0)[0] ^ 1]) + row(0)[1:], id="flipped"),
        pytest.param(seal_row(CLOCK_KEY, b"\1short"), id="too short"),
        pytest.param(seal_row(CLOCK_KEY, b"\2" + bytes(24) + BOOT), id="another version"),
    ],
)
def test_a_damaged_row_is_told_and_changes_nothing(value: bytes) -> None:
    clock = SteadyClock(BOOT)
    with pytest.raises(DamagedError):
        clock.take_up(value)
    assert abs(clock() - system_ms()) < TOLERANCE_MS
