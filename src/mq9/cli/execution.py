"""Running a user's command for one message, for `mq9 work`.

The command is given to the shell. It gets the payload on standard input and the facts about the message in its environment; what it
prints goes where the output of `mq9 work` goes. It has a session of its own, so that Ctrl-C in a terminal reaches `mq9 work` alone
and the command may finish what it has begun; should `mq9 work` be killed, the command is ended.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mq9.cli.orphans import Orphanage
    from mq9.sdk.message import BaseMessage

CANNOT_RUN: Final = 126
_LINE_BYTES_MAX: Final = 4_096
_AFTERGLOW_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command has ended: its exit code (a signal's number, negative, when one has ended it), and what it said last."""

    code: int
    last_line: str

    @property
    def reason(self) -> str:
        """Why it failed, in one line: the last line of its standard error, or else how it ended."""
        return self.last_line or (
            f"exit code {self.code}" if self.code >= 0 else f"ended by {signal.Signals(-self.code).name}"
        )


class Commands:
    """The commands that are running.

    Arguments:
        command: what the shell is to run.
        environment: what every command has in its environment.
        orphanage: ends them should this process be killed.
        stdout: where their output goes; None for the standard output of this process.
    """

    def __init__(
        self, command: str, environment: Mapping[str, str], orphanage: Orphanage, stdout: IO[bytes] | None = None
    ) -> None:
        self._command = command
        self._environment = environment
        self._orphanage = orphanage
        self._stdout = stdout
        # A signal's handler may come in between, and be interrupted itself.
        self._lock = threading.RLock()
        self._terminated = False
        self._running: set[subprocess.Popen[bytes]] = set()

    def run(self, message: BaseMessage, facts: Mapping[str, str]) -> Outcome:
        """Run one for `message`, with `facts` in its environment as well, and wait for its end.

        When there is no shell, or no process to be had, that is how it has ended, with the shell's own code for it.
        """
        try:
            process = self._started(message, facts)
        except OSError as error:
            return Outcome(CANNOT_RUN, f"the command cannot be run: {error.strerror}")
        with self._lock:
            self._running.add(process)
            if self._terminated:
                self._end(process)
        try:
            return self._watched(process)
        finally:
            with self._lock:
                self._running.discard(process)
            self._orphanage.ended(process.pid)

    def terminate(self) -> None:
        """Ask those that run to end, with everything that they have started."""
        with self._lock:
            self._terminated = True
            for process in self._running:
                self._end(process)

    def _started(self, message: BaseMessage, facts: Mapping[str, str]) -> subprocess.Popen[bytes]:
        with tempfile.TemporaryFile() as body:
            # A file and not a pipe: nobody has to stand by to fill it, and a command that does not read it loses nothing.
            body.write(message.data)
            body.seek(0)
            return subprocess.Popen(  # noqa: S603 - the user's own command
                self._orphanage.arguments(self._command),
                stdin=body,
                stdout=self._stdout,
                stderr=subprocess.PIPE,
                env={**self._environment, **facts},
                start_new_session=True,
            )

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)

    def _watched(self, process: subprocess.Popen[bytes]) -> Outcome:
        """Pass on what `process` complains of, and keep the last line of it."""
        assert process.stderr is not None  # noqa: S101 - it was asked for
        last = _LastLine()
        listening = threading.Thread(target=last.pass_on, args=(process.stderr,), daemon=True)
        listening.start()
        code = process.wait()
        # What it has left behind in the background may hold the other end for ever.
        listening.join(_AFTERGLOW_S)
        if not listening.is_alive():
            process.stderr.close()
        return Outcome(code, last.text)


class _LastLine:
    """The last line of an output that has anything in it."""

    def __init__(self) -> None:
        self._line = b""
        self._begun = b""

    def pass_on(self, output: IO[bytes]) -> None:
        """Copy `output` to our standard error until its end."""
        while chunk := os.read(output.fileno(), 65_536):
            with suppress(OSError, ValueError):  # nobody is listening to us: the command is to do its work all the same
                sys.stderr.buffer.write(chunk)
                sys.stderr.buffer.flush()
            *lines, self._begun = (self._begun + chunk).split(b"\n")
            self._begun = self._begun[-_LINE_BYTES_MAX:]
            self._line = next((line for line in reversed(lines) if line.strip()), self._line)

    @property
    def text(self) -> str:
        """It, without what could take over a terminal."""
        line = (self._begun if self._begun.strip() else self._line).strip()[:_LINE_BYTES_MAX]
        text = line.decode("utf-8", "replace")
        return "".join(character if character.isprintable() else " " for character in text)
