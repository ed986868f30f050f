"""The generator against itself.

Its `sink` mode answers and passes on without looking. What a run against that reaches is the generator's ceiling.
"""

from __future__ import annotations

import contextlib
import subprocess
from typing import TYPE_CHECKING

from bench import generator
from bench.peers.base import Creation, Peer, Server, Storage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class SinkServer(Server):
    """A started sink."""

    def __init__(self, port: int, pid: int = 0, *, keeps: bool = False) -> None:
        self.port = port
        self.pid = pid
        self._keeps = keeps

    def open_storage(self, count: int) -> Storage:
        """Return any subjects."""
        return Storage([f"bench.{number}" for number in range(count)], dialect="mq9")

    def read_back(self, storage: Storage) -> list[str]:
        """Return the subjects if it keeps what it is sent; else nothing: it cannot be got back."""
        return storage.subjects if self._keeps else []

    def listen(self, storage: Storage) -> str:
        """Return the subject: what is sent there is passed on."""
        return storage.subjects[0]

    def open_queue(self, storage: Storage) -> str:
        """Return anything: it has one queue."""
        return storage.subjects[0]

    def creation(self) -> Creation:
        """Return any request: all are answered with a number."""
        return Creation("bench.create", "{}", "msg_id", "bench.look.", "{}")


class Sink(Peer):
    """The least a server can do."""

    name = "the generator's ceiling"
    promise = "a server that only answers and copies"
    yardstick = True

    def __init__(self, *, keeps: bool = False) -> None:
        self._keeps = keeps

    def version(self) -> str:
        """Return its source, which is in this repository."""
        return "bench/load/sink.c"

    @contextlib.contextmanager
    def start(self, directory: Path) -> Iterator[Server]:
        """Run the sink, which chooses its own port."""
        command = [str(generator.build()), "sink", *(["--keep"] if self._keeps else [])]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=directory, text=True) as process:
            try:
                assert process.stdout is not None
                yield SinkServer(int(process.stdout.readline()), process.pid, keeps=self._keeps)
            finally:
                process.kill()
