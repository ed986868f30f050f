"""Starts a server for one run on a free port of the loopback interface, waits until it serves, and stops it."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from typing import TYPE_CHECKING

from bench.generator import RunFailedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOST = "127.0.0.1"
START_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 30.0


def free_port() -> int:
    """Return a TCP port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _greets(port: int) -> bool:
    """Whether a NATS server has said its first line on `port`."""
    try:
        with socket.create_connection((HOST, port), timeout=1.0) as connection:
            return connection.recv(5) == b"INFO "
    except OSError:
        return False


def _wait(process: subprocess.Popen[bytes], name: str, port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while not _greets(port):
        if process.poll() is not None or time.monotonic() > deadline:
            last_lines = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
            raise RunFailedError(f"{name} does not serve on port {port}:\n{last_lines}")
        time.sleep(0.01)


@contextlib.contextmanager
def serving(command: list[str], port: int, directory: Path) -> Iterator[None]:
    """Run `command`, a NATS server on `port`, while the block runs; its output goes to a file in `directory`.

    Raises RunFailedError with the last lines of that output when it does not start.
    """
    log = directory / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=directory)
    try:
        _wait(process, command[0], port, log)
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
