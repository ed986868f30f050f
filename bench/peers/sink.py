"""The generator against itself.

Its `sink` mode answers and passes on without looking. What a run against that reaches is the generator's ceiling.
"""

from __future__ import annotations

import contextlib
import subprocess
from typing import TYPE_CHECKING

from bench import generator
from bench.peers.base import Peer, Server, Storage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class SinkServer(Server):
    """A started sink, which keeps nothing."""

    def __init__(self, port: int) -> None:
        self.port = port

    def open_storage(self, count: int) -> Storage:
        """Return any subjects."""
        return Storage(subjects=[f"bench.{number}" for number in range(count)], id_key="msg_id", ids_per_subject=False)

    def read_back(self, storage: Storage) -> list[str]:
        """Return nothing: it cannot be got back."""
        del storage
        return []


class Sink(Peer):
    """The least a server can do."""

    name = "the generator's ceiling"
    promise = "a server that only answers and copies"
    yardstick = True

    def version(self) -> str:
        """Return its source, which is in this repository."""
        return "bench/load/sink.c"

    @contextlib.contextmanager
    def start(self, directory: Path) -> Iterator[Server]:
        """Run the sink, which chooses its own port."""
        command = [str(generator.build()), "sink"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=directory, text=True) as process:
            try:
                assert process.stdout is not None
                yield SinkServer(int(process.stdout.readline()))
            finally:
                process.kill()
