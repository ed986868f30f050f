"""What a figure must reach, and whether it did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.writing import Quantity, amount

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.rounds import Entry, Outcome


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a bar was met; None when that cannot be told, because somebody has no figure. `reached` says what was."""

    reached: str
    met: bool | None


@dataclass(frozen=True, slots=True)
class Bar:
    """Something to reach, in words, and how that is judged.

    `against` is the peer that it compares with, and `value` what there is to reach, where it is one of those.
    """

    words: str
    judge: Callable[[Outcome], Verdict]
    against: str | None = None
    value: float | None = None


UNKNOWN = Verdict("no figure", None)


def times(factor: float, peer: str) -> Bar:
    """Our median is at least `factor` times that of the peer of this name."""

    def judge(outcome: Outcome) -> Verdict:
        ours, theirs = outcome.entries[0], outcome.named(peer)
        if not ours.counts or theirs is None or not theirs.counts:
            return UNKNOWN
        ratio = ours.median() / theirs.median()
        return Verdict(f"{ratio:.2f} x", ratio >= factor)

    return Bar(f"{factor:g} x {peer}", judge, against=peer, value=factor)


def at_least(value: float, quantity: Quantity) -> Bar:
    """Our median is `value` or more."""
    return _limit(value, quantity, "at least", lambda median: median >= value)


def at_most(value: float, quantity: Quantity) -> Bar:
    """Our median is `value` or less."""
    return _limit(value, quantity, "at most", lambda median: median <= value)


def _limit(value: float, quantity: Quantity, words: str, holds: Callable[[float], bool]) -> Bar:
    def judge(outcome: Outcome) -> Verdict:
        ours = outcome.entries[0]
        if not ours.counts:
            return UNKNOWN
        return Verdict(amount(ours.median(), quantity), holds(ours.median()))

    return Bar(f"{words} {amount(value, quantity)}", judge, value=value)


def of_our_runs(words: str, judge: Callable[[Entry], Verdict]) -> Bar:
    """Whatever `judge` makes of our own runs."""
    return Bar(words, lambda outcome: judge(outcome.entries[0]) if outcome.entries[0].counts else UNKNOWN)


def of_all(words: str, judge: Callable[[Outcome], Verdict]) -> Bar:
    """Whatever `judge` makes of everybody's runs, if everybody has a figure."""

    def judged(outcome: Outcome) -> Verdict:
        compared = [entry for entry in outcome.entries if not entry.peer.yardstick]
        return judge(outcome) if all(entry.counts for entry in compared) else UNKNOWN

    return Bar(words, judged)
