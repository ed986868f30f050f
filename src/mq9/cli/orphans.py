"""What becomes of the commands of a `mq9 work` that is killed: they are ended, since their messages go to another worker.

A small shell stands by that knows the process group of every command that runs. It reads what begins and ends from a named pipe, whose
end comes when this process is gone, however it went. A command enters itself before it is run, so none is missed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from types import TracebackType

SHELL: Final = "/bin/sh"
# What a command that has been asked to end gets before it is killed.
GRACE_S: Final = 5
# `+ PID` has begun and `- PID` has ended, where PID is the leader of a process group.
_STAND_BY: Final = """
trap '' HUP INT TERM
running=' '
while read -r what pid; do
    case "$what$running" in
    +*) running="$running$pid " ;;
    -*" $pid "*) running="${running%% "$pid" *} ${running#* "$pid" }" ;;
    esac
done
rm -rf "$1"
for pid in $running; do kill -s TERM -- "-$pid"; done
[ "$running" = "${running#*[0-9]}" ] && exit
sleep "$2"
for pid in $running; do kill -s KILL -- "-$pid"; done
"""
_ENTER: Final = 'echo "+ $$" >"$0" && exec "$1" -c "$2"'


class Orphanage:
    """Stands by as long as it is entered."""

    def __enter__(self) -> Self:
        self._directory = Path(tempfile.mkdtemp(prefix="mq9-work-"))
        self._pipe = self._directory / "commands"
        os.mkfifo(self._pipe)
        # With an end to read from here, too, nobody who writes waits for the shell.
        self._reading = os.open(self._pipe, os.O_RDONLY | os.O_NONBLOCK)
        self._writing = os.open(self._pipe, os.O_WRONLY)
        os.set_blocking(self._reading, True)
        self._standing_by = subprocess.Popen(  # noqa: S603
            [SHELL, "-c", _STAND_BY, "mq9-work", str(self._directory), str(GRACE_S)],
            stdin=self._reading,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._writing)
        os.close(self._reading)
        self._standing_by.wait()
        shutil.rmtree(self._directory, ignore_errors=True)

    def arguments(self, command: str) -> list[str]:
        """What to run so that the shell runs `command`, in a process group of its own that is ended should this process be killed."""
        return [SHELL, "-c", _ENTER, str(self._pipe), SHELL, command]

    def ended(self, pid: int) -> None:
        """The command with this process id has ended."""
        with suppress(OSError):
            os.write(self._writing, b"- %d\n" % pid)
