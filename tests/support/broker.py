"""A real broker as a process of its own, which a test can stop, kill and start again."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from mq9.server.checking import check

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType
    from typing import Self

_DEADLINE_S: Final = 20.0
_NATS_URL = re.compile(r"(?:nats|tls)://[^\s,]+:\d+")
_HTTP_URL = re.compile(r"http://[^\s,]+:\d+")


class BrokerProcess:
    """`mq9 serve` on 127.0.0.1.

    Arguments:
        data_dir: where it keeps its data; None for `--memory`.
        port: where it listens; None takes a free one, which is kept for the next start.
        http: whether it answers HTTP as well, on a free port.
        arguments: further options of `mq9 serve`.
        environment: what it has in its environment besides that of the tests.
        under: a program, with its arguments, that starts it in its own place.
    """

    def __init__(
        self,
        data_dir: Path | None,
        port: int | None = None,
        *,
        http: bool = False,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        under: Sequence[str] = (),
    ) -> None:
        self._data_dir = data_dir
        self._port = port or 0
        self._http = http
        self._arguments = list(arguments)
        self._environment = dict(environment or {})
        self._under = list(under)
        self._process: subprocess.Popen[bytes] | None = None
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        self.url = ""
        self.http_port: int | None = None

    def start(self) -> Self:
        """Start it; returns when it listens, and raises AssertionError with what it said when it does not."""
        assert self._process is None, "it runs already"
        where = ["--memory"] if self._data_dir is None else ["--data-dir", str(self._data_dir)]
        http = ["--http-port", "0"] if self._http else []
        command = [sys.executable, "-m", "mq9", "serve", "--port", str(self._port), *where, *http, *self._arguments]
        self._output.seek(0)
        self._output.truncate()
        self._process = subprocess.Popen(
            self._under + command,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            env=clean_environment() | self._environment,
        )
        self._wait_until_ready()
        return self

    @property
    def pid(self) -> int:
        """The process."""
        assert self._process is not None, "it does not run"
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended, by itself or otherwise."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """Take it away as a power cut would, as far as the process can tell."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """Ask it to stop, and wait until it has; returns its exit code."""
        return self._end(signal.SIGTERM)

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def ended(self) -> int:
        """Wait until it has ended by itself; returns its exit code."""
        assert self._process is not None, "it does not run"
        code = self._process.wait(_DEADLINE_S)
        self._process = None
        return code

    def close(self) -> None:
        """Kill it if it still runs, and clear up."""
        if self._process is not None:
            self.kill()
        self._output.close()

    def damage(self) -> list[str]:
        """What `mq9 check` finds to be damaged in its data; it must not run."""
        assert self._process is None, "it runs"
        assert self._data_dir is not None, "it has no data"
        return check(self._data_dir).damage

    def log(self) -> str:
        """Everything it has said since it was started last."""
        return os.pread(self._output.fileno(), 1 << 24, 0).decode("utf-8", "replace")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _end(self, number: signal.Signals) -> int:
        assert self._process is not None, "it does not run"
        self._process.send_signal(number)
        code = self._process.wait(_DEADLINE_S)
        self._process = None
        return code

    def _wait_until_ready(self) -> None:
        """Wait for the line that says what listens where."""
        assert self._process is not None
        deadline = time.monotonic() + _DEADLINE_S
        while True:
            said = self.log()
            nats, http = _NATS_URL.search(said), _HTTP_URL.search(said)
            if nats is not None and (http is not None or not self._http):
                break
            ended = self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                self.close()
                raise AssertionError(f"the broker {'ended' if ended else 'did not start'}; it said:\n{said}")
            time.sleep(0.01)
        self.url = nats[0]
        self._port = urlsplit(self.url).port or 0
        self.http_port = None if http is None else urlsplit(http[0]).port


def clean_environment() -> dict[str, str]:
    """The environment without what the user may have set for mq9."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MQ9_")}
