"""A log in a flood of lines: the first few of a sentence, and how many more there were."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from mq9.server.quiet import LINES_MAX, WINDOW_S, Quiet

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger("mq9.test")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def quiet(clock: Clock, caplog: pytest.LogCaptureFixture) -> Iterator[Quiet]:
    """A quiet logger, whose lines `caplog` has."""
    caplog.set_level(logging.INFO, "mq9.test")
    made = Quiet(log, clock)
    log.addFilter(made)
    yield made
    log.removeFilter(made)


def test_the_first_lines_of_a_sentence_are_written_and_the_rest_is_counted(
    quiet: Quiet, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(LINES_MAX + 1_000):
        log.info("client %d was cut off", number)
    log.info("another sentence")
    written = [f"client {number} was cut off" for number in range(LINES_MAX)]
    assert caplog.messages == [*written, "another sentence"]
    clock.now = WINDOW_S - 0.1
    quiet.tell()
    assert len(caplog.messages) == LINES_MAX + 1
    clock.now = WINDOW_S
    quiet.tell()
    last = f"client {LINES_MAX + 999} was cut off"
    assert caplog.messages[LINES_MAX + 1 :] == [f"1000 more in the last 10 s like this one: {last}"]
    quiet.tell()
    log.info("client %d was cut off", 0)
    assert caplog.messages[LINES_MAX + 2 :] == ["client 0 was cut off"]


def test_as_many_as_are_written_are_not_told_of_again(
    quiet: Quiet, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(LINES_MAX):
        log.info("a sentence")
    clock.now = WINDOW_S
    quiet.tell()
    assert len(caplog.messages) == LINES_MAX


def test_errors_are_all_written(quiet: Quiet, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(LINES_MAX * 2):
        log.error("block %d is damaged", number)
    assert len(caplog.messages) == LINES_MAX * 2
