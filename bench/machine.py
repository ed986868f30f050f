"""Facts about the machine, without which no figure can be compared with another's."""

from __future__ import annotations

import os
import platform
import resource
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

APPENDS = 200


@dataclass(frozen=True, slots=True)
class Machine:
    """The processor, the software under us, and how long the disk takes.

    `fdatasync_small_us` and `fdatasync_64k_us` are the median times, in microseconds, to append 200 bytes or 64 KiB to
    a file and fdatasync it. `load_average` is that of the last minute before the run.
    """

    processor: str
    cores: int
    system: str
    python: str
    load_average: float
    fdatasync_small_us: float
    fdatasync_64k_us: float


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def fdatasync_us(directory: Path, size: int) -> float:
    """Return the median time to append `size` bytes to a file in `directory` and sync it, in microseconds."""
    times: list[float] = []
    with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
        for _ in range(APPENDS):
            start = time.perf_counter()
            file.write(bytes(size))
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e6


def _busy_s() -> float:
    """Return the processor seconds that this machine has spent on anything, or had taken from it, since it started."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    user, nice, system, _idle, _waiting, interrupts, soft_interrupts, stolen = ticks
    return (user + nice + system + interrupts + soft_interrupts + stolen) / os.sysconf("SC_CLK_TCK")


def _own_s() -> float:
    """Return the processor seconds of this process and of all its children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


class Bystanders:
    """Measures how much of the machine somebody else uses, from its creation on."""

    def __init__(self) -> None:
        self._start = time.monotonic(), _busy_s() - _own_s()

    def cores(self) -> float:
        """Return how many cores were busy with what is neither this process nor a child of it that has ended."""
        moment, others_s = self._start
        return max(0.0, (_busy_s() - _own_s() - others_s) / (time.monotonic() - moment))


def facts(directory: Path) -> Machine:
    """Look at this machine, and at the disk that `directory` is on."""
    return Machine(
        processor=_processor(),
        cores=os.cpu_count() or 1,
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        load_average=os.getloadavg()[0],
        fdatasync_small_us=fdatasync_us(directory, 200),
        fdatasync_64k_us=fdatasync_us(directory, 65536),
    )
