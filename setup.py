"""Builds the compiled modules: every .pyx under src/mq9 becomes the extension module of the same name."""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

ROOT = Path(__file__).parent
FLAGS = ["-O3", "-fno-strict-aliasing", "-Wall", "-Wno-unused-function", "-Wno-unused-variable"]


def extensions() -> list[Extension]:
    """One extension per .pyx file, named by its place in the package."""
    found = sorted((ROOT / "src").rglob("*.pyx"))
    if not found:
        raise SystemExit("there is nothing to compile: the sources are not whole")
    return [
        Extension(
            ".".join(path.relative_to(ROOT / "src").with_suffix("").parts),
            [str(path.relative_to(ROOT))],
            extra_compile_args=FLAGS,
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
        compiler_directives={"language_level": 3, "wraparound": False, "freethreading_compatible": False},
        build_dir="build/cython",
    ),
)
