"""The real programs that mq9 is held against: nats-server, of two versions, and its command line tool `nats`.

`make peers` installs them. A test that needs one which is not there is skipped on a developer's machine and fails where
`CI` or `MQ9_REQUIRE_PEERS` is set, so that no suite goes missing unseen.
"""

from __future__ import annotations

import functools
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import pytest

from tools.peers import required

if TYPE_CHECKING:
    import signal
    from types import TracebackType

BUILT: Final = Path(__file__).parents[2] / ".tools" / "bin"
NATS: Final = "nats"
DEBIAN_NATS_SERVER: Final = "nats-server"
NEW_NATS_SERVER: Final = "nats-server-2.15"
MONITOR: Final = "nats-monitor"
SYSTEM: Final = "/usr/sbin:/usr/local/sbin"
_DEADLINE_S: Final = 20.0


def find(name: str) -> str | None:
    """The path of the peer called `name`: the one that `make peers` built, else the one of the system, else None."""
    if (BUILT / name).exists():
        return str(BUILT / name)
    return shutil.which(name) or shutil.which(name, path=SYSTEM)


def need(name: str) -> str:
    """The path of the peer called `name`; ends the test, skipped or failed, when there is none."""
    path = find(name)
    if path is None:
        sentence = f"{name} is not installed: `make peers` installs it"
        if required():
            pytest.fail(sentence)
        pytest.skip(sentence)
    return path


@functools.cache
def version(path: str) -> tuple[int, ...]:
    """The version that the nats-server at `path` says it is."""
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=True, timeout=_DEADLINE_S).stdout
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", said)
    assert found is not None, said
    return tuple(map(int, found.groups()))


def free_port() -> int:
    """A TCP port of this machine that nothing listened on a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class NatsServer:
    """A nats-server process of the test's own.

    Arguments:
        name: which of them, `DEBIAN_NATS_SERVER` or `NEW_NATS_SERVER`.
        options: further options of its command line.
    """

    def __init__(self, name: str, *options: str) -> None:
        self.path = need(name)
        self._options = options
        self.version = version(self.path)
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Start it, on the same port each time, and come back when it accepts connections."""
        self._process = subprocess.Popen(
            [self.path, "-a", "127.0.0.1", "-p", str(self.port), *self._options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + _DEADLINE_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=_DEADLINE_S).close()
            except ConnectionRefusedError:
                assert self._process.poll() is None, f"{self.path} ended with {self._process.returncode}"
                assert time.monotonic() < deadline, f"{self.path} does not accept connections"
                time.sleep(0.005)
            else:
                return self

    def stop(self) -> None:
        """End it as an operator does, and wait until it is gone."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(_DEADLINE_S)
            self._process = None

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None, "it does not run"
        self._process.send_signal(number)

    def ended(self) -> int:
        """Wait until it has ended by itself; returns its exit code."""
        assert self._process is not None, "it does not run"
        code = self._process.wait(_DEADLINE_S)
        self._process = None
        return code

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
