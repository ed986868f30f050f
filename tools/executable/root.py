"""Makes a root directory in which the executable runs: it, the C library, and an empty directory for data.

    python -m tools.executable.root dist/mq9 image

It is what the image of the Dockerfile consists of, and what the executable is tried in.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM: Final = Path("bin/mq9")
DATA: Final = Path("data")
# What the executable loads by itself is the first of these; Python and its modules want the others.
_LIBRARIES: Final = re.compile(r"lib(?:c|m|dl|pthread|rt|util|resolv)\.so\.\d+")
_LDD: Final = re.compile(r"(/\S+\.so\S*) \(")


def make(executable: Path, root: Path) -> None:
    """Make it, of the executable and the C library of this machine; `root` must not be there."""
    (root / DATA).mkdir(mode=0o700, parents=True)
    (root / PROGRAM.parent).mkdir()
    shutil.copy(executable, root / PROGRAM)
    for library in libraries(executable):
        copy = root / library.relative_to("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, copy)


def libraries(executable: Path) -> Iterator[Path]:
    """The files of the C library, by the names under which programs look for them."""
    said = subprocess.run(["ldd", executable], capture_output=True, text=True, check=True).stdout  # noqa: S603, S607
    for path in map(Path, _LDD.findall(said)):
        if _LIBRARIES.fullmatch(path.name):
            yield from sorted(found for found in path.parent.iterdir() if _LIBRARIES.fullmatch(found.name))
        else:
            yield path  # what loads programs


if __name__ == "__main__":
    make(Path(sys.argv[1]), Path(sys.argv[2]))
