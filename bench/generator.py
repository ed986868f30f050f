"""Builds the load generator of `bench/load` and runs it.

A run ends either with a figure or with a reason why there is none: the generator checks everything that it counts.
"""

from __future__ import annotations

import json
import os
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

    `rate` is per second, latencies are in microseconds, None where there are none; `generator_cores` is processor time
    over elapsed time. `late_p99_us` is, of a load on a schedule, by how much it was missed.
    """

    count: int
    seconds: float
    rate: float
    p50_us: float | None
    p99_us: float | None
    max_us: float | None
    generator_cores: float
    late_p99_us: float | None = None


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
    # Aside, and then whole: others may compile it, or run it, at the same time.
    aside = program.with_name(f"{program.name}.{os.getpid()}")
    done = subprocess.run(
        [compiler, *FLAGS, "-o", str(aside), *map(str, sources)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RunFailedError(f"the load generator does not compile:\n{done.stderr}")
    aside.replace(program)
    return program


def command(mode: str, subjects: list[str], **options: str | int | bool) -> list[str]:
    """Return the command line that runs the generator in `mode` over `subjects`, with `options` as it has them."""
    words = [str(PROGRAM), mode]
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(flag)
        elif value is not False:
            words += [flag, str(value)]
    return [*words, "--", *subjects]


def report(output: str) -> Load:
    """Read what the generator has printed when it ended well."""
    told = json.loads(output.splitlines()[-1])
    timed = told["max_us"] > 0
    return Load(
        count=told["count"],
        seconds=told["seconds"],
        rate=told["rate"],
        p50_us=told["p50_us"] if timed else None,
        p99_us=told["p99_us"] if timed else None,
        max_us=told["max_us"] if timed else None,
        generator_cores=told["generator_cpu_s"] / told["seconds"],
        late_p99_us=told.get("late_p99_us"),
    )


def run(mode: str, subjects: list[str], **options: str | int | bool) -> Load:
    """Run the generator, see `command`, and return its report.

    Raises RunFailedError with the generator's own sentence when anything was not as promised.
    """
    words = command(mode, subjects, **options)
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=RUN_SECONDS_MAX, check=False)
    except subprocess.TimeoutExpired:
        raise RunFailedError(f"the load did not end within {RUN_SECONDS_MAX} s") from None
    if done.returncode != 0:
        raise RunFailedError(done.stderr.strip() or f"the load generator ended with status {done.returncode}")
    return report(done.stdout)
