"""The `nats` command as a test runs it: to its end, or beside the test."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol

from tests.support.peers import NATS, need
from tests.support.rawclient import RawClient

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE_S: Final = 20.0
Started = subprocess.Popen[str]


class Server(Protocol):
    """Whatever has an address."""

    @property
    def url(self) -> str:
        """Where clients connect."""


class Tool:
    """The `nats` command, pointed at `server` and away from any configuration of the user's."""

    def __init__(self, server: Server, home: Path) -> None:
        self._server = server
        self._path = need(NATS)
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("NATS_")}
        self._environment |= {"HOME": str(home), "XDG_CONFIG_HOME": str(home / "config")}

    def __call__(self, *arguments: str, body: str | None = None) -> str:
        """Run it to its end and give what it printed, which must be no failure."""
        done = subprocess.run(
            self._command(*arguments),
            env=self._environment,
            input=body,
            stdin=subprocess.DEVNULL if body is None else None,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout + done.stderr

    @contextmanager
    def started(self, *arguments: str, probe: str) -> Iterator[Started]:
        """Have it run beside the test, from when it hears the subject `probe` on; what it hears there is `ready`."""
        with subprocess.Popen(
            self._command(*arguments),
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                self._await_listener(probe, process)
                yield process
            finally:
                process.terminate()

    def _command(self, *arguments: str) -> list[str]:
        return [self._path, "--server", self._server.url, "--timeout", f"{PATIENCE_S:.0f}s", *arguments]

    def _await_listener(self, probe: str, process: Started) -> None:
        deadline = time.monotonic() + PATIENCE_S
        with RawClient(int(self._server.url.rpartition(":")[2])).connect() as client:
            client.send(b"SUB probe 1\r\n")
            while True:
                client.send(b"PUB %b probe 5\r\nready\r\n" % probe.encode())
                if not any(b"NATS/1.0 503" in frame for frame in client.fence()):
                    return
                assert process.poll() is None, process.communicate()[0]
                assert time.monotonic() < deadline, f"nobody listens on {probe}"


def ended(process: Started) -> str:
    """What a `process` that ends by itself has printed."""
    said, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, said
    return said
