"""nats-server: alone for core NATS, with JetStream for stored messages.

The newest release is built with Go, from the version pinned in tools/natscli; where that cannot be done it is the one on the
PATH, or, where there is none and this is root on Debian, the one of Debian's packages.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, RetentionPolicy, StorageType, StreamConfig

from bench.generator import RunFailedError
from bench.peers.base import Creation, Peer, Server, Storage
from bench.peers.client import connected
from bench.processes import HOST, free_port, serving
from tools import debian, peers

if TYPE_CHECKING:
    from collections.abc import Iterator

STREAM = "BENCH"
WORKERS = "workers"
ACKS_SECONDS_MAX = 10.0
_PROGRAM = "nats-server"


def installed_program() -> str | None:
    """Return the path of nats-server, the newest if it was built, or None when there is none."""
    return peers.built(peers.NEW_NATS_SERVER) or debian.installed(_PROGRAM)


@functools.cache
def find_program() -> str | None:
    """Return the path of nats-server, built or installed first when that is possible; None when there is none."""
    if peers.built(peers.NEW_NATS_SERVER) is None and peers.build(peers.NEW_NATS_SERVER) is not None:
        debian.install(_PROGRAM)
    return installed_program()


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


async def _add_consumer(port: int, **settings: Any) -> None:
    async with connected(port) as client:
        await client.jetstream().add_consumer(
            STREAM, ConsumerConfig(deliver_policy=DeliverPolicy.ALL, num_replicas=1, **settings)
        )


async def _work_left(port: int) -> tuple[int, int]:
    """How many messages workers have not had, and how many they have not acked."""
    async with connected(port) as client:
        told = await client.jetstream().consumer_info(STREAM, WORKERS)
    return told.num_pending or 0, told.num_ack_pending or 0


class NatsServerProcess(Server):
    """A started nats-server; durable messages go to one stream in a file, with one subject for each mailbox."""

    def __init__(self, port: int, pid: int) -> None:
        self.port = port
        self.pid = pid

    def open_storage(self, count: int) -> Storage:
        """Make one file stream; `count` of its subjects stand for mailboxes."""
        asyncio.run(_create_stream(self.port))
        return Storage([f"bench.{number}" for number in range(count)], dialect="jetstream", id_key="seq")

    def read_back(self, storage: Storage) -> list[str]:
        """Make a push consumer that starts at the stream's beginning, as the official clients' ordered consumer does."""
        del storage
        ordered = {"ack_policy": AckPolicy.NONE, "max_deliver": 1, "mem_storage": True, "inactive_threshold": 300.0}
        asyncio.run(
            _add_consumer(self.port, deliver_subject="drained", flow_control=True, idle_heartbeat=5.0, **ordered)
        )
        return ["drained"]

    def listen(self, storage: Storage) -> str:
        """Make a push consumer to whose subject any number can subscribe."""
        del storage
        asyncio.run(_add_consumer(self.port, durable_name="fan", deliver_subject="fan", ack_policy=AckPolicy.NONE))
        return "fan"

    def open_queue(self, storage: Storage) -> str:
        """Make a pull consumer with explicit acks that lets workers hold as much as they ask for."""
        del storage
        asyncio.run(
            _add_consumer(self.port, durable_name=WORKERS, ack_policy=AckPolicy.EXPLICIT, max_ack_pending=100_000)
        )
        return f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{WORKERS}"

    def check_worked(self, storage: Storage) -> None:
        """Ask the consumer what is left; acks that nobody waited for may take a moment."""
        del storage
        deadline = time.monotonic() + ACKS_SECONDS_MAX
        while (left := asyncio.run(_work_left(self.port))) != (0, 0):
            if time.monotonic() > deadline:
                raise RunFailedError(f"JetStream has {left[0]} messages left for workers and {left[1]} not acked")
            time.sleep(0.05)

    def creation(self) -> Creation:
        """Say how a file stream with a subject of its own is made."""
        body = '{"name":"S%","subjects":["box.%"],"storage":"file","retention":"limits","num_replicas":1}'
        return Creation("$JS.API.STREAM.CREATE.S%", body, "name", "$JS.API.STREAM.INFO.", "{}")


class NatsServer(Peer):
    """nats-server without JetStream."""

    name = "nats-server"
    promise = "nothing is stored"
    jetstream: ClassVar[str | None] = None

    def __init__(self, promise: str | None = None, name: str | None = None, pace: float | None = None) -> None:
        self.promise = promise or self.promise
        self.name = name or self.name
        self.pace = pace or self.pace

    def missing(self) -> str | None:
        """Say so when nats-server is neither there nor can be had, or does not know an option we set."""
        program = find_program()
        if program is None:
            return "nats-server is not on the PATH and could not be had (Go builds it; Debian: apt-get install nats-server)"
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
        with serving([program, "-c", str(configuration)], port, directory) as process:
            yield NatsServerProcess(port, process.pid)


class JetStream(NatsServer):
    """A file stream with one replica and JetStream's defaults."""

    name = "JetStream"
    promise = "no fsync before the answer (its default: every 2 minutes)"
    syncs = False
    jetstream: ClassVar[str | None] = ""


class JetStreamSyncAlways(NatsServer):
    """The same with an fsync for every write, which nats-server offers since 2.10."""

    name = "JetStream, sync always"
    promise = "fsync before every answer"
    syncs = True
    pace = 0.1
    jetstream: ClassVar[str | None] = "sync_interval: always"
