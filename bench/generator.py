"""Builds the load generator of `bench/load` and runs it.

A run ends either with a figure or with a reason why there is none: the generator checks everything that it counts.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCES = Path(__file__).parent / "load"
PROGRAM = ROOT / "build" / "bench" / "load"
FLAGS = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Werror", "-pthread")
RUN_SECONDS_MAX = 600


class RunFailedError(Exception):
    """No figure can be taken from a run. The text says what was not as promised."""


@dataclass(frozen=True, slots=True)
class Load:
    """What the generator reports of one run: messages answered or delivered, and what it took to drive that.

    `rate` is per second, latencies are in microseconds, `generator_cores` is processor time over elapsed time.
    """

    count: int
    seconds: float
    rate: float
    p50_us: float
    p99_us: float
    max_us: float
    generator_cores: float


def build(program: Path = PROGRAM) -> Path:
    """Compile the generator unless `program` is newer than all its sources, and return `program`.

    Raises RunFailedError when there is no C compiler or it does not compile.
    """
    sources = sorted(SOURCES.glob("*.c"))
    newest = max(path.stat().st_mtime for path in SOURCES.iterdir())
    if program.exists() and program.stat().st_mtime > newest:
        return program
    compiler = shutil.which("cc")
    if compiler is None:
        raise RunFailedError("the load generator needs a C compiler: there is no cc on the PATH")
    program.parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [compiler, *FLAGS, "-o", str(program), *map(str, sources)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RunFailedError(f"the load generator does not compile:\n{done.stderr}")
    return program


def run(mode: str, subjects: list[str], **options: str | int | bool) -> Load:
    """Run the generator in `mode` over `subjects`, with `options` as its command line has them.

    Raises RunFailedError with the generator's own sentence when anything was not as promised.
    """
    command = [str(PROGRAM), mode]
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            command.append(flag)
        elif value is not False:
            command += [flag, str(value)]
    try:
        done = subprocess.run(
            [*command, "--", *subjects], capture_output=True, text=True, timeout=RUN_SECONDS_MAX, check=False
        )
    except subprocess.TimeoutExpired:
        raise RunFailedError(f"the load did not end within {RUN_SECONDS_MAX} s") from None
    if done.returncode != 0:
        raise RunFailedError(done.stderr.strip() or f"the load generator ended with status {done.returncode}")
    told = json.loads(done.stdout)
    return Load(
        count=told["count"],
        seconds=told["seconds"],
        rate=told["rate"],
        p50_us=told["p50_us"],
        p99_us=told["p99_us"],
        max_us=told["max_us"],
        generator_cores=told["generator_cpu_s"] / told["seconds"],
    )
