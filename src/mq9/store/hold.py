"""What keeps the files of a store as they are while somebody copies them: a lock that the system takes back when its holder ends.

A backup is a process of its own that reads the data directory of a running broker. It holds this lock, shared with other backups; as
long as it does, the broker neither uses a segment again nor removes one, and the data file is not replaced.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

HOLD_FILE: Final = "mq9.hold"


class Hold:
    """The lock, as the broker sees it.

    Arguments:
        directory: the store's. Raises OSError when the lock's file cannot be made there.
    """

    def __init__(self, directory: Path) -> None:
        self._file = _open(directory)

    def is_taken(self) -> bool:
        """Whether somebody copies right now. If not, whoever begins to sees everything that is durable now."""
        with self.exclusive() as free:
            return not free

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[bool]:
        """Whether nobody copies; who wants to begin waits until this is left."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        try:
            yield True
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)


@contextlib.contextmanager
def held(directory: Path) -> Iterator[None]:
    """Keep the files below `directory` as they are, as far as docs/design.md §4 says. Raises OSError."""
    file = _open(directory)
    try:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield
    finally:
        os.close(file)


def _open(directory: Path) -> int:
    return os.open(directory / HOLD_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
