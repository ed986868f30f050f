"""Writes numbers as people read them."""

from __future__ import annotations

from enum import Enum

_KIB, _MIB, _GIB = 1024.0, 1024.0**2, 1024.0**3
_PLAIN_BYTES_MAX = 10_000


class Quantity(Enum):
    """What kind of value a figure has, and so how it is written and which way is better."""

    RATE = "per second"
    SECONDS = "seconds"
    MICROSECONDS = "microseconds"
    BYTES = "bytes"

    @property
    def more_is_better(self) -> bool:
        """Whether a larger value is the better one."""
        return self is Quantity.RATE


def amount(value: float, quantity: Quantity) -> str:
    """Write a value of this kind in at most nine characters."""
    match quantity:
        case Quantity.RATE:
            return rate(value)
        case Quantity.SECONDS:
            return duration(value * 1e6)
        case Quantity.MICROSECONDS:
            return duration(value)
        case Quantity.BYTES:
            return size(value)


def rate(value: float) -> str:
    """Write a rate per second."""
    for limit, suffix in ((1e6, " M"), (1e3, " k")):
        if value >= limit:
            return _digits(value / limit) + suffix
    return f"{value:.0f}"


def duration(microseconds: float) -> str:
    """Write a time."""
    if microseconds >= 1e6:
        return f"{_digits(microseconds / 1e6)} s"
    return f"{microseconds / 1000:.1f} ms" if microseconds >= 1000 else f"{microseconds:.0f} µs"


def size(value: float) -> str:
    """Write a number of bytes."""
    for unit, suffix in ((_GIB, "GiB"), (_MIB, "MiB"), (_KIB, "KiB")):
        if value >= unit and value >= _PLAIN_BYTES_MAX:
            return f"{_digits(value / unit)} {suffix}"
    return f"{value:.0f} B"


def _digits(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"
