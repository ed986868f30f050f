"""Counts the instructions of each micro-benchmark under callgrind, and compares them with those that were recorded.

Instructions and not time, because they are the same each time: whatever else the machine is doing, a change of a few in a hundred is
a change of the code. They are not the whole cost (a miss of the cache is one instruction), so the time that each takes stands
beside them, and is not judged.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench.generator import ROOT, RunFailedError
from bench.micro import benchmarks, compiled

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

RECORD: Final = Path(__file__).parent / "recorded.json"
SLOWER: Final = 1.25
_SOURCE: Final = Path(__file__).parent / "mark.c"
_LIBRARY: Final = compiled.BUILT / "mark.so"
_NAMED: Final = re.compile(r"^desc: Trigger: Client Request: (.*)$", re.MULTILINE)
_TOTAL: Final = re.compile(r"^(?:summary|totals): (\d+)", re.MULTILINE)
_VALGRIND: Final = ("--tool=callgrind", "--instr-atstart=no", "--quiet")
_COUNT_SECONDS_MAX: Final = 900


def build_mark() -> Path:
    """Compile mark.c. Raises RunFailedError when there is no valgrind, or not its headers."""
    if shutil.which("valgrind") is None or shutil.which("cc") is None:
        raise RunFailedError("instructions are counted with valgrind, and its headers and a C compiler: install them")
    if not _LIBRARY.exists() or _LIBRARY.stat().st_mtime < _SOURCE.stat().st_mtime:
        compiled.BUILT.mkdir(parents=True, exist_ok=True)
        command = ["cc", "-shared", "-fPIC", "-O2", "-o", str(_LIBRARY), str(_SOURCE)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RunFailedError(f"mark.c does not compile; are valgrind's headers there?\n{done.stderr}")
    return _LIBRARY


def run_under_callgrind(names: Sequence[str]) -> None:
    """Do each of the named benchmarks, and tell callgrind of the second time: for a process that it runs.

    What is done only once in a process counts for none of them, whichever of them are named.
    """
    mark = ctypes.CDLL(str(_LIBRARY))
    gc.disable()
    for benchmark in benchmarks.ALL:
        if benchmark.name not in names:
            continue
        benchmark.prepare(benchmark.counted)()
        run = benchmark.prepare(benchmark.counted)
        mark.mark_begin()
        done = run()
        mark.mark_end(benchmark.name.encode())
        if done != benchmark.counted:
            raise RunFailedError(f"{benchmark.name} did {done} of {benchmark.counted}")


def count(names: Iterable[str]) -> dict[str, float]:
    """Return how many instructions each of the named benchmarks takes for each of what it does."""
    wanted = list(names)
    build_mark()
    compiled.build()
    # The order of sets and the place of everything in memory are to be the same each time.
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONMALLOC": "malloc"}
    with tempfile.TemporaryDirectory() as directory:
        outputs = f"--callgrind-out-file={directory}/out"
        command = ["valgrind", *_VALGRIND, outputs, sys.executable, "-m", "bench.micro", "--under-callgrind", *wanted]
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=_COUNT_SECONDS_MAX, check=False
        )
        if done.returncode != 0:
            raise RunFailedError(f"counting failed:\n{done.stderr.strip()[-2000:]}")
        totals = _totals(path.read_text() for path in Path(directory).iterdir())
    sizes = {benchmark.name: benchmark.counted for benchmark in benchmarks.ALL}
    return {name: totals[name] / sizes[name] for name in wanted}


def _totals(texts: Iterable[str]) -> dict[str, int]:
    """Read callgrind's files: one for each name that was marked."""
    totals = {}
    for text in texts:
        named, total = _NAMED.search(text), _TOTAL.search(text)
        if named is not None and total is not None:
            totals[named[1]] = int(total[1])
    return totals


def time_each(name: str) -> float:
    """Return how long one of what a benchmark does takes, in nanoseconds: the best of a few runs."""
    [benchmark] = [benchmark for benchmark in benchmarks.ALL if benchmark.name == name]
    took = []
    for _ in range(3):
        run = benchmark.prepare(benchmark.counted)
        started = time.perf_counter_ns()
        run()
        took.append(time.perf_counter_ns() - started)
    return min(took) / benchmark.counted


def tools() -> dict[str, str]:
    """What makes instructions of the source: with others, the numbers are others."""
    told = subprocess.run(["cc", "-dumpfullversion"], capture_output=True, text=True, check=False).stdout.strip()
    return {
        "python": platform.python_version(),
        "cython": metadata.version("Cython"),
        "compiler": told,
        "machine": platform.machine(),
    }


@dataclass(frozen=True, slots=True)
class Compared:
    """A benchmark's instructions, now and as they were recorded (None: it was not)."""

    name: str
    now: float
    recorded: float | None

    @property
    def ratio(self) -> float | None:
        """How many times as many there are now."""
        return None if self.recorded is None else self.now / self.recorded

    @property
    def verdict(self) -> str:
        """What that means."""
        if self.ratio is None:
            return "not recorded"
        if self.ratio >= SLOWER:
            return "SLOWER"
        return "faster" if self.ratio <= 1 / SLOWER else "as it was"


def _recorded() -> dict[str, Any]:
    """What RECORD holds."""
    told: dict[str, Any] = json.loads(RECORD.read_text()) if RECORD.exists() else {"tools": None, "instructions": {}}
    return told


def compare(now: dict[str, float]) -> list[Compared]:
    """Hold counts against those that were recorded."""
    recorded = _recorded()["instructions"]
    return [Compared(name, value, recorded.get(name)) for name, value in now.items()]


def write_record(now: dict[str, float]) -> None:
    """Record counts, for the benchmarks that were counted; others stay as they are, if the tools are the same."""
    former = _recorded()
    kept = former["instructions"] if former["tools"] == tools() else {}
    told = {"tools": tools(), "instructions": kept | {name: round(value, 1) for name, value in now.items()}}
    RECORD.write_text(json.dumps(told, indent=2) + "\n")


def recorded_with_other_tools() -> bool:
    """Whether what was recorded was made by another compiler or interpreter."""
    return _recorded()["tools"] not in (None, tools())
