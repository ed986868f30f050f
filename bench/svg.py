"""Drawings as SVG that read well on a light page and on a dark one, with nothing in them but rectangles, lines and text.

Written here because what libraries for plots write has its colours fixed, and is a hundred times as long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape, quoteattr

if TYPE_CHECKING:
    from collections.abc import Sequence

# What each class of things looks like, on a light page and on a dark one.
_FILLS: Final = {
    "ink": ("#1f2328", "#e6edf3"),
    "faint": ("#59636e", "#9198a1"),
    "ours": ("#0969da", "#4493f8"),
    "theirs": ("#8c959f", "#767e88"),
}
_STROKES: Final = {
    "weaker": ("#8c959f", "#767e88"),
    "mark": ("#cf222e", "#ff7b72"),
    "grid": ("#d1d9e0", "#3d444d"),
    "curve": ("#0969da", "#4493f8"),
}
FONT_SIZE: Final = 13
_FONT: Final = f'font: {FONT_SIZE}px -apple-system, "Segoe UI", "Noto Sans", Helvetica, Arial, sans-serif'


def _style() -> str:
    """The style sheet: first a light page, then what is different on a dark one."""

    def rules(page: int) -> str:
        fills = [f".{name}{{fill:{colours[page]}}}" for name, colours in _FILLS.items()]
        return "".join(fills + [f".{name}{{stroke:{colours[page]};fill:none}}" for name, colours in _STROKES.items()])

    extra = ".weaker{stroke-dasharray:3 2}.mark{stroke-width:2}.curve{stroke-width:1.5}.strong{font-weight:600}"
    return f"text{{{_FONT}}}{rules(0)}{extra}@media (prefers-color-scheme: dark){{{rules(1)}}}"


class Drawing:
    """A drawing of `width` points, as high as what is put into it; `title` is what it shows, for who cannot see it."""

    def __init__(self, width: float, title: str) -> None:
        self._width = width
        self._title = title
        self._parts: list[str] = []
        self._height = 0.0

    def text(self, x: float, y: float, words: str, kind: str = "ink", anchor: str = "start") -> None:
        """Write a line whose letters stand on `y`; `anchor` is which end of it `x` is."""
        self._reach(y + FONT_SIZE / 2)
        self._parts.append(
            f'<text x="{x:g}" y="{y:g}" class={quoteattr(kind)} text-anchor="{anchor}">{escape(words)}</text>'
        )

    def bar(self, x: float, y: float, width: float, height: float, kind: str) -> None:
        """Draw a rectangle from its upper left corner."""
        self._reach(y + height)
        self._parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:.1f}" height="{height:g}" class={quoteattr(kind)}/>'
        )

    def line(self, points: Sequence[tuple[float, float]], kind: str) -> None:
        """Draw a line through points."""
        self._reach(max(y for _, y in points))
        listed = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._parts.append(f'<polyline points="{listed}" class={quoteattr(kind)}/>')

    def _reach(self, y: float) -> None:
        self._height = max(self._height, y)

    def __str__(self) -> str:
        size = (
            f'width="{self._width:g}" height="{self._height + 8:g}" viewBox="0 0 {self._width:g} {self._height + 8:g}"'
        )
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">\n<title>{escape(self._title)}</title>'
        return "\n".join([head, f"<style>{_style()}</style>", *self._parts, "</svg>", ""])
