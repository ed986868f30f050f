"""Installs the programs that the tests and the benchmark hold mq9 against.

They are nats-server, Redis and RabbitMQ as Debian ships them; strace, which shows that a reply follows its fsync; valgrind, which
counts instructions; systemd, which reads our unit; and, built with Go from the versions pinned in tools/natscli, the newest
nats-server, its command line tool `nats`, and a program that reads monitoring pages into nats-server's own types, as nats-top does.
Run by `make peers` and by CI; what is there already is left alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from tools import debian

PINS: Final = Path(__file__).parent / "natscli"
BUILT: Final = Path(__file__).parents[1] / ".tools" / "bin"
SYSTEM: Final = ("nats-server", "strace", "redis-server", "rabbitmq-server", "valgrind", "systemd")
NEW_NATS_SERVER: Final = "nats-server-2.15"
PACKAGES: Final = {
    "nats": "github.com/nats-io/natscli/nats",
    NEW_NATS_SERVER: "github.com/nats-io/nats-server/v2",
    "nats-monitor": "./monitor",
}
# The variables of the environment that say so.
REQUIRING: Final = ("CI", "MQ9_REQUIRE_PEERS")


def required() -> bool:
    """Whether it is a failure here that one of them, or a toolchain, is missing."""
    return any(os.environ.get(name, "").lower() not in {"", "0", "false"} for name in REQUIRING)


def main() -> int:
    """Install what is missing; the exit code says whether all of it is there now."""
    problems = [problem for problem in (*map(debian.install, SYSTEM), *map(build, PACKAGES)) if problem]
    for path in (*map(debian.installed, SYSTEM), *map(built, PACKAGES)):
        if path is not None:
            print(path)
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def built(name: str) -> str | None:
    """The path of one of PACKAGES, if it was built since what it is built from was changed."""
    program = BUILT / name
    newest = max(path.stat().st_mtime for path in PINS.rglob("*") if path.is_file())
    if not program.exists() or program.stat().st_mtime < newest:
        return None
    return str(program)


def build(name: str) -> str | None:
    """Build one of PACKAGES, unless that was done since what it is built from was changed; gives the reason when it fails."""
    if built(name):
        return None
    if shutil.which("go") is None:
        return f"{name} is missing, and Go, which builds it, is not installed"
    print(f"building {name} …", file=sys.stderr, flush=True)
    command = ["go", "build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags=-s -w"]
    program = BUILT / name
    done = subprocess.run([*command, "-o", program, PACKAGES[name]], cwd=PINS, capture_output=True, check=False)  # noqa: S603
    if done.returncode != 0:
        return f"{name} could not be built: {done.stderr.decode(errors='replace').strip()[-300:]}"
    program.touch()
    return None


if __name__ == "__main__":
    sys.exit(main())
