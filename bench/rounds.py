"""Runs one figure against each of its peers in turn, several rounds of it, and sums up what came out.

A B A B …, so that whatever the machine does meanwhile happens to everybody. Every run has a freshly started server on
an empty directory, and begins when the disk has nothing left to write from the run before.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bench.generator import RunFailedError
from bench.machine import Bystanders
from bench.writing import amount

if TYPE_CHECKING:
    from bench.figures.base import Figure, Measured
    from bench.peers.base import Peer


@dataclass(slots=True)
class Entry:
    """What one peer did: a Measured for each round, or why there is none.

    `missing` says why it cannot be measured on this machine, `failure` what was not as promised. `others_cores` has, for
    each round, how many cores were busy with something else: with much of that, somebody else was measured, too.
    """

    peer: Peer
    version: str
    missing: str | None = None
    failure: str | None = None
    rounds: list[Measured] = field(default_factory=list)
    others_cores: list[float] = field(default_factory=list)

    @property
    def counts(self) -> bool:
        """Whether there is a figure to report: every round ended well."""
        return self.missing is None and self.failure is None and bool(self.rounds)

    def median(self) -> float:
        """Return the median of the rounds' values."""
        return statistics.median(measured.value for measured in self.rounds)

    def spread(self) -> tuple[float, float]:
        """Return the lowest and the highest value of any round."""
        values = [measured.value for measured in self.rounds]
        return min(values), max(values)

    def median_of(self, name: str) -> float | None:
        """Return the median of another value: p50_us and the like, or a detail. None where a round has none."""
        values: list[float | None] = [getattr(measured, name, measured.details.get(name)) for measured in self.rounds]
        there = [value for value in values if value is not None]
        return statistics.median(there) if len(there) == len(values) else None

    def details(self) -> dict[str, float]:
        """Return the medians of all details."""
        medians = {name: self.median_of(name) for name in self.rounds[0].details}
        return {name: median for name, median in medians.items() if median is not None}


@dataclass(slots=True)
class Outcome:
    """All entries of one figure, mq9's first."""

    figure: Figure
    entries: list[Entry]

    def ratio(self, entry: Entry) -> float | None:
        """Return our median over the entry's; None for ourselves, for a yardstick, and where either has no figure."""
        ours = self.entries[0]
        if entry is ours or entry.peer.yardstick or not (ours.counts and entry.counts):
            return None
        return ours.median() / entry.median()

    def named(self, name: str) -> Entry | None:
        """Return the entry of the peer of this name."""
        return next((entry for entry in self.entries if entry.peer.name == name), None)


def _run(figure: Figure, entry: Entry, directory: Path, scale: float) -> None:
    """Run it once; what goes wrong ends this entry, not the others."""
    place = Path(tempfile.mkdtemp(prefix=f"{figure.key}-", dir=directory))
    os.sync()
    bystanders = Bystanders()
    try:
        measured = figure.run(entry.peer, place, scale)
        entry.rounds.append(measured)
        entry.others_cores.append(bystanders.cores())
    except RunFailedError as error:
        entry.failure = str(error)
    finally:
        shutil.rmtree(place)
    told = entry.failure or f"{amount(entry.rounds[-1].value, figure.quantity)} {figure.unit}"
    print(f"{figure.key} {entry.peer.name}: {told}", file=sys.stderr, flush=True)


def play(figure: Figure, directory: Path, rounds: int, scale: float) -> Outcome:
    """Measure `figure` in `rounds` rounds; servers keep their files below `directory`, which exists.

    `scale` multiplies the number of messages: below 1.0 the figures mean little and the run is short.
    """
    entries = []
    for peer in figure.peers:
        reason = peer.missing()
        entries.append(Entry(peer, peer.version() if reason is None else "", missing=reason))
    kept = Path(tempfile.mkdtemp(prefix=f"{figure.key}-kept-", dir=directory))
    try:
        figure.prepare(kept, scale)
    except RunFailedError as error:
        for entry in entries:
            entry.failure = f"it could not be prepared: {error}"
    for _ in range(rounds):
        for entry in entries:
            if entry.missing is None and entry.failure is None:
                _run(figure, entry, directory, scale)
    shutil.rmtree(kept)
    return Outcome(figure, entries)
