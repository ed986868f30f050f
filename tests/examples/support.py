"""The examples as processes of their own: started, listened to, stopped and killed as a scenario says."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time
from typing import IO, TYPE_CHECKING, Final

from tests.house.source import ROOT
from tests.support.broker import clean_environment

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

DEADLINE_S: Final = 30.0


class Actor:
    """One appearance of an agent: a role of an example, played by a process.

    Arguments:
        url: the broker, told in MQ9_URL.
        program: the example's file name, without `.py`.
        arguments: the role, and what belongs to it.
    """

    def __init__(self, url: str, program: str, *arguments: str) -> None:
        self.name = " ".join((program, *arguments))
        self.heard: list[str] = []
        self._begun = b""
        self._unread: list[str] = []
        self._process = subprocess.Popen(
            [sys.executable, str(ROOT / "examples" / f"{program}.py"), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**clean_environment(), "MQ9_URL": url},
        )

    def hear(self, pattern: str) -> re.Match[str]:
        """The next line that has `pattern`; those before it are skipped."""
        return hear_first([self], pattern)[1]

    def kill(self) -> None:
        """End it as a crash would."""
        self._process.kill()
        self.finish(-signal.SIGKILL)

    def stop(self) -> None:
        """End it as Ctrl-C would: cleanly."""
        self._process.terminate()
        self.finish(130)

    def finish(self, code: int = 0) -> list[str]:
        """Wait for its end, which must be with `code`; all that it has said."""
        deadline = time.monotonic() + DEADLINE_S
        while self.listen(deadline - time.monotonic()):
            pass
        assert self._process.wait(DEADLINE_S) == code, f"{self.name} said {self.heard}"
        return self.heard

    def close(self) -> None:
        """See that nothing of it is left."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(DEADLINE_S)
        self._output.close()

    def next_with(self, pattern: str) -> re.Match[str] | None:
        """The next line that has `pattern` among those that were heard and not looked at."""
        while self._unread:
            if (found := re.search(pattern, self._unread.pop(0))) is not None:
                return found
        return None

    def listen(self, timeout_s: float) -> bool:
        """Wait for more, up to `timeout_s` seconds; False when there will be nothing any more."""
        ready, _, _ = select.select([self._output], [], [], max(0.0, timeout_s))
        assert ready, f"{self.name} said no more than {self.heard}"
        chunk = os.read(self._output.fileno(), 65_536)
        *lines, self._begun = (self._begun + chunk).split(b"\n")
        for line in lines:
            self.heard.append(line.decode())
            self._unread.append(line.decode())
        return bool(chunk)

    def fileno(self) -> int:
        """What `select` waits for."""
        return self._output.fileno()

    @property
    def _output(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout


def hear_first(actors: list[Actor], pattern: str) -> tuple[Actor, re.Match[str]]:
    """Whoever of `actors` is the first to say something that has `pattern`, and what that is."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        for actor in actors:
            if (found := actor.next_with(pattern)) is not None:
                return actor, found
        ready, _, _ = select.select(actors, [], [], max(0.0, deadline - time.monotonic()))
        said = {actor.name: actor.heard for actor in actors}
        assert ready, f"nobody said {pattern!r}; they said {said}"
        for actor in ready:
            assert actor.listen(0), f"{actor.name} ended without saying {pattern!r}; they said {said}"


class Cast:
    """Everybody who appears in a scenario.

    Arguments:
        url: the broker.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._actors: list[Actor] = []

    def start(self, program: str, *arguments: str) -> Actor:
        """Let somebody appear."""
        self._actors.append(Actor(self.url, program, *arguments))
        return self._actors[-1]

    def play(self, program: str, *arguments: str) -> list[str]:
        """Let somebody appear, play a short role and go; what was said."""
        return self.start(program, *arguments).finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for actor in self._actors:
            actor.close()
