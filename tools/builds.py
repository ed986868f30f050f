"""Makes a build of mq9 that checks more than the one users get, below build/, and runs Python with it.

    python -m tools.builds NAME [ARGUMENTS OF PYTHON ...]

`checked` has Cython's checks on everywhere. `sanitized` ends at the first access out of bounds, use after free, or thing that C leaves
undefined. `fuzzed` is that with coverage, for `python -m fuzz`, and needs clang, which is installed where that can be done.
setup.py says what each is compiled with.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tools import debian

ROOT: Final = Path(__file__).parents[1]
NAMES: Final = ("checked", "sanitized", "fuzzed")
CLANG: Final = "clang-14"
# The compiler, and its sanitizers and libFuzzer, as Debian packages.
_CLANG_PACKAGES: Final = ("clang-14", "libclang-rt-14-dev")


class BuildError(Exception):
    """A build that cannot be made; the text says why."""


def folder(name: str) -> Path:
    """Where the package of a build is."""
    return ROOT / "build" / name / "lib"


def build(name: str) -> None:
    """Make a build, or what has changed of it. Raises BuildError."""
    compilers: dict[str, str] = {}
    if name == "fuzzed":
        _need_clang()
        compilers = {"CC": CLANG, "LDSHARED": f"{CLANG} -shared"}
    here = f"build/{name}"
    done = subprocess.run(  # noqa: S603 # our own program
        [
            *(sys.executable, "setup.py", "-q", "build", "--build-lib", f"{here}/lib", "--build-temp", f"{here}/temp"),
            *("-j", str(os.cpu_count() or 1)),
        ],
        cwd=ROOT,
        env=os.environ | compilers | {"MQ9_BUILD": name},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise BuildError(f"the build {name} failed:\n{done.stdout[-4_000:]}{done.stderr[-4_000:]}")


def environment(name: str) -> Mapping[str, str]:
    """The variables with which Python runs what was built."""
    if name == "fuzzed":
        return os.environ  # `python -m fuzz` runs with the usual build, and each fuzzer it starts with this one
    found = os.environ | {"PYTHONPATH": str(folder(name))}
    if name == "sanitized":
        found |= {
            "LD_PRELOAD": subprocess.run(
                ["gcc", "-print-file-name=libasan.so"],  # noqa: S607
                capture_output=True,
                text=True,
                check=True,
            ).stdout.strip(),
            # Python's own allocator would hide its objects from the sanitizer. What Python holds at its end is no leak.
            "PYTHONMALLOC": "malloc",
            "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
            "UBSAN_OPTIONS": "print_stacktrace=1",
        }
    return found


def main(arguments: Sequence[str]) -> int:
    """Build, and run what is to be run; the exit code is that of Python."""
    if not arguments or arguments[0] not in NAMES:
        print(__doc__, file=sys.stderr)
        return 2
    name, *command = arguments
    try:
        build(name)
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    if not command:
        return 0
    return subprocess.run([sys.executable, *command], cwd=ROOT, env=environment(name), check=False).returncode  # noqa: S603


def _need_clang() -> None:
    if shutil.which(CLANG) is not None and _has_runtime():
        return
    if reason := debian.install_packages(*_CLANG_PACKAGES):
        raise BuildError(reason)


def _has_runtime() -> bool:
    name = "libclang_rt.asan-x86_64.a"
    said = subprocess.run([CLANG, f"-print-file-name={name}"], capture_output=True, text=True, check=False)  # noqa: S603
    return Path(said.stdout.strip()).is_absolute()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
