"""What is beside a fault: other clients whose messages are timed, and the broker's memory and log while it happens."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from tests.support.broker import clean_environment
from tests.support.findings import is_thorough

if TYPE_CHECKING:
    from types import TracebackType

    from tests.support.broker import BrokerProcess

# How long each phase is that is timed.
PHASE_S: Final = 6.0 if is_thorough() else 0.5
_ENDING_S: Final = 60.0


class Beside:
    """A sender and a receiver at the broker, in a process of their own (neighbours.py), and a look at its memory."""

    def __init__(self, broker: BrokerProcess) -> None:
        self._broker = broker
        command = [sys.executable, "-m", "tests.faults.neighbours", broker.url]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=clean_environment()
        )
        self.rss_before_mb = 0.0
        self.found: dict[str, Any] = {}

    def __enter__(self) -> Self:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n", "they did not come to an end of their beginning"
        time.sleep(PHASE_S / 6)  # the first messages find everything cold
        self.phase("before")
        time.sleep(PHASE_S)
        self.rss_before_mb = self.rss_mb()
        Path(f"/proc/{self._broker.pid}/clear_refs").write_text("5")  # the peak begins now
        self.phase("during")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None and not self.found:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def phase(self, name: str) -> None:
        """What is sent from now on is counted under another name."""
        assert self._process.stdin is not None
        self._process.stdin.write(name + "\n")
        self._process.stdin.flush()

    def end(self, *, refused: bool = False) -> None:
        """Let them come to an end: everything of theirs was answered, all that is stored was received once.

        `refused`: whether some of what they sent may have been refused.
        """
        said, _ = self._process.communicate(timeout=_ENDING_S)
        self.found = json.loads(said)
        assert self.found["unanswered"] == 0, self.found
        assert self.found["lost"] == self.found["doubles"] == 0, self.found
        if not refused:
            assert self.found["stored"] == self.found["sent"], self.found

    def p99_ms(self, before: str = "before") -> tuple[float, float]:
        """Of their messages before the fault, or in the phase that it is held against, and during it."""
        phases = self.found["phases"]
        return phases[before]["p99"], phases["during"]["p99"]

    def rss_mb(self, field: str = "VmRSS") -> float:
        """The broker's memory now, or with VmHWM the most there was since the fault began."""
        status = Path(f"/proc/{self._broker.pid}/status").read_text("utf-8")
        line = next(line for line in status.splitlines() if line.startswith(field + ":"))
        return round(int(line.split()[1]) / 1_024, 1)

    def rss_both_mb(self) -> tuple[float, float]:
        """The broker's memory before the fault, and the most there was since."""
        return self.rss_before_mb, self.rss_mb("VmHWM")


def lines(log: str, word: str) -> list[str]:
    """The lines of a log that have `word` in them, without the time."""
    return [line.split(" ", 2)[-1] for line in log.splitlines() if word in line]
