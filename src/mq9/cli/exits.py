"""The exit codes of `mq9`, which scripts rely on; docs/command-line.md explains them and a test keeps the two together."""

from __future__ import annotations

from enum import IntEnum

from mq9.sdk.errors import ConnectionFailed, MailboxError, NotFound, Timeout


class Exit(IntEnum):
    """How a command ends."""

    OK = 0
    ERROR = 1
    USAGE = 2
    UNREACHABLE = 3
    NOT_FOUND = 4
    TOO_FEW = 5
    DAMAGED = 6
    INTERRUPTED = 130
    PIPE = 141


def exit_of(error: Exception) -> tuple[str | None, Exit]:
    """The sentence and the exit code for an exception; no sentence for one that only a fault in mq9 can raise."""
    if isinstance(error, (ConnectionFailed, Timeout)):
        return error.sentence, Exit.UNREACHABLE
    if isinstance(error, NotFound):
        return error.sentence, Exit.NOT_FOUND
    if isinstance(error, MailboxError):
        return error.sentence, Exit.ERROR
    return None, Exit.ERROR
