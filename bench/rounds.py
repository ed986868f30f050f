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

from bench.generator import Load, RunFailedError
from bench.machine import Bystanders

if TYPE_CHECKING:
    from bench.figures.base import Figure
    from bench.peers.base import Peer


@dataclass(slots=True)
class Entry:
    """What one peer did: a Load for each round, or why there is none.

    `missing` says why it cannot be measured on this machine, `failure` what was not as promised. `others_cores` has, for
    each round, how many cores were busy with something else: with much of that, somebody else was measured, too.
    """

    peer: Peer
    version: str
    missing: str | None = None
    failure: str | None = None
    loads: list[Load] = field(default_factory=list)
    others_cores: list[float] = field(default_factory=list)

    @property
    def counts(self) -> bool:
        """Whether there is a figure to report: every round ended well."""
        return self.missing is None and self.failure is None and bool(self.loads)

    def median(self, name: str = "rate") -> float:
        """Return the median over the rounds of one of a Load's values."""
        values: list[float] = [getattr(load, name) for load in self.loads]
        return statistics.median(values)

    def spread(self) -> tuple[float, float]:
        """Return the lowest and the highest rate of any round."""
        rates = [load.rate for load in self.loads]
        return min(rates), max(rates)


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


def _run(figure: Figure, entry: Entry, directory: Path, scale: float) -> None:
    """Run it once; what goes wrong ends this entry, not the others."""
    place = Path(tempfile.mkdtemp(prefix=f"{figure.key}-", dir=directory))
    os.sync()
    bystanders = Bystanders()
    try:
        with entry.peer.start(place) as server:
            load = figure.measure(server, scale * entry.peer.pace)
        entry.loads.append(load)
        entry.others_cores.append(bystanders.cores())
    except RunFailedError as error:
        entry.failure = str(error)
    finally:
        shutil.rmtree(place)
    told = entry.failure or f"{entry.loads[-1].rate:,.0f} {figure.unit}"
    print(f"{figure.key} {entry.peer.name}: {told}", file=sys.stderr, flush=True)


def play(figure: Figure, directory: Path, rounds: int, scale: float) -> Outcome:
    """Measure `figure` in `rounds` rounds; servers keep their files below `directory`, which exists.

    `scale` multiplies the number of messages: below 1.0 the figures mean little and the run is short.
    """
    entries = []
    for peer in figure.peers:
        reason = peer.missing()
        entries.append(Entry(peer, peer.version() if reason is None else "", missing=reason))
    for _ in range(rounds):
        for entry in entries:
            if entry.missing is None and entry.failure is None:
                _run(figure, entry, directory, scale)
    return Outcome(figure, entries)
