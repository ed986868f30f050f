"""Running the `mq9` command as a user does."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from tests.support.broker import clean_environment

if TYPE_CHECKING:
    from types import TracebackType

DEADLINE_S = 30.0


def objects(said: str) -> list[dict[str, Any]]:
    """The JSON objects that a command has printed, one a line."""
    return [json.loads(line) for line in said.splitlines()]


class Started(subprocess.Popen[bytes]):
    """A command that runs; when the test fails, there is no waiting for its end."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.kill()
        super().__exit__(kind, error, trace)


class Command:
    """`mq9` against one broker.

    Arguments:
        url: the broker; given to every command in MQ9_URL.
    """

    def __init__(self, url: str) -> None:
        self.environment = {**clean_environment(), "MQ9_URL": url}

    def run(self, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        ran = subprocess.run(
            [sys.executable, "-m", "mq9", *arguments],
            input=stdin,
            capture_output=True,
            timeout=DEADLINE_S,
            env=self.environment,
        )
        said, complained = ran.stdout.decode("utf-8", "replace"), ran.stderr.decode()
        return subprocess.CompletedProcess(ran.args, ran.returncode, said, complained)

    def __call__(self, *arguments: str, stdin: bytes = b"") -> str:
        """Run it, expect it to succeed and to say nothing on stderr, and return what it says."""
        ran = self.run(*arguments, stdin=stdin)
        assert (ran.returncode, ran.stderr) == (0, ""), ran
        return ran.stdout

    def start(self, *arguments: str, **options: Any) -> Started:
        """Start it, for tests that do something to it while it runs."""
        return Started(
            [sys.executable, "-m", "mq9", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment,
            **options,
        )
