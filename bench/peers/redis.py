"""Redis: a stream for each mailbox, in an append-only file that is synced before every answer."""

from __future__ import annotations

import contextlib
import subprocess
from typing import TYPE_CHECKING

from bench.generator import RunFailedError
from bench.peers.base import Peer, Server, Storage
from bench.processes import HOST, REDIS, free_port, serving
from tools import debian

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GROUP = "workers"  # as the generator's workers call theirs
_PROGRAM = "redis-server"
_CLIENT = "redis-cli"
# Neither snapshots nor rewrites of the append-only file: they would cost it time in the middle of a run.
_OPTIONS = ("--appendonly", "yes", "--appendfsync", "always", "--save", "", "--auto-aof-rewrite-percentage", "0")


class RedisServer(Server):
    """A started Redis."""

    def __init__(self, port: int, pid: int) -> None:
        self.port = port
        self.pid = pid

    def open_storage(self, count: int) -> Storage:
        """Name streams: one is made by the first message to it."""
        return Storage([f"bench.{number}" for number in range(count)], dialect="redis", ids_per_subject=True)

    def read_back(self, storage: Storage) -> list[str]:
        """Return the streams, which are read from their beginning."""
        return storage.subjects

    def open_queue(self, storage: Storage) -> str:
        """Make a consumer group that begins with the oldest message."""
        client = debian.installed(_CLIENT)
        if client is None:
            raise RunFailedError("redis-cli, which comes with Redis, is missing")
        command = [client, "-h", HOST, "-p", str(self.port), "XGROUP", "CREATE", storage.subjects[0], GROUP, "0"]
        told = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
        if told != "OK":
            raise RunFailedError(f"Redis made no consumer group: {told}")
        return storage.subjects[0]


class Redis(Peer):
    """Streams with an append-only file that is synced before every answer."""

    name = "Redis"
    promise = "fsync before every answer (appendfsync always)"
    syncs = True

    def missing(self) -> str | None:
        """Say so when it is neither there nor can be installed."""
        return debian.install(_PROGRAM)

    def version(self) -> str:
        """Return what the program prints."""
        program = debian.installed(_PROGRAM)
        if program is None:
            return "not installed"
        told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
        return " ".join(told.split()[:3])

    @contextlib.contextmanager
    def start(self, directory: Path) -> Iterator[Server]:
        """Run it with its defaults but for how it keeps its data."""
        program = debian.installed(_PROGRAM)
        assert program is not None
        port = free_port()
        address = ("--bind", HOST, "--port", str(port), "--dir", str(directory))
        with serving([program, *address, *_OPTIONS], port, directory, REDIS) as process:
            yield RedisServer(port, process.pid)
