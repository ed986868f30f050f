"""Faults below a broker: the library of shim.c, preloaded into the process, and the page of memory that says what is to fail."""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE: Final = Path(__file__).with_name("shim.c")
JOURNAL, TABLES, OTHER = 1, 2, 4
ALL: Final = JOURNAL | TABLES | OTHER
_ALWAYS: Final = -1
_KINDS: Final = (JOURNAL, TABLES, OTHER)
_FAULTS: Final = ("write_errno", "sync_errno", "space_errno", "open_errno", "short_bytes", "lose", "hold")


class _Control(ctypes.Structure):
    _fields_ = (
        ("clock_offset_ns", ctypes.c_int64),
        ("files", ctypes.c_int64),
        *((name, ctypes.c_int64) for name in _FAULTS),
        ("times", ctypes.c_int64),
        *((name, ctypes.c_int64 * 3) for name in ("writes", "syncs", "spaces", "opens", "failed")),
    )


class Shim:
    """What is to fail in a process, from now on.

    Arguments:
        library: the compiled shim.
        data_dir: below which files are touched.
        control: a file for what is shared with the process.
    """

    def __init__(self, library: Path, data_dir: Path, control: Path) -> None:
        control.write_bytes(bytes(mmap.PAGESIZE))
        with control.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), mmap.PAGESIZE)
        self._control = _Control.from_buffer(self._shared)
        self.environment = {
            "LD_PRELOAD": str(library),
            "MQ9_SHIM_DIRECTORY": str(data_dir),
            "MQ9_SHIM_CONTROL": str(control),
        }
        self.clear()

    @contextmanager
    def failing(self, files: int = ALL, times: int = _ALWAYS, **faults: int) -> Iterator[None]:
        """Let calls on these files fail meanwhile; `times` of them, or all.

        `faults`: write_errno, sync_errno, space_errno, open_errno: an errno; short_bytes: what a write takes at most; lose, hold: 1.
        """
        self.begin(files, times, **faults)
        try:
            yield
        finally:
            self.clear()

    def begin(self, files: int = ALL, times: int = _ALWAYS, **faults: int) -> None:
        """As `failing`, until `clear`."""
        self._control.files = files
        self._control.times = times
        for name, value in faults.items():
            assert name in _FAULTS, name
            setattr(self._control, name, value)

    def clear(self) -> None:
        """Let nothing fail any more."""
        for name in _FAULTS:
            setattr(self._control, name, 0)
        self._control.times = _ALWAYS

    def set_clock(self, forward_s: float) -> None:
        """Set the clock of the process so far forward from this machine's, or back."""
        self._control.clock_offset_ns = round(forward_s * 1_000_000_000)

    def calls(self, name: str, kind: int) -> int:
        """How many `writes`, `syncs`, `spaces`, `opens` there were of such files, or how many calls `failed`."""
        return int(getattr(self._control, name)[_KINDS.index(kind)])

    def close(self) -> None:
        """Let go of the shared memory."""
        del self._control
        self._shared.close()


def build(directory: Path) -> Path:
    """Compile the shim; ends the test where that cannot be done."""
    compiler = os.environ.get("CC") or shutil.which("cc")
    if compiler is None:
        pytest.fail("there is no C compiler")
    library = directory / "shim.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(library), str(SOURCE)]
    subprocess.run([*command, "-ldl", "-lpthread"], check=True)
    return library
