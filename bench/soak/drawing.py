"""Draws a soak: a curve for each thing that was watched, with the time that does not count set off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.svg import Drawing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.soak.verdict import Series, Verdict

WIDTH: Final = 880
_LEFT: Final = 80
_RIGHT: Final = 860
_PANEL: Final = 110
_HEADING: Final = 24
_GAP: Final = 34
_STEPS: Final = (0.0, 0.5, 1.0)


def _panel(drawing: Drawing, top: float, series: Series, verdict: Verdict | None, from_s: float, to_s: float) -> float:
    """Draw one series; return where its panel ends."""
    highest = max([value for _, value in series.points] + ([verdict.allowed] if verdict else []), default=0.0) or 1.0
    bottom = top + _HEADING + _PANEL

    def at(point: tuple[float, float]) -> tuple[float, float]:
        seconds, value = point
        return _LEFT + (_RIGHT - _LEFT) * seconds / to_s, bottom - _PANEL * value / highest

    judged = "not judged" if verdict is None else "flat" if verdict.flat else "grows"
    drawing.text(0, top + 14, series.watched.name, "ink strong")
    drawing.text(_RIGHT, top + 14, judged, "faint", "end")
    for step in _STEPS:
        y = bottom - _PANEL * step
        drawing.line([(_LEFT, y), (_RIGHT, y)], "grid")
        drawing.text(_LEFT - 8, y + 4, series.watched.write(highest * step), "faint", "end")
    start, _ = at((from_s, 0.0))
    drawing.line([(start, bottom), (start, bottom - _PANEL)], "weaker")
    if verdict is not None:
        drawing.line([at((to_s - (to_s - from_s) / 3, verdict.allowed)), at((to_s, verdict.allowed))], "mark")
    if len(series.points) > 1:
        drawing.line([at(point) for point in series.points], "curve")
    drawing.text(_LEFT, bottom + 16, "0", "faint", "middle")
    drawing.text(start, bottom + 16, f"{from_s / 60:.3g} min", "faint", "middle")
    drawing.text(_RIGHT, bottom + 16, f"{to_s / 60:.3g} min", "faint", "end")
    return bottom + _GAP


def draw(judged: Sequence[tuple[Series, Verdict | None]], from_s: float, to_s: float) -> str:
    """Draw all series from the beginning to `to_s`; what is before `from_s` does not count."""
    drawing = Drawing(WIDTH, "A broker under mixed load: what it holds, and how long messages take")
    drawing.text(
        0, 14, "dashed: from here on it counts; red: the most that the last third may be in the middle", "faint"
    )
    top = 30.0
    for series, verdict in judged:
        top = _panel(drawing, top, series, verdict, from_s, to_s)
    return str(drawing)
