"""Every transcript, against every server it holds for, fed in each way."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mq9.server.config import Config
from mq9.server.embedded import Broker
from tests.support.peers import DEBIAN_NATS_SERVER, NEW_NATS_SERVER, NatsServer
from tests.transcripts.replay import Feeding, Replay
from tests.transcripts.script import Server, Transcript, load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

MQ9 = "mq9"
FOLDER = Path(__file__).parent


def _servers(conditions: tuple[str, ...]) -> list[str]:
    """The servers of a transcript's heading; which version of nats-server says what, is for its steps to tell."""
    return [MQ9] * ("mq9" in conditions) + [DEBIAN_NATS_SERVER, NEW_NATS_SERVER] * ("nats-server" in conditions)


CASES = [
    pytest.param(server, transcript, feeding, id=f"{server}-{transcript.path.stem}-{feeding.value}")
    for transcript in map(load, sorted(FOLDER.glob("*.txt")))
    for server in _servers(transcript.servers)
    for feeding in Feeding
    if feeding is Feeding.BY_TURN or server in _servers(transcript.split)
]


@contextmanager
def _mq9(data_dir: Path, configuration: str) -> Iterator[tuple[Server, int]]:
    """A broker of its own for each replay: what is stored in one must not be heard of in the next."""
    config = Config.load(FOLDER / f"{configuration}.toml") if configuration else None
    with Broker(data_dir, config=config) as broker:
        yield Server(MQ9), int(broker.url.rpartition(":")[2])


@pytest.fixture(scope="module")
def nats_server() -> Iterator[Callable[[str, str], NatsServer]]:
    """Gives the running nats-server of a name and a configuration, the same one each time."""
    running: dict[tuple[str, str], NatsServer] = {}
    with ExitStack() as stack:

        def by_name(name: str, configuration: str) -> NatsServer:
            if (name, configuration) not in running:
                options = ["-c", str(FOLDER / f"{configuration}.conf")] if configuration else []
                running[name, configuration] = stack.enter_context(NatsServer(name, *options))
            return running[name, configuration]

        yield by_name


@pytest.fixture
def opened(
    nats_server: Callable[[str, str], NatsServer],
) -> Callable[[str, str, Path], AbstractContextManager[tuple[Server, int]]]:
    """Opens the server of a name for one replay, and gives what it is and its port."""

    @contextmanager
    def running(name: str, configuration: str) -> Iterator[tuple[Server, int]]:
        process = nats_server(name, configuration)
        yield Server("nats-server", process.version), process.port

    return lambda name, configuration, data_dir: (
        _mq9(data_dir, configuration) if name == MQ9 else running(name, configuration)
    )


@pytest.mark.parametrize(("name", "transcript", "feeding"), CASES)
def test_the_server_keeps_to_the_transcript(
    name: str,
    transcript: Transcript,
    feeding: Feeding,
    opened: Callable[[str, str, Path], AbstractContextManager[tuple[Server, int]]],
    tmp_path: Path,
) -> None:
    __tracebackhide__ = True
    with opened(name, transcript.configuration, tmp_path) as (server, port):
        Replay(transcript, server, port, feeding).run()


def test_there_are_transcripts_for_every_server() -> None:
    held = {(case.values[0], case.values[2]) for case in CASES}
    assert held == {(server, feeding) for server in (MQ9, DEBIAN_NATS_SERVER, NEW_NATS_SERVER) for feeding in Feeding}
