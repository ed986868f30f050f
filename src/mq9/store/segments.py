"""The files of the journal: made ahead of need, used again when nothing is left in them, and given back.

Everything here waits for the disk, and belongs on a thread of its own. A new segment has all its space, and zeros written to it
where there is time for that: what was written before is what a disk overwrites and syncs fastest. Its name is durable before
anything is committed to it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from mq9.store.frame import Index

DIRECTORY = "journal"
_NAME = re.compile(r"(\d{12,20})\.segment")
_FILL_BYTES = 1024 * 1024
_OPEN_MAX = 128
# For want of descriptors, a file is opened after so many tries at the latest, or not.
_TRIES_MAX = 100
_TRY_AGAIN_S = 0.01


@dataclass(frozen=True, slots=True)
class Known:
    """What the tables keep of a segment: its commits, its blocks, and which of them were dropped (see Index.pack_dropped)."""

    first_sequence: int
    last_sequence: int
    end: int
    first_number: int
    last_number: int
    count: int
    dropped: bytes = field(repr=False)

    @classmethod
    def of(cls, index: Index) -> Self:
        """What there is to know of a segment that was read."""
        return cls(
            index.first_sequence,
            index.last_sequence,
            index.end,
            index.first_number or 0,
            index.last_number or 0,
            index.count,
            index.pack_dropped(),
        )


@dataclass(slots=True, eq=False)
class Segment:
    """A segment as the engine knows it.

    Attributes:
        number: rises in the order in which segments are written.
        size: of the file, in bytes.
        file: the descriptor to write to, or -1 when that is over.
        index: what is in it; None while it has not been read since the start, and only `known` tells.
        known: what the tables tell of it, None when they do not.
        changed: whether what the tables tell is not what is so.
        readers: how many reads are under way.
    """

    number: int
    size: int
    file: int = -1
    index: Index | None = None
    known: Known | None = None
    changed: bool = False
    readers: int = 0

    @property
    def contents(self) -> Index:
        """What is in it; it must have been read."""
        if self.index is None:
            raise RuntimeError(f"segment {self.number} was not read")
        return self.index

    def now_known(self) -> Known:
        """What the tables should know of it; it must have been read."""
        return Known.of(self.contents)


class Files:
    """The journal's directory.

    Arguments:
        directory: the store's.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / DIRECTORY

    def make(self) -> None:
        """Make the directory if it is not there. Raises OSError."""
        self._path.mkdir(mode=0o700, exist_ok=True)
        sync(self._path.parent)

    def found(self) -> list[Segment]:
        """The segments that are there, in their order. Raises OSError."""
        found = []
        for path in self._path.iterdir():
            if (name := _NAME.fullmatch(path.name)) is not None:
                # A broker that is running may make another one of it meanwhile.
                with contextlib.suppress(FileNotFoundError):
                    found.append(Segment(int(name[1]), path.stat().st_size))
        return sorted(found, key=lambda segment: segment.number)

    def create(self, number: int, size: int, fill: bool, former: Segment | None = None) -> Segment:
        """An empty segment of at least `size` bytes to write to; `former` is one of which nothing is left, to be used again.

        `fill`: whether to write zeros where nothing was written before. Raises OSError; then `former` is gone as well.
        """
        path = self._file(number)
        if former is not None:
            self.close(former)
            self._file(former.number).rename(path)
        file = _open(path, os.O_RDWR | os.O_CREAT)
        try:
            written = os.fstat(file).st_size
            if written < size:
                os.posix_fallocate(file, 0, size)
            for at in range(written, size if fill else written, _FILL_BYTES):
                os.pwrite(file, bytes(min(_FILL_BYTES, size - at)), at)
            os.fsync(file)
            sync(self._path)
        except OSError:
            os.close(file)
            path.unlink()
            raise
        return Segment(number, max(written, size), file, Index(number, 1))

    def reopen(self, segment: Segment, size: int) -> None:
        """Make a segment that was found ready to be written to, with at least `size` bytes. Raises OSError."""
        segment.file = _open(self._file(segment.number), os.O_RDWR)
        if segment.size < size:
            os.posix_fallocate(segment.file, 0, size)
            os.fsync(segment.file)
            segment.size = size

    def sync(self, segment: Segment) -> None:
        """Make what is in a segment durable. Raises OSError."""
        sync(self._file(segment.number))

    def finish(self, segment: Segment) -> None:
        """Nothing more is written to a segment: give back the space behind its `size`. Raises OSError."""
        try:
            if os.fstat(segment.file).st_size > segment.size:
                os.ftruncate(segment.file, segment.size)
        finally:
            self.close(segment)

    def remove(self, segment: Segment) -> None:
        """Give a segment back. Raises OSError."""
        self.close(segment)
        self._file(segment.number).unlink(missing_ok=True)

    def open_to_read(self, number: int) -> int:
        """A new descriptor of a segment. Raises OSError."""
        return _open(self._file(number), os.O_RDONLY)

    def close(self, segment: Segment) -> None:
        """Close a segment's file, if it is open."""
        if segment.file >= 0:
            os.close(segment.file)
            segment.file = -1

    def name(self, number: int) -> str:
        """What the file of a segment is called below the store's directory."""
        return f"{DIRECTORY}/{number:012}.segment"

    @staticmethod
    def is_name(name: str) -> bool:
        """Whether a file below the store's directory that is called so is a segment."""
        directory, _, file = name.partition("/")
        return directory == DIRECTORY and _NAME.fullmatch(file) is not None

    def _file(self, number: int) -> Path:
        return self._path.parent / self.name(number)


class Reader:
    """Reads segments, and keeps some of them open.

    Arguments:
        files: where they are.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._open: OrderedDict[int, int] = OrderedDict()

    def read(self, number: int, offset: int, size: int) -> bytes:
        """Bytes of a segment; fewer where the file ends. Raises OSError."""
        file = self._open.pop(number, -1)
        if file < 0:
            file = self._files.open_to_read(number)
        self._open[number] = file
        if len(self._open) > _OPEN_MAX:
            os.close(self._open.popitem(last=False)[1])
        parts = []
        while size and (part := os.pread(file, size, offset)):
            parts.append(part)
            offset += len(part)
            size -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self, number: int) -> None:
        """A segment is read no more."""
        if (file := self._open.pop(number, -1)) >= 0:
            os.close(file)

    def close_all(self) -> None:
        """No segment is read any more."""
        while self._open:
            os.close(self._open.popitem()[1])


def _open(path: Path, flags: int) -> int:
    """Open a file. Raises OSError.

    A rush of clients may take all that this process may have open, until they are told that they are too many: that is waited out.
    """
    for _ in range(_TRIES_MAX):
        try:
            return os.open(path, flags | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
        time.sleep(_TRY_AGAIN_S)
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def sync(path: Path) -> None:
    """Make a file, or the entries of a directory, durable. Raises OSError."""
    descriptor = _open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
