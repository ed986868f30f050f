"""What fuzzing has found is run with every change: all inputs that are kept, and those that once went wrong (fuzz/README.md)."""

from __future__ import annotations

import ctypes
import gc
import sys
from typing import Final

import pytest

from fuzz import corpus
from fuzz.target import NAMES, load

# Objects that one round more may leave behind: caches that are filled once, and what pytest itself keeps.
OBJECTS_MAX: Final = 60
BYTES_MAX: Final = 64 * 1024
ROUNDS: Final = 3


class _Memory(ctypes.Structure):
    """What mallinfo2 of the C library tells."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


def _held() -> tuple[int, int]:
    """How many Python objects there are, and how many bytes are taken from the C library."""
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = _Memory
    gc.collect()
    memory = mallinfo2()
    return sys.getallocatedblocks(), memory.uordblks + memory.hblkhd


@pytest.mark.parametrize("name", NAMES)
def test_what_was_found_goes_well(name: str) -> None:
    target = load(name)
    inputs = [*target.seeds(), *corpus.read(corpus.KEPT, name), *corpus.read(corpus.FAILED, name)]
    assert len(inputs) > len(list(target.seeds())), "there is no corpus"
    for data in inputs:
        assert len(data) <= target.size_max
        target.run(data)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_grows(name: str) -> None:
    """The same again and again costs nothing that stays."""
    target = load(name)
    inputs = [*target.seeds(), *corpus.read(corpus.FAILED, name)]
    for _ in range(2):
        for data in inputs:
            target.run(data)
    objects, size = _held()
    for _ in range(ROUNDS):
        for data in inputs:
            target.run(data)
    objects_then, size_then = _held()
    assert objects_then - objects <= OBJECTS_MAX
    assert size_then - size <= BYTES_MAX


@pytest.mark.parametrize("data", [b"", b"\0", b'"', b"# no comment", b"a\\x\r\n\t \xff ", bytes(range(256))])
def test_an_input_is_kept_as_it_is(data: bytes) -> None:
    assert corpus.read_line(corpus.write_line(data)) == data
