"""The unit for systemd: systemd reads it, finds little that the broker could do besides its work, and does not keep it from that.

docs/operations.md, "systemd".
"""

from __future__ import annotations

import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Final
from urllib.request import urlopen

import pytest

from tests.house.source import ROOT
from tests.shipping.test_executable import EXECUTABLE, PATIENCE_S
from tests.store.post import Post
from tests.support.peers import need

UNIT: Final = ROOT / "packaging" / "systemd" / "mq9.service"
# Of 10; below 2 systemd calls it OK.
EXPOSURE_MAX: Final = 1.5
# Refused, and libuv asks for it first: it has another way.
MAY_BE_REFUSED: Final = {"io_uring_setup", "io_uring_enter", "io_uring_register"}


def analyze(*arguments: str | Path) -> str:
    """What systemd-analyze says, of what it is content with."""
    ran = subprocess.run(
        [need("systemd-analyze"), *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran
    return ran.stdout + ran.stderr


def settings(name: str) -> list[str]:
    """The values of a setting of the unit."""
    return re.findall(rf"(?m)^{name}=(.*)$", UNIT.read_text())


def test_systemd_has_nothing_to_say_about_it(tmp_path: Path) -> None:
    unit = tmp_path / "mq9.service"
    # It looks whether there is a program of that name.
    unit.write_text(UNIT.read_text().replace("ExecStart=/usr/local/bin/mq9 serve", "ExecStart=/bin/true"))
    assert "/bin/true" in unit.read_text()
    assert analyze("verify", unit) == ""


def test_little_is_left_that_it_could_do_besides(tmp_path: Path) -> None:
    said = analyze("security", "--offline=yes", UNIT)
    exposure = re.search(r"Overall exposure level for mq9.service: ([\d.]+)", said)
    assert exposure is not None, said
    assert float(exposure[1]) <= EXPOSURE_MAX, [line for line in said.splitlines() if "✗" in line]


def allowed() -> set[str]:
    """The system calls that the unit allows."""
    groups: dict[str, list[str]] = {}
    for line in analyze("syscall-filter").splitlines():
        if line.startswith("@"):
            groups[line.strip()] = members = []
        elif line.strip() and not line.strip().startswith("#") and groups:
            members.append(line.strip())

    def calls(name: str) -> set[str]:
        if not name.startswith("@"):
            return {name}
        return {call for member in groups[name] for call in calls(member)}

    found: set[str] = set()
    for value in settings("SystemCallFilter"):
        named = {call for name in value.removeprefix("~").split() for call in calls(name)}
        found = found - named if value.startswith("~") else found | named
    return found


@pytest.mark.dist
@pytest.mark.parametrize("program", ["executable", "wheel"])
def test_what_it_does_is_allowed(tmp_path: Path, program: str) -> None:
    command = [str(EXECUTABLE)] if program == "executable" else [str(ROOT / ".venv" / "bin" / "mq9")]
    trace = tmp_path / "trace"
    options = ["--port", "0", "--http-port", "0", "--data-dir", str(tmp_path / "data")]
    with subprocess.Popen(
        [need("strace"), "-f", "-qq", "-o", str(trace), *command, "serve", *options], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        nats, http = re.search(r"nats://\S+:\d+", said), re.search(r"http://[^\s,]+", said)
        assert nats is not None
        assert http is not None
        work(nats[0], http[0])
        broker = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
        for number in (signal.SIGHUP, signal.SIGTERM):
            subprocess.run(["kill", f"-{number}", str(broker)], check=True)
        assert process.wait(PATIENCE_S) == 0
    called = set(re.findall(r"(?m)^\d+ +(\w+)\(", trace.read_text(errors="replace")))
    assert {"fdatasync", "accept4", "write"} <= called
    assert called - allowed() <= MAY_BE_REFUSED


def work(nats: str, http: str) -> None:
    """Have a broker do a little of everything."""
    with Post(nats) as post:
        box = post.new()
        for _ in range(20):
            post.send_all(box, [b"x" * 10_000] * 100)
        assert len(post.receive(box, 2_000)) == 2_000
        post.ask(f"$mq9.AI.MSG.FETCH.{box}", {"group_name": "workers"})
        post.remove(box)
        deadline = time.monotonic() + PATIENCE_S
        while b"mq9_stored_bytes 0" not in page(f"{http}/metrics"):
            assert time.monotonic() < deadline
        for name in ("healthz", "varz", "connz", "subsz"):
            assert page(f"{http}/{name}")


def page(url: str) -> bytes:
    """What is at a URL."""
    with urlopen(url, timeout=PATIENCE_S) as response:  # noqa: S310 - our own broker's
        said: bytes = response.read()
    return said
