"""Disks on which there is no room: a small file system of the test's own, and a limit on how large files may become."""

from __future__ import annotations

import resource
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def small_disk(mount_point: Path, size_bytes: int) -> Iterator[Path]:
    """A file system in memory of `size_bytes`, mounted at `mount_point`; ends the test where that is not allowed."""
    mount_point.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes},nr_inodes=64", "tmpfs", str(mount_point)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"only root may mount a file system: {mounted.stderr.strip()}")
    try:
        yield mount_point
    finally:
        subprocess.run(["umount", str(mount_point)], check=True)


def fill(disk: Path, leave_bytes: int = 0) -> Path:
    """Write a file that takes all room on `disk` but `leave_bytes`, and give its path."""
    path = disk / "in the way"
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            pass
        file.truncate(max(0, file.tell() - leave_bytes))
    return path


@contextmanager
def file_size_limit(pid: int, limit_bytes: int) -> Iterator[None]:
    """No file of the process `pid` (0: this one) may grow beyond `limit_bytes` meanwhile."""
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit_bytes, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
