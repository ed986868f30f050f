"""mq9 itself, as `mq9 serve` starts it, with nothing tuned."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from bench.generator import RunFailedError
from bench.peers.base import Peer, Server, Storage
from bench.peers.client import connected
from bench.processes import free_port, serving
from mq9 import protocol

if TYPE_CHECKING:
    from collections.abc import Iterator


async def _create(port: int, count: int) -> list[str]:
    async with connected(port) as client:
        replies = [await client.request(protocol.CREATE, b"{}", timeout=10) for _ in range(count)]
    bodies = [json.loads(reply.data) for reply in replies]
    if any("error" in body for body in bodies):
        raise RunFailedError(f"mq9 made no mailbox: {bodies}")
    return [body["mail_id"] for body in bodies]


class Mq9Server(Server):
    """A started mq9."""

    def __init__(self, port: int) -> None:
        self.port = port

    def open_storage(self, count: int) -> Storage:
        """Make `count` private mailboxes that live for the default time."""
        mail_ids = asyncio.run(_create(self.port, count))
        subjects = [protocol.MESSAGES + mail_id for mail_id in mail_ids]
        return Storage(subjects=subjects, id_key="msg_id", ids_per_subject=True)

    def read_back(self, storage: Storage) -> list[str]:
        """Return the mailboxes: a subscription to one begins with everything stored in it."""
        return storage.subjects


class Mq9(Peer):
    """mq9 with its defaults; `promise` is what it promises in the figure at hand."""

    name = "mq9"

    def __init__(self, promise: str) -> None:
        self.promise = promise

    def version(self) -> str:
        """Return the version installed beside this interpreter."""
        return metadata.version("mq9")

    @contextlib.contextmanager
    def start(self, directory: Path) -> Iterator[Server]:
        """Run `mq9 serve` of this interpreter's own environment."""
        port = free_port()
        script = Path(sys.executable).with_name("mq9")
        program = [str(script)] if script.exists() else [sys.executable, "-m", "mq9.cli"]
        command = [*program, "serve", "--port", str(port), "--data-dir", str(directory / "data")]
        with serving(command, port, directory):
            yield Mq9Server(port)
