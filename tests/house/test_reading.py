"""The readers of source that the other tests here stand on: what they must see, shown on small files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.house.source import code_lines, definitions, imports

if TYPE_CHECKING:
    from pathlib import Path

CYTHON = '''"""A module
of two lines."""

from libc.string cimport (
    memchr, memcmp,
)
from mq9.wire.frames cimport Publish  # a comment
cimport cython
import json, struct

# a comment
cdef enum:
    LIMIT = 4

cdef int counted = int(LIMIT)


cdef class Thing(Base):
    """Explained."""

    cdef int field
    cdef readonly list items

    def __init__(self, first,
                 second=(1, 2)):
        self.field = first

    cdef inline int inner(self, char* at) except -1:
        """Explained, and

        longer.
        """
        if at:
            return 1
        # the last line is code

        return 0


def bare(bytes data not None):
    return data
'''
PYTHON = '''"""A module."""

from __future__ import annotations

import os.path
from mq9.store import contract
from mq9.store.contract import Store as Kept


class Outer:
    """Explained."""

    def method(self) -> None:
        """Explained."""

        def inside() -> None:
            pass

    async def silent(self) -> None:
        # a comment
        pass
'''


def test_cython_is_read(tmp_path: Path) -> None:
    path = tmp_path / "thing.pyx"
    path.write_text(CYTHON)
    assert imports(path) == {
        *("libc.string", "libc.string.memchr", "libc.string.memcmp"),
        *("mq9.wire.frames", "mq9.wire.frames.Publish", "cython", "json", "struct"),
    }
    seen = [
        (found.name, found.is_class, found.first_line, found.lines, found.documented) for found in definitions(path)
    ]
    assert seen == [
        ("Thing", True, 18, 20, True),
        ("Thing.__init__", False, 24, 3, False),
        ("Thing.inner", False, 28, 10, True),
        ("bare", False, 40, 2, False),
    ]
    assert [found.public for found in definitions(path)] == [True, False, True, True]
    assert code_lines(path) == 21


def test_python_is_read(tmp_path: Path) -> None:
    path = tmp_path / "thing.py"
    path.write_text(PYTHON)
    assert imports(path) == {
        *("__future__", "__future__.annotations", "os.path", "mq9.store", "mq9.store.contract"),
        "mq9.store.contract.Store",
    }
    seen = [
        (found.name, found.is_class, found.first_line, found.lines, found.documented) for found in definitions(path)
    ]
    assert seen == [
        ("Outer", True, 10, 12, True),
        ("Outer.method", False, 13, 5, True),
        ("Outer.method._.inside", False, 16, 2, False),
        ("Outer.silent", False, 19, 3, False),
    ]
    assert [found.public for found in definitions(path)] == [True, True, False, True]
    assert code_lines(path) == 10
