"""Whether what was watched stayed flat: what it was in the first third of the time that counts, against the last third."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from bench.writing import Quantity, amount

if TYPE_CHECKING:
    from collections.abc import Sequence

_MIB: Final = 1024.0**2
# The broker itself holds some things for two minutes: ids of messages (docs/protocol.md, Nats-Msg-Id), and blocks with those.
SETTLES_S: Final = 150.0
WARM_UP_MAX_S: Final = 600.0


def warm_up_s(seconds: float) -> float:
    """How much of a run does not count: ten minutes of an hour or more, a sixth of less, but what it takes to settle; at most a half."""
    return min(WARM_UP_MAX_S, max(seconds / 6, SETTLES_S), seconds / 2)


@dataclass(frozen=True, slots=True)
class Watched:
    """Something that must not grow: by no more than `share` of what it was and `beside`, in its own unit."""

    name: str
    quantity: Quantity | None
    share: float
    beside: float

    def write(self, value: float) -> str:
        """Write a value of it."""
        return f"{value:.3g}" if self.quantity is None else amount(value, self.quantity)


# The broker has its C library keep freed memory (server/process.py), so what is resident comes in steps of some megabytes.
MEMORY: Final = Watched("resident memory", Quantity.BYTES, share=0.1, beside=24 * _MIB)
DISK: Final = Watched("disk", Quantity.BYTES, share=0.05, beside=64 * _MIB)
DESCRIPTORS: Final = Watched("descriptors", None, share=0.05, beside=16)
LATENCY: Final = Watched("p99, send to receiver", Quantity.MICROSECONDS, share=0.5, beside=2_000.0)
JUDGED: Final = (MEMORY, DISK, DESCRIPTORS, LATENCY)
# How many cores were busy with something that is none of this: not the broker's to keep flat, but messages take longer for it.
OTHERS: Final = Watched("cores busy otherwise", None, share=0.0, beside=0.25)


@dataclass(slots=True)
class Series:
    """Values of something, each with when it was taken, in seconds from the beginning."""

    watched: Watched
    points: list[tuple[float, float]] = field(default_factory=list)

    def add(self, at_s: float, value: float) -> None:
        """Take one."""
        self.points.append((at_s, value))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a series was in the first third and the last third of what counts, and the most that it may be in the last."""

    watched: Watched
    first: float
    last: float
    allowed: float

    @property
    def flat(self) -> bool:
        """Whether it did not grow."""
        return self.last <= self.allowed

    def __str__(self) -> str:
        write = self.watched.write
        told = f"{write(self.first)}, then {write(self.last)}; {write(self.allowed)} allowed"
        return f"{self.watched.name:24} {'flat' if self.flat else 'GROWS':6} {told}"


def judge_all(series: Sequence[Series], from_s: float, to_s: float) -> list[tuple[Series, Verdict | None]]:
    """Judge all that is to be judged; how long messages took only if the machine was not busier with something else in the end."""
    by_name = {each.watched.name: each for each in series}
    others = judge(by_name[OTHERS.name], from_s, to_s)
    disturbed = others is not None and not others.flat
    judged: list[tuple[Series, Verdict | None]] = []
    for watched in JUDGED:
        each = by_name[watched.name]
        judged.append((each, None if disturbed and watched is LATENCY else judge(each, from_s, to_s)))
    return judged


def judge(series: Series, from_s: float, to_s: float) -> Verdict | None:
    """Hold the last third of the time between `from_s` and `to_s` against the first; None when nothing was taken in one."""
    third = (to_s - from_s) / 3
    first = [value for at, value in series.points if from_s <= at < from_s + third]
    last = [value for at, value in series.points if to_s - third <= at <= to_s]
    if not first or not last:
        return None
    before, after = statistics.median(first), statistics.median(last)
    watched = series.watched
    return Verdict(watched, before, after, before * (1 + watched.share) + watched.beside)
