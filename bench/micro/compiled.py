"""Compiles `probes.pyx`, into build/, and imports it."""

from __future__ import annotations

import contextlib
import importlib.machinery
import importlib.util
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bench.generator import ROOT

if TYPE_CHECKING:
    from types import ModuleType

SOURCE = Path(__file__).parent / "probes.pyx"
NAME = "bench.micro.probes"
BUILT = ROOT / "build" / "bench" / "micro"
# As setup.py has it: what is inlined here is to cost what it costs there.
_FLAGS = ["-O3", "-fno-strict-aliasing"]
_DIRECTIVES = {"language_level": 3, "wraparound": False}


def _program() -> Path | None:
    """The compiled module, if there is one of this interpreter."""
    suffixes = tuple(importlib.machinery.EXTENSION_SUFFIXES)
    return next((path for path in sorted(BUILT.rglob("probes.*")) if path.name.endswith(suffixes)), None)


def _is_current(program: Path) -> bool:
    """Whether it is newer than its source and than every layout that it knows of mq9."""
    sources = [SOURCE, *(ROOT / "src").rglob("*.pxd")]
    return program.stat().st_mtime > max(path.stat().st_mtime for path in sources)


def build() -> Path:
    """Compile it, unless that was done since anything that it is made from has changed; return where it is."""
    program = _program()
    if program is not None and _is_current(program):
        return program
    # Dependencies of the build only, and slow to import.
    from Cython.Build import cythonize
    from setuptools import Distribution, Extension

    BUILT.mkdir(parents=True, exist_ok=True)
    extension = Extension(NAME, [os.path.relpath(SOURCE, ROOT)], extra_compile_args=_FLAGS)
    with contextlib.chdir(ROOT), contextlib.redirect_stdout(sys.stderr):
        modules = cythonize(  # type: ignore[no-untyped-call] # Cython's build ships no types
            [extension],
            include_path=["src"],
            build_dir=str(BUILT / "c"),
            compiler_directives=_DIRECTIVES,
            force=True,
            quiet=True,
        )
        distribution = Distribution({"ext_modules": modules})
        command = distribution.get_command_obj("build_ext")
        assert command is not None
        command.build_lib, command.build_temp = str(BUILT), str(BUILT / "o")
        command.ensure_finalized()
        command.run()
    program = _program()
    assert program is not None
    return program


def load() -> ModuleType:
    """Import the probes, compiled first where need be."""
    known = sys.modules.get(NAME)
    if known is not None:
        return known
    specification = importlib.util.spec_from_file_location(NAME, build())
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[NAME] = module
    specification.loader.exec_module(module)
    return module
