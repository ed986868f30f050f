"""What a process uses, by the operating system's own figures."""

from __future__ import annotations

import os
import time
from pathlib import Path

from bench.generator import RunFailedError

_KIB = 1024
_STEADY_SHARE = 0.005
_STEADY_LOOKS = 3
_LOOK_PAUSE_S = 0.1
_LOOKS_MAX = 100


def _status(pid: int, key: str) -> int:
    """Return a line of /proc/PID/status that is a size, in bytes."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError as error:
        raise RunFailedError(f"memory is read from /proc, which this system does not have: {error}") from None
    for line in lines:
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * _KIB
    raise RunFailedError(f"/proc does not tell {key}")


def resident_bytes(pid: int) -> int:
    """Return how much memory of its own a process has: resident, without what it shares with the page cache."""
    return _status(pid, "RssAnon")


def steady_resident_bytes(pid: int) -> int:
    """The same when it has stopped changing, or after ten seconds of that."""
    seen = [resident_bytes(pid)]
    for _ in range(_LOOKS_MAX):
        time.sleep(_LOOK_PAUSE_S)
        seen = [*seen, resident_bytes(pid)][-_STEADY_LOOKS:]
        if len(seen) == _STEADY_LOOKS and max(seen) - min(seen) <= _STEADY_SHARE * max(seen):
            break
    return seen[-1]


def descriptors(pid: int) -> int:
    """Return how many files and sockets a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def processor_seconds(pid: int) -> float:
    """Return the processor time, of the user and the system, that a process has used since it started."""
    # The name of the program, in parentheses, may hold anything.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def disk_bytes(directory: Path) -> int:
    """Return how much of the disk the files below `directory` take."""
    block = 512
    return sum(path.stat().st_blocks * block for path in directory.rglob("*") if path.is_file())
