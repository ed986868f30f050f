"""A whole broker but its sockets and its disk, for one input: as many callbacks as it needs, and time that passes when it is told.

The loop and the connections are those of tests/simulation.
"""

from __future__ import annotations

import asyncio
import logging
from types import TracebackType
from typing import Any, Final, Self

from mq9.server.broker import Server
from mq9.server.config import Config
from mq9.store.contract import Store
from tests.simulation.clients import Client, Frame
from tests.simulation.loop import Listener, SimulatedLoop

BEGINNING_MS: Final = 1_800_000_000_000
PAYLOAD_MAX: Final = 65_536


class QuietServer(Server):
    """A broker that listens to nobody: clients are brought to it."""

    def _bind(self) -> Any:
        return Listener()


class Complaints(logging.Filter):
    """Keeps what the broker logs of errors of its own, which are those with a traceback, and lets nothing through to anybody else."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep `record`."""
        if record.exc_info is not None or record.levelno >= logging.CRITICAL:
            self.heard.append(logging.Formatter().format(record))
        return False


_COMPLAINTS: Final = Complaints()
_LOG: Final = logging.getLogger("mq9")


class Fuzzed:
    """A broker on `store`, and its clients; what it must not do is an AssertionError.

    Arguments:
        store: an engine that needs no thread.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.connections = 0
        self.heard: dict[int, list[Frame]] = {}

    def __enter__(self) -> Self:
        _COMPLAINTS.heard.clear()
        _LOG.addFilter(_COMPLAINTS)
        self.start(BEGINNING_MS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.stop()
        finally:
            self.loop.abandon()
            self.server.office.close()
            asyncio._set_running_loop(None)
            _LOG.removeFilter(_COMPLAINTS)

    def start(self, now: int) -> None:
        """Start the broker with what its store holds."""
        self.loop = SimulatedLoop(now, lambda: None)  # type: ignore[abstract] # the broker asks no more of a loop
        asyncio._set_running_loop(self.loop)
        config = Config(memory=True, max_payload=PAYLOAD_MAX, ping_interval=86_400.0, max_subject=1024)
        self.server = QuietServer(config, clock=lambda: self.loop.now, store=self.store)
        starting = self.loop.create_task(self.server.start())
        self.loop.run()
        assert starting.done(), "the broker does not start"
        starting.result()

    def stop(self) -> None:
        """Stop the broker, which has to come to an end, and to have had no error of its own."""
        self.settle()
        stopping = self.loop.create_task(self.server.stop())
        assert self.loop.finish(stopping), "the broker does not stop"
        stopping.result()
        self.look()

    def restart(self) -> None:
        """Stop it, and start it with what its store holds now."""
        self.stop()
        now = self.loop.now
        self.loop.abandon()
        self.server.office.close()
        self.start(now + 10)

    def connect(self) -> Client:
        """A new client, which keeps what it is told in `heard`."""
        self.connections += 1
        number = self.connections
        told = self.heard[number] = []
        client = Client(number, self.loop, lambda _: None, lambda _, frame: told.append(frame))
        self.settle()
        return client

    def told(self, client: Client) -> list[Frame]:
        """What a client was told since this was asked last."""
        told = self.heard[client.number][:]
        self.heard[client.number].clear()
        return told

    def pass_time(self, milliseconds: int) -> None:
        """Let time pass."""
        self.loop.pass_time(milliseconds)
        self.settle()

    def settle(self) -> None:
        """Let the broker do all that it has to do at this moment."""
        self.loop.run()
        self.server.hub.flush()
        self.loop.run()
        self.look()

    def look(self) -> None:
        """See whether the broker has had an error of its own."""
        assert not self.loop.failures, self.loop.failures[0]
        assert not _COMPLAINTS.heard, _COMPLAINTS.heard[0]
        assert not self.server.failed.is_set(), "the broker gave up"
