"""The pieces of work that are measured; `ALL` lists them in the order of docs/design.md, and what users feel after them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.figures import expiry, mailboxes, memory, p1, p2, p3, p4, sdk, start

if TYPE_CHECKING:
    from bench.figures.base import Figure

ALL: tuple[Figure, ...] = (
    *p1.FIGURES,
    *p2.FIGURES,
    *p3.FIGURES,
    *p4.FIGURES,
    *p3.FAN_OUT,
    *p4.WORK,
    *mailboxes.CREATE,
    memory.FIGURES["P7b"],
    *start.FULL_START,
    memory.FIGURES["P8b"],
    memory.FIGURES["P9a"],
    *mailboxes.BESIDE_IDLE,
    *mailboxes.FLATNESS,
    *expiry.FIGURES,
    *start.FIGURES,
    *sdk.FIGURES,
)


def _named(figure: Figure, word: str) -> bool:
    """Whether a word names a figure: P1 names P1a and P1b, and not P10."""
    key, word = figure.key.lower(), word.lower()
    cut_in_number = word[-1:].isdigit() and key[len(word) :][:1].isdigit()
    return key.startswith(word) and not cut_in_number


def chosen(words: list[str]) -> list[Figure]:
    """Return the figures that `words` name: P1 is P1a and P1b, no word at all is all of them.

    Raises LookupError for a word that names none.
    """
    for word in words:
        if not any(_named(figure, word) for figure in ALL):
            raise LookupError(f"there is no figure {word}; there are {', '.join(figure.key for figure in ALL)}")
    return [figure for figure in ALL if not words or any(_named(figure, word) for word in words)]
