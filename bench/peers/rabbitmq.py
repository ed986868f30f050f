"""RabbitMQ: a quorum queue for each mailbox, persistent messages, publisher confirms.

Of its two kinds of durable queues the quorum queue is the better one here: it syncs before it confirms, as the classic queue does,
and is two to four times as fast. On one node it has one member, which is as little as it can do.
"""

from __future__ import annotations

import contextlib
import functools
import re
import subprocess
from typing import TYPE_CHECKING

from bench.peers.base import Peer, Server, Storage
from bench.processes import AMQP, HOST, free_port, serving
from tools import debian

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PROGRAM = "rabbitmq-server"
# The one that Debian puts on the PATH wants to be root and becomes another user.
_SCRIPT = "/usr/lib/rabbitmq/bin/rabbitmq-server"
_DAEMON = "epmd"
_CONFIGURATION = """
listeners.tcp.default = {host}:{port}
log.console = true
log.file = false
"""


class RabbitServer(Server):
    """A started RabbitMQ."""

    def __init__(self, port: int, pid: int) -> None:
        self.port = port
        self.pid = pid

    def open_storage(self, count: int) -> Storage:
        """Name queues, which the generator declares."""
        return Storage([f"bench.{number}" for number in range(count)], dialect="amqp")

    def read_back(self, storage: Storage) -> list[str]:
        """Return the queues, which are consumed."""
        return storage.subjects

    def open_queue(self, storage: Storage) -> str:
        """Return the queue: workers consume from it. That it is empty then is seen by the generator."""
        return storage.subjects[0]


@functools.cache
def _version(program: str) -> str:
    """What the package says it is; asking the program takes seconds."""
    del program
    listed = subprocess.run(["dpkg-query", "--show", _PROGRAM], capture_output=True, text=True, check=False).stdout
    found = re.search(r"\s(\d[\d.]*)", listed)
    return f"RabbitMQ {found[1]}" if found else "RabbitMQ, of an unknown version"


class RabbitMQ(Peer):
    """One node with its defaults."""

    name = "RabbitMQ"
    promise = "fsync before every confirm (quorum queue, one member)"
    syncs = True
    pace = 0.1

    def missing(self) -> str | None:
        """Say so when it is neither there nor can be installed."""
        reason = debian.install(_PROGRAM)
        return reason or (None if debian.installed(_SCRIPT) else f"RabbitMQ is not where Debian puts it: {_SCRIPT}")

    def version(self) -> str:
        """Return the package's version."""
        return _version(_PROGRAM)

    @contextlib.contextmanager
    def start(self, directory: Path) -> Iterator[Server]:
        """Run one node, and the daemon that Erlang wants beside it, on ports of their own."""
        port, node_port, daemon_port = free_port(), free_port(), free_port()
        configuration = directory / "rabbitmq.conf"
        configuration.write_text(_CONFIGURATION.format(host=HOST, port=port))
        environment = {
            "HOME": str(directory),
            "ERL_EPMD_PORT": str(daemon_port),
            "ERL_EPMD_ADDRESS": HOST,
            "RABBITMQ_NODENAME": f"bench-{port}@localhost",
            "RABBITMQ_DIST_PORT": str(node_port),
            "RABBITMQ_CONFIG_FILE": str(configuration),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
            "RABBITMQ_LOG_BASE": str(directory / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "plugins"),
            "RABBITMQ_PID_FILE": str(directory / "pid"),
        }
        daemon = [debian.installed(_DAEMON) or _DAEMON, "-port", str(daemon_port), "-address", HOST]
        with (
            subprocess.Popen(daemon, cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as epmd,
            contextlib.ExitStack() as ending,
        ):
            ending.callback(epmd.kill)
            process = ending.enter_context(serving([_SCRIPT], port, directory, AMQP, environment))
            yield RabbitServer(port, process.pid)
