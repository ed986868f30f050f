"""Tells what came out: tables for people, one JSON document for programs."""

from __future__ import annotations

import statistics
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from bench.peers.mq9 import Mq9
from bench.writing import amount, duration, rate, size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.machine import Machine
    from bench.rounds import Entry, Outcome

COLUMNS = ("", "median", "lowest … highest", "mq9 is", "p50", "p99", "generator", "others", "what an answer promises")
SUMMARY = ("", "work", "mq9", "against", "median", "mq9 is", "spread", "bar", "reached", "met")


def _about(machine: Machine, rounds: int, scale: float) -> str:
    reduced = "" if scale == 1 else f", at {scale:g} of the size: the figures mean little"
    return (
        f"{machine.cores} x {machine.processor}, {machine.system}, Python {machine.python}, load average "
        f"{machine.load_average:.2f}; fdatasync of 200 B appended {duration(machine.fdatasync_small_us)}, "
        f"of 64 KiB {duration(machine.fdatasync_64k_us)}; medians of {rounds}{reduced}"
    )


def _versions(outcomes: list[Outcome]) -> str:
    """Write who was measured."""
    here = [entry for outcome in outcomes for entry in outcome.entries if entry.version and not entry.peer.yardstick]
    told = dict.fromkeys(f"mq9 {entry.version}" if isinstance(entry.peer, Mq9) else entry.version for entry in here)
    return ", ".join(told)


def _latency(entry: Entry, name: str) -> str:
    value = entry.median_of(name)
    return "" if value is None else duration(value)


def _cells(outcome: Outcome, entry: Entry) -> tuple[str, ...]:
    name = entry.peer.name
    if not entry.counts:
        reason = (entry.missing or entry.failure or "no round was run").splitlines()[0]
        return (name, "none", "", "", "", "", "", "", reason)
    ratio = outcome.ratio(entry)
    lowest, highest = entry.spread()
    quantity = outcome.figure.quantity
    generator = entry.median_of("generator_cores")
    return (
        name,
        amount(entry.median(), quantity),
        f"{amount(lowest, quantity)} … {amount(highest, quantity)}",
        "" if ratio is None else f"{ratio:.2f} x",
        _latency(entry, "p50_us"),
        _latency(entry, "p99_us"),
        "" if generator is None else f"{generator:.2f} cores",
        f"{statistics.median(entry.others_cores):.2f} cores",
        entry.peer.promise,
    )


def _detail(name: str, value: float) -> str:
    """Write a detail by the unit its name ends in."""
    words, _, unit = name.rpartition("_")
    match unit:
        case "us":
            written = duration(value)
        case "bytes":
            written = size(value)
        case "s":
            written = rate(value) + "/s"
        case _:
            words, written = name, f"{value:.3g}"
    return f"{words.removesuffix('_per').replace('_', ' ')} {written}"


def _details(outcome: Outcome) -> list[str]:
    """What else was measured, a line for each entry that has something."""
    lines = []
    for entry in outcome.entries:
        told = (
            [_detail(name, value) for name, value in entry.details().items() if name != "seconds"]
            if entry.counts
            else []
        )
        if told:
            lines.append(f"  {entry.peer.name}: {', '.join(told)}")
    return lines


def _lines(rows: Sequence[tuple[str, ...]], widths: Sequence[int], left: frozenset[int]) -> list[str]:
    """Write rows under each other; the last column and those in `left` begin at their left."""
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row[:-1], widths[:-1], strict=True))
        ]
        lines.append("  ".join(["  " + cells[0], *cells[1:], row[-1]]).rstrip())
    return lines


def _widths(rows: Sequence[tuple[str, ...]]) -> list[int]:
    return [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]


def table(machine: Machine, outcomes: list[Outcome], rounds: int, scale: float = 1.0) -> str:
    """Write the machine in one line, then a block for each figure."""
    rows = {outcome.figure.key: [_cells(outcome, entry) for entry in outcome.entries] for outcome in outcomes}
    widths = _widths([COLUMNS, *(row for block in rows.values() for row in block)])
    lines = [_about(machine, rounds, scale), _versions(outcomes)]
    for outcome in outcomes:
        figure = outcome.figure
        lines += ["", f"{figure.key}  {figure.title}, {figure.unit}: {figure.conditions}"]
        lines += _lines([COLUMNS, *rows[figure.key]], widths, frozenset({0}))
        lines += _details(outcome)
        for bar in figure.bars:
            verdict = bar.judge(outcome)
            lines.append(f"  bar: {bar.words}; {verdict.reached}, {_met(verdict.met)}")
    return "\n".join(lines)


