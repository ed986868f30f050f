"""What is fuzzed: a function that takes any bytes and fails where the rule is broken, and what a fuzzer should know of it.

The rule: documented errors only; no crash, no hang, no growth.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

NAMES: Final = (
    "frames",
    "headers",
    "requests",
    "operations",
    "configuration",
    "segment",
    "journal",
    "recovery",
)


@dataclass(frozen=True)
class Target:
    """Something that reads what comes from outside.

    Attributes:
        name: also of its files in corpus/ and failed/.
        run: takes an input; raises AssertionError, or whatever the code raised that it must not raise.
        seeds: inputs to begin with.
        words: what stands in inputs, for the fuzzer to put together.
        size_max: the longest input that is tried, in bytes.
    """

    name: str
    run: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]
    words: tuple[bytes, ...] = ()
    size_max: int = 4096


def load(name: str) -> Target:
    """The target of this name, one of NAMES."""
    target: Target = importlib.import_module(f"fuzz.targets.{name}").TARGET
    return target
