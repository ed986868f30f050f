"""Starts a server for one run on a free port of the loopback interface, waits until it serves, and stops it."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from typing import TYPE_CHECKING, NamedTuple

from bench.generator import RunFailedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

HOST = "127.0.0.1"
START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 60.0
_PAUSE_S = 0.002


class Greeting(NamedTuple):
    """How a server shows that it serves: what is said to it, and how its answer begins."""

    say: bytes
    hear: bytes


NATS = Greeting(b"", b"INFO ")
REDIS = Greeting(b"PING\r\n", b"+PONG")
AMQP = Greeting(b"AMQP\0\0\x09\x01", b"\x01\0\0")


def free_port() -> int:
    """Return a TCP port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _greets(port: int, greeting: Greeting) -> bool:
    """Whether the server on `port` answers as it should."""
    try:
        with socket.create_connection((HOST, port), timeout=1.0) as connection:
            connection.sendall(greeting.say)
            return connection.recv(len(greeting.hear), socket.MSG_WAITALL) == greeting.hear
    except OSError:
        return False


def _wait(process: subprocess.Popen[bytes], name: str, port: int, greeting: Greeting, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while not _greets(port, greeting):
        if process.poll() is not None or time.monotonic() > deadline:
            last_lines = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
            raise RunFailedError(f"{name} does not serve on port {port}:\n{last_lines}")
        time.sleep(_PAUSE_S)


@contextlib.contextmanager
def serving(
    command: list[str],
    port: int,
    directory: Path,
    greeting: Greeting = NATS,
    environment: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `command`, a server on `port`, while the block runs, which gets its process.

    Its output goes to a file in `directory`; `environment` is added to ours. Raises RunFailedError with the last lines
    of that output when it does not start.
    """
    log = directory / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env={**os.environ, **(environment or {})},
        )
    try:
        _wait(process, command[0], port, greeting, log)
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to stop, and wait until it has."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS_MAX)
    if process.poll() is None:
        process.kill()
        process.wait()