def _met(met: bool | None) -> str:
    return {True: "met", False: "not met", None: "cannot be told"}[met]


def _spread(entry: Entry) -> str:
    """How far apart the rounds lie, as a share of the median."""
    lowest, highest = entry.spread()
    return f"{(highest - lowest) / entry.median():.0%}" if entry.median() else ""


def _summary_rows(outcome: Outcome) -> list[tuple[str, ...]]:
    """A row for each peer and each bar; a bar that compares is in the row of whom it compares with."""
    figure = outcome.figure
    ours = outcome.entries[0]
    mine = amount(ours.median(), figure.quantity) if ours.counts else "none"
    bars = {bar.against: bar for bar in figure.bars if bar.against is not None}
    rows = []
    for bar in (bar for bar in figure.bars if bar.against is None):
        verdict = bar.judge(outcome)
        spread = _spread(ours) if ours.counts else ""
        rows.append(("", "", mine, "", "", "", spread, bar.words, verdict.reached, _met(verdict.met)))
    for entry in outcome.entries[1:]:
        if entry.peer.yardstick:
            continue
        ratio = outcome.ratio(entry)
        there = (
            (amount(entry.median(), figure.quantity), "" if ratio is None else f"{ratio:.2f} x", _spread(entry))
            if entry.counts
            else ("none", "", "")
        )
        compared = bars.get(entry.peer.name)
        judged = None if compared is None else compared.judge(outcome)
        bar_cells = (
            ("", "", "") if compared is None or judged is None else (compared.words, judged.reached, _met(judged.met))
        )
        rows.append(("", "", mine, entry.peer.name, *there, *bar_cells))
    rows = rows or [("", "", mine, "", "", "", _spread(ours) if ours.counts else "", "", "", "")]
    return [(figure.key, f"{figure.title}, {figure.unit}", *rows[0][2:]), *rows[1:]]


def summary(outcomes: list[Outcome]) -> str:
    """Write one table: ours, each peer's, the ratio, how far the rounds lie apart, and whether the bar was met."""
    rows = [SUMMARY, *(row for outcome in outcomes for row in _summary_rows(outcome))]
    return "\n".join(_lines(rows, _widths(rows), frozenset({0, 1, 3, 7, 8})))


def _entry(outcome: Outcome, entry: Entry) -> dict[str, Any]:
    told: dict[str, Any] = {
        "name": entry.peer.name,
        "version": entry.version,
        "promise": entry.peer.promise,
        "syncs": entry.peer.syncs,
        "yardstick": entry.peer.yardstick,
        "missing": entry.missing,
        "failure": entry.failure,
    }
    if entry.counts:
        lowest, highest = entry.spread()
        told |= {"median": entry.median(), "lowest": lowest, "highest": highest, "mq9_ratio": outcome.ratio(entry)}
        told |= {"p50_us": entry.median_of("p50_us"), "p99_us": entry.median_of("p99_us"), "details": entry.details()}
        told["rounds"] = [
            asdict(measured) | {"others_cores": cores}
            for measured, cores in zip(entry.rounds, entry.others_cores, strict=True)
        ]
    return told


def document(machine: Machine, outcomes: list[Outcome], rounds: int, scale: float) -> dict[str, Any]:
    """Gather all that was measured, every round of it. Values are in the figure's unit, others in that their key ends in."""
    figures = []
    for outcome in outcomes:
        figure = outcome.figure
        verdicts = [(bar, bar.judge(outcome)) for bar in figure.bars]
        figures.append(
            {
                "key": figure.key,
                "title": figure.title,
                "conditions": figure.conditions,
                "unit": figure.unit,
                "quantity": figure.quantity.value,
                "entries": [_entry(outcome, entry) for entry in outcome.entries],
                "bars": [
                    {
                        "bar": bar.words,
                        "against": bar.against,
                        "value": bar.value,
                        "reached": verdict.reached,
                        "met": verdict.met,
                    }
                    for bar, verdict in verdicts
                ],
            }
        )
    return {"machine": asdict(machine), "rounds": rounds, "scale": scale, "figures": figures}
