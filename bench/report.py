"""Tells what came out: one table for people, one JSON document for programs."""

from __future__ import annotations

import statistics
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.machine import Machine
    from bench.rounds import Entry, Outcome

COLUMNS = ("", "median", "lowest … highest", "mq9 is", "p50", "p99", "generator", "others", "what an answer promises")


def _rate(value: float) -> str:
    """Write a rate per second in at most six characters."""
    for limit, divisor, suffix in ((1e6, 1e6, " M"), (1e3, 1e3, " k")):
        if value >= limit:
            scaled = value / divisor
            return f"{scaled:.2f}{suffix}" if scaled < 10 else f"{scaled:.1f}{suffix}"
    return f"{value:.0f}"


def _time(microseconds: float) -> str:
    return f"{microseconds / 1000:.1f} ms" if microseconds >= 1000 else f"{microseconds:.0f} µs"


def _about(machine: Machine, rounds: int) -> str:
    return (
        f"{machine.cores} x {machine.processor}, {machine.system}, Python {machine.python}, load average "
        f"{machine.load_average:.2f}; fdatasync of 200 B appended {_time(machine.fdatasync_small_us)}, "
        f"of 64 KiB {_time(machine.fdatasync_64k_us)}; medians of {rounds}"
    )


def _cells(outcome: Outcome, entry: Entry) -> tuple[str, ...]:
    name = entry.peer.name
    if not entry.counts:
        reason = (entry.missing or entry.failure or "no round was run").splitlines()[0]
        return (name, "none", "", "", "", "", "", "", reason)
    ratio = outcome.ratio(entry)
    lowest, highest = entry.spread()
    return (
        name,
        _rate(entry.median()),
        f"{_rate(lowest)} … {_rate(highest)}",
        "" if ratio is None else f"{ratio:.2f} x",
        _time(entry.median("p50_us")),
        _time(entry.median("p99_us")),
        f"{entry.median('generator_cores'):.2f} cores",
        f"{statistics.median(entry.others_cores):.2f} cores",
        entry.peer.promise,
    )


def table(machine: Machine, outcomes: list[Outcome], rounds: int) -> str:
    """Write the machine in one line, then a block for each figure."""
    rows = {outcome.figure.key: [_cells(outcome, entry) for entry in outcome.entries] for outcome in outcomes}
    every_row = [COLUMNS, *(row for block in rows.values() for row in block)]
    widths = [max(len(row[column]) for row in every_row) for column in range(len(COLUMNS))]

    def line(cells: tuple[str, ...]) -> str:
        first = cells[0].ljust(widths[0])
        middle = [cell.rjust(width) for cell, width in zip(cells[1:-1], widths[1:-1], strict=True)]
        return "  ".join(["  " + first, *middle, cells[-1]]).rstrip()

    lines = [_about(machine, rounds)]
    for outcome in outcomes:
        figure = outcome.figure
        lines += ["", f"{figure.key}  {figure.title}, {figure.unit}: {figure.conditions}", line(COLUMNS)]
        lines += [line(row) for row in rows[figure.key]]
    return "\n".join(lines)


def _entry(outcome: Outcome, entry: Entry) -> dict[str, Any]:
    told: dict[str, Any] = {
        "name": entry.peer.name,
        "version": entry.version,
        "promise": entry.peer.promise,
        "yardstick": entry.peer.yardstick,
        "missing": entry.missing,
        "failure": entry.failure,
    }
    if entry.counts:
        lowest, highest = entry.spread()
        told |= {"median": entry.median(), "lowest": lowest, "highest": highest, "mq9_ratio": outcome.ratio(entry)}
        told["rounds"] = [
            asdict(load) | {"others_cores": cores} for load, cores in zip(entry.loads, entry.others_cores, strict=True)
        ]
    return told


def document(machine: Machine, outcomes: list[Outcome], rounds: int, scale: float) -> dict[str, Any]:
    """Gather all that was measured, every round of it. Rates are per second, times in the unit their key ends in."""
    figures = [
        {
            "key": outcome.figure.key,
            "title": outcome.figure.title,
            "conditions": outcome.figure.conditions,
            "unit": outcome.figure.unit,
            "entries": [_entry(outcome, entry) for entry in outcome.entries],
        }
        for outcome in outcomes
    ]
    return {"machine": asdict(machine), "rounds": rounds, "scale": scale, "figures": figures}
