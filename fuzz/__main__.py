"""`python -m fuzz`: fuzz some or all targets for a while, two at a time; README.md explains it."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from fuzz import corpus
from fuzz.target import NAMES, Target, load

ROOT: Final = Path(__file__).parents[1]
BUILD: Final = ROOT / "build" / "fuzzed"
# Seconds after which an input counts as one that hangs. A whole broker is slow in this build, and so is a busy machine.
HANG_S: Final = 20
# What a fuzzer may come to hold, itself included: one that grows meets it.
MEMORY_MAX_MB: Final = 2_048
_ENVIRONMENT: Final = {
    # The interpreter's own allocator would hide its objects from the sanitizer; what it holds at its end is no leak.
    "PYTHONMALLOC": "malloc",
    "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:quarantine_size_mb=16",
    "UBSAN_OPTIONS": "print_stacktrace=1",
}


@dataclass(frozen=True)
class Outcome:
    """How a target fared: `failed` are the files of inputs that went wrong, `said` is what the fuzzer said last."""

    name: str
    code: int
    seconds: float
    failed: list[Path]
    said: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz; the exit code says whether everything went well."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(NAMES)}; by default all")
    parser.add_argument("--seconds", type=int, default=3_600, help="for each target")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="targets at a time")
    parser.add_argument("--keep", action="store_true", help="do not fuzz: make corpus/ anew from what was found so far")
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.targets) - set(NAMES)):
        parser.error(f"there is no target {', '.join(unknown)}")
    names = options.targets or list(NAMES)
    with _scratch(), ThreadPoolExecutor(options.jobs) as pool:
        if options.keep:
            for name, count in zip(names, pool.map(keep, names), strict=True):
                print(f"{name}: {count} inputs")
            return 0
        outcomes = list(pool.map(lambda name: fuzz(load(name), options.seconds), names))
    for outcome in outcomes:
        print(report(outcome))
    return 1 if any(outcome.code for outcome in outcomes) else 0


def fuzz(target: Target, seconds: int) -> Outcome:
    """Fuzz one target, beginning with all that is known to be of interest."""
    found, wrong = _folder("found", target.name), _folder("wrong", target.name)
    for data in (*target.seeds(), *corpus.read(corpus.KEPT, target.name), *corpus.read(corpus.FAILED, target.name)):
        (found / sha256(data).hexdigest()).write_bytes(data)
    words = BUILD / f"{target.name}.words"
    words.write_text("".join(f'"{_hexadecimal(word)}"\n' for word in target.words))
    before = set(wrong.iterdir())
    started = time.monotonic()
    with (BUILD / f"{target.name}.log").open("wb") as log:
        done = subprocess.run(  # noqa: S603 # our own program
            [
                *(sys.executable, "-m", "fuzz.engine", target.name),
                *(f"-max_total_time={seconds}", f"-timeout={HANG_S}", f"-max_len={target.size_max}"),
                *(f"-rss_limit_mb={MEMORY_MAX_MB}", f"-artifact_prefix={wrong}/"),
                *((f"-dict={words}",) if target.words else ()),
                str(found),
            ],
            cwd=ROOT,
            env=environment(),
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        )
    said = (BUILD / f"{target.name}.log").read_text("utf-8", "replace")
    return Outcome(
        target.name, done.returncode, time.monotonic() - started, sorted(set(wrong.iterdir()) - before), said
    )


def keep(name: str) -> int:
    """Make the corpus of a target anew: the fewest of its inputs that go wherever all of them go."""
    target = load(name)
    merged = _folder("merged", name)
    shutil.rmtree(merged)
    merged.mkdir()
    sources = _folder("kept", name)
    for data in (*target.seeds(), *corpus.read(corpus.KEPT, name)):
        (sources / sha256(data).hexdigest()).write_bytes(data)
    subprocess.run(  # noqa: S603 # our own program
        [
            *(sys.executable, "-m", "fuzz.engine", name, "-set_cover_merge=1", f"-max_len={target.size_max}"),
            *(str(merged), str(sources), str(_folder("found", name))),
        ],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    inputs = [path.read_bytes() for path in merged.iterdir()]
    if not inputs:
        raise SystemExit(f"the inputs of {name} could not be merged")
    corpus.write(corpus.KEPT, name, inputs)
    return len(inputs)


def report(outcome: Outcome) -> str:
    """What there is to say of a target: how much was tried, or what went wrong and how to see it again."""
    lines = outcome.said.splitlines()
    if outcome.code == 0:
        last = next((line for line in reversed(lines) if "cov:" in line), "")
        return f"{outcome.name}: well for {outcome.seconds:.0f} s; {' '.join(last.split())}"
    shown = [f"{outcome.name}: WRONG after {outcome.seconds:.0f} s", *lines[-60:]]
    for path in outcome.failed:
        shown += [f"the input is kept in {path.relative_to(ROOT)}:", corpus.write_line(path.read_bytes())]
    return "\n".join(shown)


def environment() -> dict[str, str]:
    """What a fuzzer's process needs: the watched build of mq9, and the sanitizers' runtime with libFuzzer in it."""
    runtime = importlib.metadata.distribution("atheris").locate_file("asan_with_fuzzer.so")
    return os.environ | _ENVIRONMENT | {"LD_PRELOAD": str(runtime), "PYTHONPATH": f"{BUILD / 'lib'}"}


@contextmanager
def _scratch() -> Iterator[None]:
    """A folder in memory for what targets write; libFuzzer ends a process without letting it tidy up."""
    memory = Path("/dev/shm")  # noqa: S108 # the folder in it is private
    with tempfile.TemporaryDirectory(prefix="mq9-fuzz-", dir=memory if memory.is_dir() else None) as folder:
        os.environ["TMPDIR"] = folder
        yield


def _hexadecimal(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


def _folder(kind: str, name: str) -> Path:
    path = BUILD / kind / name
    path.mkdir(parents=True, exist_ok=True)
    return path


if __name__ == "__main__":
    sys.exit(main())
