"""What a process that is nothing but a broker does to itself before it starts.

Not done by a broker that is embedded in somebody else's process: these are settings of the whole process.
"""

from __future__ import annotations

import ctypes
import gc
import resource
import sys

# Parameters of glibc's mallopt.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_MMAP_THRESHOLD_BYTES = 8 * 1024 * 1024
_TRIM_THRESHOLD_BYTES = 64 * 1024 * 1024
_SWITCH_INTERVAL_S = 0.0005
_GC_THRESHOLD = 100_000
# Segments that are read and written, the tables, the monitoring port's clients, and those that are being told that there are too many.
_FILES_OF_ITS_OWN = 512


def prepare() -> None:
    """Suit the allocator, the interpreter and the limits of this process to a broker."""
    _keep_buffers()
    # A commit that has returned should not wait out five milliseconds of somebody else's turn.
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    # What is loaded now stays; looking through it again and again would only make pauses.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD, 50, 100)
    _allow_connections()


def _keep_buffers() -> None:
    """Have the allocator keep the memory of buffers.

    By default glibc maps each large buffer anew and gives it back when it is freed: half of the time of a fan-out went into page
    faults. Other C libraries have no mallopt, and are left alone.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD_BYTES)


def connections_max(wanted: int) -> int:
    """How many of the connections that are wanted this process may have: its open files are for its own, too."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return wanted
    return max(min(wanted, limit - min(_FILES_OF_ITS_OWN, limit // 2)), 1)


def _allow_connections() -> None:
    """Raise the limit of open files to what the system allows this process: each connection is one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
