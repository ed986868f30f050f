"""Draws what was measured: a bar for mq9 and for each peer, figure by figure.

`python -m bench.plot build/bench.json docs/bench.svg P1 P4` draws a run anew, or some of its figures.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from bench.svg import Drawing
from bench.writing import Quantity, amount

WIDTH = 880
_LABELS = 200  # up to where the bars begin
_BARS = 510  # of the longest
_ROW = 19
_BAR = 13
_HEADING = 24
_GAP = 16


def _shown(figure: dict[str, Any], words: list[str]) -> bool:
    """Whether a figure is drawn: mq9 has one and somebody to be compared with; or its key is asked for."""
    compared = [entry for entry in figure["entries"] if not entry["yardstick"] and entry.get("median") is not None]
    asked_for = not words or any(figure["key"].lower().startswith(word.lower()) for word in words)
    return asked_for and len(compared) > 1 and compared[0] is figure["entries"][0]


def _marks(figure: dict[str, Any]) -> list[float]:
    """Where the bars are that mq9 has to reach."""
    medians = {entry["name"]: entry.get("median") for entry in figure["entries"]}
    marks = []
    for bar in figure["bars"]:
        against = 1.0 if bar["against"] is None else medians.get(bar["against"])
        if bar["value"] is not None and against is not None:
            marks.append(bar["value"] * against)
    return marks


def _draw(drawing: Drawing, top: float, figure: dict[str, Any]) -> float:
    """Draw one figure below `top`; return where it ends."""
    quantity = Quantity(figure["quantity"])
    entries = [entry for entry in figure["entries"] if not entry["yardstick"]]
    marks = _marks(figure)
    longest = max([entry.get("median") or 0.0 for entry in entries] + marks)
    better = "more" if quantity.more_is_better else "less"
    drawing.text(0, top + 14, f"{figure['title']}", "ink strong")
    drawing.text(WIDTH, top + 14, f"{figure['unit']}, {better} is better", "faint", "end")
    y = top + _HEADING
    for entry in entries:
        drawing.text(_LABELS - 8, y + 11, entry["name"], "ink", "end")
        median = entry.get("median")
        if median is None:
            drawing.text(_LABELS, y + 11, "could not be measured here", "faint")
        else:
            length = _BARS * median / longest
            kind = "ours" if _is_ours(entry) else "weaker" if entry["syncs"] is False else "theirs"
            drawing.bar(_LABELS, y, max(length, 1.0), _BAR, kind)
            drawing.text(_LABELS + length + 6, y + 11, _value(entry, quantity), "faint")
        if entry is entries[0]:
            for mark in marks:
                at = _LABELS + _BARS * mark / longest
                drawing.line([(at, y - 3), (at, y + _BAR + 3)], "mark")
        y += _ROW
    return y + _GAP


def _value(entry: dict[str, Any], quantity: Quantity) -> str:
    """Write an entry's median, and of a peer what we are in comparison."""
    ratio = entry.get("mq9_ratio")
    if ratio is None or _is_ours(entry):
        return amount(entry["median"], quantity)
    times = f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.2g}"
    return f"{amount(entry['median'], quantity)}  (mq9: {times} x)"


def _is_ours(entry: dict[str, Any]) -> bool:
    """Whether an entry is mq9, as it is or in another setting."""
    return bool(entry["name"].partition(",")[0] == "mq9")


def draw(document: dict[str, Any], words: list[str] | None = None) -> str:
    """Draw the figures of a document of bench/report.py that mq9 has somebody to be compared with in.

    `words` name some of them. Returns SVG.
    """
    drawing = Drawing(WIDTH, "mq9 and its peers, measured side by side")
    machine = document["machine"]
    drawing.text(
        0,
        14,
        f"{machine['cores']} x {machine['processor']}, {machine['system']}; medians of {document['rounds']}",
        "faint",
    )
    drawing.bar(0, 27, 22, _BAR, "theirs")
    drawing.text(28, 38, "fsync before the answer, or nothing to sync", "faint")
    drawing.bar(330, 27, 22, _BAR, "weaker")
    drawing.text(358, 38, "a weaker promise: no fsync before the answer", "faint")
    drawing.line([(690, 25), (690, 42)], "mark")
    drawing.text(698, 38, "what mq9 must reach", "faint")
    top = 60.0
    for figure in document["figures"]:
        if _shown(figure, words or []):
            top = _draw(drawing, top, figure)
    return str(drawing)


def main(words: list[str] | None = None) -> int:
    """Draw a run of the benchmark from its JSON document."""
    parser = argparse.ArgumentParser(prog="python -m bench.plot", description="Draws a run of the benchmark.")
    parser.add_argument("document", type=Path, help="the JSON document of the run")
    parser.add_argument("drawing", type=Path, help="the SVG to write")
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help="P1, P3a, …; all when none is named")
    arguments = parser.parse_args(words)
    document = json.loads(arguments.document.read_text())
    arguments.drawing.write_text(draw(document, arguments.figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
