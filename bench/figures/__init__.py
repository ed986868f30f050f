"""The pieces of work that are measured, one module for each figure of docs/design.md; `ALL` lists them in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.figures import expiry, p1, p3

if TYPE_CHECKING:
    from bench.figures.base import Figure

ALL: tuple[Figure, ...] = (*p1.FIGURES, *p3.FIGURES, *expiry.FIGURES)


def chosen(words: list[str]) -> list[Figure]:
    """Return the figures that `words` name: P1 is P1a and P1b, no word at all is all of them.

    Raises LookupError for a word that names none.
    """
    for word in words:
        if not any(figure.key.lower().startswith(word.lower()) for figure in ALL):
            raise LookupError(f"there is no figure {word}; there are {', '.join(figure.key for figure in ALL)}")
    return [figure for figure in ALL if not words or any(figure.key.lower().startswith(word.lower()) for word in words)]
