"""What a broker tells systemd: the datagrams of sd_notify(3), on a real socket."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.broker import clean_environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE_S: Final = 20.0


class Systemd:
    """A broker that was started as systemd starts one, and what it tells."""

    def __init__(self, address: str, *arguments: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(PATIENCE_S)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._command = [sys.executable, "-m", "mq9", "serve", "--port", "0", *arguments]
        self._environment = {**clean_environment(), "NOTIFY_SOCKET": address}
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=self._environment
        )

    def told(self) -> dict[str, str]:
        """The next message."""
        return dict(line.split("=", 1) for line in self._socket.recv(4096).decode().splitlines())

    def close(self) -> None:
        """End what still runs."""
        self.process.kill()
        self.process.wait(PATIENCE_S)
        self._socket.close()


@pytest.fixture(params=["file", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    """One whose socket is a file, or has none."""
    address = str(tmp_path / "notify") if request.param == "file" else f"@mq9-test-{os.getpid()}"
    started = Systemd(address, "--data-dir", str(tmp_path / "data"))
    yield started
    started.close()


def test_it_is_told_of_everything_between_start_and_end(systemd: Systemd) -> None:
    ready = systemd.told()
    assert ready["READY"] == "1"
    assert "nats://127.0.0.1:" in ready["STATUS"]
    systemd.process.send_signal(signal.SIGHUP)
    reloading = systemd.told()
    assert reloading["RELOADING"] == "1"
    assert int(reloading["MONOTONIC_USEC"]) > 0
    assert systemd.told()["READY"] == "1"
    systemd.process.send_signal(signal.SIGTERM)
    assert systemd.told() == {"STOPPING": "1"}
    assert systemd.process.wait(PATIENCE_S) == 0


def test_it_is_not_ready_before_it_can_serve(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "letter").write_text("to whom it may concern")
    started = Systemd(str(tmp_path / "notify"), "--data-dir", str(tmp_path / "data"))
    try:
        assert started.process.wait(PATIENCE_S) == 1
        started._socket.settimeout(0)
        with pytest.raises(BlockingIOError):
            started.told()
    finally:
        started.close()


def test_who_does_not_listen_any_more_does_no_harm(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mq9", "serve", "--port", "0", "--memory"]
    environment = {**clean_environment(), "NOTIFY_SOCKET": str(tmp_path / "nobody")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as broker:
        assert broker.stdout is not None
        assert b"nats://" in broker.stdout.readline()
        broker.send_signal(signal.SIGTERM)
        assert broker.wait(PATIENCE_S) == 0
