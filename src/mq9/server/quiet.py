"""A log that stays readable in a flood: of many lines that differ only in their values, the first few, and then how many more there were.

A client that connects a thousand times in a second, or many that break the same rule, would otherwise fill the disk that messages need.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

LINES_MAX = 10
WINDOW_S = 10.0


class Quiet(logging.Filter):
    """Lets the first `LINES_MAX` lines of a sentence through in `WINDOW_S` seconds, and counts the rest. Errors all pass.

    Arguments:
        log: the logger; `tell` says there what was kept back.
        now: gives seconds, by a clock that does not jump.
    """

    def __init__(self, log: logging.Logger, now: Callable[[], float]) -> None:
        super().__init__()
        self._log = log
        self._now = now
        # By sentence: when its window began, how many lines it had, and the last of those that were kept back.
        self._windows: dict[str, tuple[float, int, logging.LogRecord | None]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written."""
        sentence = str(record.msg)
        if record.levelno >= logging.ERROR or getattr(record, "is_summary", False):
            return True
        began, count, _ = self._windows.get(sentence, (self._now(), 0, None))
        passes = count < LINES_MAX
        self._windows[sentence] = began, count + 1, None if passes else record
        return passes

    def tell(self) -> None:
        """Say of sentences whose window is over what was kept back."""
        now = self._now()
        over = [sentence for sentence, (began, _, _) in self._windows.items() if now - began >= WINDOW_S]
        for sentence in over:
            began, count, last = self._windows.pop(sentence)
            if last is not None:
                self._log.log(
                    last.levelno,
                    "%d more in the last %.0f s like this one: %s",
                    count - LINES_MAX,
                    now - began,
                    last.getMessage(),
                    extra={"is_summary": True},
                )
