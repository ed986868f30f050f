"""The servers that other people's clients are driven against: mq9, and nats-server as the measure of what is usual."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol

import pytest

from tests.support.broker import BrokerProcess
from tests.support.peers import DEBIAN_NATS_SERVER, NEW_NATS_SERVER, NatsServer, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Restartable(Protocol):
    """A server that can be stopped and started again at the same address."""

    @property
    def url(self) -> str:
        """Where clients connect."""

    def start(self) -> object:
        """Start it; comes back when it accepts connections."""

    def stop(self) -> object:
        """Stop it; comes back when it is gone."""


@contextmanager
def _running(name: str, data_dir: Path) -> Iterator[Restartable]:
    if name != "mq9":
        with NatsServer(name) as peer:
            yield peer
    else:
        with BrokerProcess(data_dir, free_port()) as broker:
            yield broker


SERVERS: Final = ["mq9", DEBIAN_NATS_SERVER, NEW_NATS_SERVER]


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Restartable]:
    """Each server in turn, running, for every test that only uses it."""
    with _running(request.param, tmp_path_factory.mktemp("server") / "data") as process:
        yield process


@pytest.fixture(params=SERVERS)
def own_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Restartable]:
    """Each server in turn, running, for one test that may stop it."""
    with _running(request.param, tmp_path / "data") as process:
        yield process
