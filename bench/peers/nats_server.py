"""nats-server: alone for core NATS, with JetStream for stored messages.

The program is looked for on the PATH; where there is none and this is root on Debian, it is installed from Debian's
packages.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, RetentionPolicy, StorageType, StreamConfig

from bench.peers.base import Peer, Server, Storage
from bench.peers.client import connected
from bench.processes import HOST, free_port, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

STREAM = "BENCH"
INSTALL_SECONDS_MAX = 300


def installed_program() -> str | None:
    """Return the path of nats-server, or None when there is none."""
    return shutil.which(
        "nats-server", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin"])
    )


@functools.cache
def find_program() -> str | None:
    """Return the path of nats-server, installed first when that is possible; None when there is none."""
    found = installed_program()
    if found is None and os.geteuid() == 0 and (installer := shutil.which("apt-get")) is not None:
        command = [installer, "install", "--yes", "--no-install-recommends", "nats-server"]
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(command, env=environment, capture_output=True, timeout=INSTALL_SECONDS_MAX, check=False)
        found = installed_program()
    return found


def _configuration(port: int, directory: Path, jetstream: str | None) -> str:
    lines = [f'listen: "{HOST}:{port}"']
    if jetstream is not None:
        lines.append(f'jetstream {{ store_dir: "{directory / "data"}"\n{jetstream} }}')
    return "\n".join(lines) + "\n"


async def _create_stream(port: int) -> None:
    async with connected(port) as client:
        await client.jetstream().add_stream(
            StreamConfig(
                name=STREAM,
                subjects=["bench.>"],
                storage=StorageType.FILE,
                retention=RetentionPolicy.LIMITS,
                num_replicas=1,
            )
        )


async def _create_push_consumer(port: int, subject: str) -> None:
    async with connected(port) as client:
        await client.jetstream().add_consumer(
            STREAM,
            ConsumerConfig(
                durable_name="drain",
                deliver_subject=subject,
                deliver_policy=DeliverPolicy.ALL,
                ack_policy=AckPolicy.NONE,
                flow_control=True,
                idle_heartbeat=5.0,
            ),
        )


class NatsServerProcess(Server):
    """A started nats-server; durable messages go to one stream in a file, with one subject for each mailbox."""

    def __init__(self, port: int) -> None:
        self.port = port

    def open_storage(self, count: int) -> Storage:
        """Make one file stream; `count` of its subjects stand for mailboxes."""
        asyncio.run(_create_stream(self.port))
        return Storage(subjects=[f"bench.{number}" for number in range(count)], id_key="seq", ids_per_subject=False)

    def read_back(self, storage: Storage) -> list[str]:
        """Make a push consumer with flow control that starts at the stream's beginning."""
        del storage
        asyncio.run(_create_push_consumer(self.port, "drained"))
        return ["drained"]


class NatsServer(Peer):
    """nats-server without JetStream."""

    name = "nats-server"
    promise = "nothing is stored"
    jetstream: ClassVar[str | None] = None

    def missing(self) -> str | None:
        """Say so when nats-server is neither there nor can be installed, or does not know an option we set."""
        program = find_program()
        if program is None:
            return "nats-server is not on the PATH and could not be installed (Debian: apt-get install nats-server)"
        with tempfile.TemporaryDirectory() as directory:
            configuration = Path(directory) / "nats-server.conf"
            configuration.write_text(_configuration(4222, Path(directory), self.jetstream))
            tried = subprocess.run(
                [program, "-t", "-c", str(configuration)], capture_output=True, text=True, check=False
            )
        return None if tried.returncode == 0 else f"{self.version()} does not know this configuration"

    def version(self) -> str:
        """Return what the program prints, or that there is none."""
        program = find_program()
        if program is None:
            return "not installed"
        return subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.strip()

    @contextlib.contextmanager
    def start(self, directory: Path) -> Iterator[Server]:
        """Run it with a configuration file that has nothing but the address and what the class adds."""
        program = find_program()
        assert program is not None
        port = free_port()
        configuration = directory / "nats-server.conf"
        configuration.write_text(_configuration(port, directory, self.jetstream))
        with serving([program, "-c", str(configuration)], port, directory):
            yield NatsServerProcess(port)


class JetStream(NatsServer):
    """A file stream with one replica and JetStream's defaults."""

    name = "JetStream"
    promise = "no fsync before the answer (its default: every 2 minutes)"
    jetstream: ClassVar[str | None] = ""


class JetStreamSyncAlways(NatsServer):
    """The same with an fsync for every write, which nats-server offers since 2.10."""

    name = "JetStream, sync always"
    promise = "fsync before every answer"
    pace = 0.1
    jetstream: ClassVar[str | None] = "sync_interval: always"
