"""Installs the programs that the tests hold mq9 against.

They are nats-server as Debian ships it; strace, which shows that a reply follows its fsync; and, built with Go from the
versions pinned in tools/natscli, a newer nats-server, its command line tool `nats`, and a program that reads monitoring pages into
nats-server's own types, as nats-top does. Run by `make peers` and by CI; what is there already is left alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

PINS: Final = Path(__file__).parent / "natscli"
BUILT: Final = Path(__file__).parents[1] / ".tools" / "bin"
SYSTEM: Final = ("nats-server", "strace")
PACKAGES: Final = {
    "nats": "github.com/nats-io/natscli/nats",
    "nats-server-2.12": "github.com/nats-io/nats-server/v2",
    "nats-monitor": "./monitor",
}


def main() -> int:
    """Install what is missing; the exit code says whether all of it is there now."""
    problems = [problem for problem in (*map(install_from_debian, SYSTEM), *map(build, PACKAGES)) if problem]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def install_from_debian(program: str) -> str | None:
    """Have the system install the package of this name, unless its program is there; gives the reason when that cannot be."""
    if found := shutil.which(program, path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin"):
        print(found)
        return None
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return f"{program} is missing, and only root on Debian can have it installed: install it as your system does"
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update", "-q"], ["install", "-q", "-y", "--no-install-recommends", program]):
        if subprocess.run(["apt-get", *arguments], env=environment, check=False).returncode != 0:  # noqa: S603, S607
            return f"apt-get {arguments[0]} failed"
    return None


def build(name: str) -> str | None:
    """Build one of PACKAGES, unless that was done since what it is built from was changed; gives the reason when it fails."""
    program = BUILT / name
    newest = max(path.stat().st_mtime for path in PINS.rglob("*") if path.is_file())
    if not program.exists() or program.stat().st_mtime < newest:
        if shutil.which("go") is None:
            return f"{name} is missing, and Go, which builds it, is not installed"
        command = ["go", "build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags=-s -w"]
        if subprocess.run([*command, "-o", program, PACKAGES[name]], cwd=PINS, check=False).returncode != 0:  # noqa: S603
            return f"{name} could not be built"
        program.touch()
    print(program)
    return None


if __name__ == "__main__":
    sys.exit(main())
