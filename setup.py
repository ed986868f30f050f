"""Builds the compiled modules: every .pyx under src/mq9 becomes the extension module of the same name.

The variable MQ9_BUILD asks for another build than the one that users get; `make` puts each below build/ (CONTRIBUTING.md).
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

ROOT = Path(__file__).parent
FLAGS = ["-fno-strict-aliasing", "-Wall", "-Wno-unused-function", "-Wno-unused-variable"]
# What only a debugger reads is a third of the time that the compiler takes. Users get none of it; builds that check keep the lines and
# functions that their reports name.
_LINES = "-g1"
_WATCHED = ["-O1", _LINES, "-fno-omit-frame-pointer", "-fno-sanitize-recover=undefined", "-Wno-sign-compare"]


@dataclass(frozen=True)
class Build:
    """How to compile: what the C compiler and its linker are told, and what Cython is told besides what it always is."""

    flags: list[str]
    link: list[str] = field(default_factory=list)
    directives: dict[str, bool] = field(default_factory=dict)


BUILDS = {
    "": Build(["-O3", "-g0"]),
    # Every check that Cython can make at run time, in every module; the macros of its own code check their arguments, too.
    "checked": Build(
        ["-O1", _LINES, "-DCYTHON_ASSUME_SAFE_MACROS=0", "-DCYTHON_ASSUME_SAFE_SIZE=0"],
        directives={"boundscheck": True, "nonecheck": True, "initializedcheck": True, "overflowcheck": False},
    ),
    # Reading and writing out of bounds, use after free, and what C leaves undefined, end the process.
    "sanitized": Build([*_WATCHED, "-fsanitize=address,undefined"], ["-fsanitize=address,undefined"]),
    # The same, and the code says where it has been: clang only.
    "fuzzed": Build(
        [*_WATCHED, "-fsanitize=address,undefined,fuzzer-no-link"], ["-fsanitize=address,undefined,fuzzer-no-link"]
    ),
}
NAME = os.environ.get("MQ9_BUILD", "")
BUILD = BUILDS[NAME]


def extensions() -> list[Extension]:
    """One extension per .pyx file, named by its place in the package."""
    found = sorted((ROOT / "src").rglob("*.pyx"))
    if not found:
        raise SystemExit("there is nothing to compile: the sources are not whole")
    return [
        Extension(
            ".".join(path.relative_to(ROOT / "src").with_suffix("").parts),
            [str(path.relative_to(ROOT))],
            extra_compile_args=[*BUILD.flags, *FLAGS],
            extra_link_args=BUILD.link,
        )
        for path in found
    ]


setup(
    options={"build_ext": {"parallel": str(os.cpu_count() or 1)}},
    ext_modules=cythonize(  # type: ignore[no-untyped-call] # Cython's build ships no types
        extensions(),
        include_path=["src"],
        nthreads=os.cpu_count() or 1,
        # Indexes below zero mean nothing in C buffers. Bounds checks on Python sequences stay on.
        compiler_directives={
            "language_level": 3,
            "wraparound": False,
            "freethreading_compatible": False,
            **BUILD.directives,
        },
        # What Cython makes is the same for all builds that tell it the same.
        build_dir=f"build/{NAME}/cython" if BUILD.directives else "build/cython",
    ),
)
