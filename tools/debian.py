"""Has Debian install what is missing, without having it started as a service."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

INSTALL_SECONDS_MAX: Final = 600
# Where Debian puts servers that are not for every user's PATH.
_SYSTEM: Final = ("/usr/local/sbin", "/usr/sbin", "/usr/lib/rabbitmq/bin")
# Asked by Debian before it starts a service; 101 forbids it.
_POLICY: Final = Path("/usr/sbin/policy-rc.d")


def installed(program: str) -> str | None:
    """The path of `program`, on the PATH or where Debian puts servers; None when there is none."""
    return shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", ""), *_SYSTEM]))


def install(program: str) -> str | None:
    """Have the package of this name installed, unless its program is there; gives the reason when that cannot be."""
    if installed(program):
        return None
    reason = install_packages(program)
    return reason or (None if installed(program) else f"the package {program} brings no such program")


def install_packages(*packages: str) -> str | None:
    """Have packages installed that are not there yet; gives the reason when that cannot be."""
    names = " and ".join(packages)
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return f"{names} must be installed, as your system does that: here it is done for root on Debian only"
    print(f"installing {names} …", file=sys.stderr, flush=True)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    with _no_services():
        for arguments in (["update", "-q"], ["install", "-q", "-y", "--no-install-recommends", *packages]):
            try:
                done = subprocess.run(  # noqa: S603
                    ["apt-get", *arguments],  # noqa: S607
                    env=environment,
                    check=False,
                    capture_output=True,
                    timeout=INSTALL_SECONDS_MAX,
                )
            except subprocess.TimeoutExpired:
                return f"apt-get {arguments[0]} did not end within {INSTALL_SECONDS_MAX} s"
            if done.returncode != 0:
                return f"apt-get {arguments[0]} failed: {done.stderr.decode(errors='replace').strip()[-300:]}"
    return None


@contextlib.contextmanager
def _no_services() -> Iterator[None]:
    """Forbid services to be started meanwhile, unless somebody else decides that here."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()
