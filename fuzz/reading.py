"""Reads an input piece by piece, for targets that make something of it: rows, frames, requests.

Whatever is missing at the end is read as zeros, so that every input means something and a shorter one is a simpler one.
"""

from __future__ import annotations

from typing import Final

# Numbers at the edges of their types, which no chance finds.
WILD: Final = (
    *(0, 1, 2, 3, 4, 5, 7, 8, 9, 16, 31, 32, 63, 64, 255, 256, 511, 512, 4095, 4096, 65_535, 65_536),
    *(2**24, 2**30 - 1, 2**30, 2**31 - 1, 2**31, 2**32 - 64, 2**32 - 1, 2**32, 2**47, 2**48 - 1, 2**48),
    *(2**62, 2**63 - 1, 2**63, 2**64 - 2, 2**64 - 1),
)


class Reading:
    """An input, read from its beginning to its end.

    Arguments:
        data: the input.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def byte(self) -> int:
        """A number below 256."""
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def below(self, count: int) -> int:
        """A number below `count`, which is at most 256."""
        return self.byte() % count

    def flag(self) -> bool:
        """One time in four."""
        return self.byte() & 3 == 1

    def number(self, bits: int = 64) -> int:
        """Any number of so many bits, most often a small one."""
        kind = self.byte()
        if kind < 192:
            return kind & ((1 << bits) - 1)
        if kind < 192 + len(WILD):
            return WILD[kind - 192] & ((1 << bits) - 1)
        return int.from_bytes(self.take(bits // 8), "little")

    def take(self, size: int) -> bytes:
        """The next `size` bytes; fewer where the input ends."""
        self._at += size
        return self._data[self._at - size : self._at]

    def some(self) -> bytes:
        """A few bytes."""
        return self.take(self.byte())

    def rest(self) -> bytes:
        """All that has not been read."""
        return self.take(max(len(self._data) - self._at, 0))
