"""mq9 itself, as `mq9 serve` starts it, with nothing tuned."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.generator import RunFailedError
from bench.peers.base import Creation, Peer, Server, Storage
from bench.peers.client import connected
from bench.processes import free_port, serving
from mq9 import protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

GROUP = "workers"  # as the generator's workers call theirs


async def _create(port: int, count: int) -> list[str]:
    async with connected(port) as client:
        replies = [await client.request(protocol.CREATE, b"{}", timeout=10) for _ in range(count)]
    bodies = [json.loads(reply.data) for reply in replies]
    if any("error" in body for body in bodies):
        raise RunFailedError(f"mq9 made no mailbox: {bodies}")
    return [body["mail_id"] for body in bodies]


async def _left(port: int, mail_id: str) -> list[Any]:
    """What the group of workers has not acked: what it can have now, and what is dead."""
    async with connected(port) as client:
        lease = json.dumps({"group_name": GROUP, "config": {"num_msgs": 1, "max_wait_ms": 0}}).encode()
        dead = json.dumps({"dead": GROUP, "limit": 1, "payload": False}).encode()
        replies = [
            await client.request(protocol.LEASE + mail_id, lease, timeout=10),
            await client.request(protocol.FETCH + mail_id, dead, timeout=10),
        ]
    return [message for reply in replies for message in json.loads(reply.data)["messages"]]


def command(port: int, data_dir: Path, *options: str) -> list[str]:
    """Return the command line that runs `mq9 serve` of this interpreter's own environment."""
    script = Path(sys.executable).with_name("mq9")
    program = [str(script)] if script.exists() else [sys.executable, "-m", "mq9"]
    return [*program, "serve", "--port", str(port), "--data-dir", str(data_dir), *options]


class Mq9Server(Server):
    """A started mq9."""

    def __init__(self, port: int, pid: int) -> None:
        self.port = port
        self.pid = pid

    def open_storage(self, count: int) -> Storage:
        """Make `count` private mailboxes that live for the default time."""
        return storage_of(asyncio.run(_create(self.port, count)))

    def read_back(self, storage: Storage) -> list[str]:
        """Return the mailboxes: a subscription to one begins with everything stored in it."""
        return storage.subjects

    def listen(self, storage: Storage) -> str:
        """Return the mailbox."""
        return storage.subjects[0]

    def open_queue(self, storage: Storage) -> str:
        """Return the mailbox: a group begins with its first FETCH."""
        return storage.subjects[0].removeprefix(protocol.MESSAGES)

    def check_worked(self, storage: Storage) -> None:
        """Ask for more as the group, and for what it has given up."""
        left = asyncio.run(_left(self.port, self.open_queue(storage)))
        if left:
            raise RunFailedError(f"after everything was acked there is something left: {left}")

    def creation(self) -> Creation:
        """Say how a private mailbox is made."""
        return Creation(protocol.CREATE, "{}", "mail_id", protocol.FETCH, '{"limit": 1, "payload": false}')


def storage_of(mail_ids: list[str]) -> Storage:
    """Return how to send to these mailboxes."""
    return Storage([protocol.MESSAGES + mail_id for mail_id in mail_ids], dialect="mq9", ids_per_subject=True)


class Mq9(Peer):
    """mq9 with its defaults; `promise` is what it promises in the figure at hand."""

    syncs = True

    def __init__(self, promise: str, name: str = "mq9", setting: Any = None, *, yardstick: bool = False) -> None:
        self.name = name
        self.promise = promise
        self.setting = setting
        self.yardstick = yardstick

    def version(self) -> str:
        """Return the version installed beside this interpreter."""
        return metadata.version("mq9")

    @contextlib.contextmanager
    def start(self, directory: Path) -> Iterator[Server]:
        """Run `mq9 serve`, with its data in `directory`/data."""
        port = free_port()
        with serving(command(port, directory / "data"), port, directory) as process:
            yield Mq9Server(port, process.pid)
