"""Builds what is published, into dist/: an sdist, a wheel made of it, and the executable `mq9` made of the wheel.

    python -m tools.dist

The wheel is made of the unpacked sdist, so the sdist has everything that it takes. docs/operations.md says what each is for.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from tools.executable import build

ROOT: Final = Path(__file__).parents[1]
DIST: Final = ROOT / "dist"


def main() -> None:
    """Build all of it."""
    with tempfile.TemporaryDirectory() as directory:
        made = Path(directory)
        # What only a debugger reads is most of what the compiler writes.
        environment = {**os.environ, "CFLAGS": f"{os.environ.get('CFLAGS', '')} -g0"}
        command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", directory, str(ROOT)]
        built = subprocess.run(  # noqa: S603
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        if built.returncode != 0:
            raise SystemExit(built.stdout)
        (wheel,) = made.glob("*.whl")
        build.make(wheel, made / "mq9")
        shutil.rmtree(DIST, ignore_errors=True)
        shutil.copytree(made, DIST)
    for path in sorted(DIST.iterdir()):
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
