"""Other people's clients: the program of each language plays its scenarios on mq9 and on nats-server, and comes to the same.

`make test-clients` builds the programs and runs these; see README.md beside this file.
"""

from __future__ import annotations

import functools
import json
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.clients.entering import MODES, Mode, Papers
from tests.clients.playing import play
from tests.clients.scenarios import CORE, ENTERING, MAILBOXES
from tests.support.broker import BrokerProcess
from tests.support.peers import NEW_NATS_SERVER, NatsServer, free_port
from tools.clients import LANGUAGES
from tools.peers import required

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.clients.conftest import Restartable

pytestmark = pytest.mark.clients

MQ9: Final = "mq9"
# What a client cannot do, whatever the server.
CANNOT: Final = {
    ("python", "header_twice"): "nats-py keeps one value of a header",
    ("c", "header_empty"): "nats.c 3.4.1 takes a header without a value for an error",
    ("c", "tls_handshake_first"): "nats.c 3.4.1 does not know of it",
}
WANTED: Final = {MQ9: CORE | MAILBOXES, NEW_NATS_SERVER: CORE}


def command(name: str) -> list[str]:
    """What runs the program of a language; ends the test, skipped or failed, when it is not built."""
    language = LANGUAGES[name]
    if not language.is_built:
        why = f"{' and '.join(language.missing)} not found" if language.missing else "`make clients` builds it"
        sentence = f"the program in {name} is not built: {why}"
        if required():
            pytest.fail(sentence)
        pytest.skip(sentence)
    return language.run()


@contextmanager
def running(server: str, folder: Path, options: tuple[str, ...] = ()) -> Iterator[Restartable]:
    """A server of its own, which can be restarted at its address."""
    if server == MQ9:
        with BrokerProcess(folder / "data", free_port(), arguments=options) as broker:
            yield broker
    else:
        with NatsServer(server, *options) as peer:
            yield peer


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], dict[str, Any]]:
    """What the program of a language has said on a server; it plays all its scenarios there once."""

    @functools.cache
    def by_name(language: str, server: str) -> dict[str, Any]:
        scenarios = [name for name in WANTED[server] if (language, name) not in CANNOT]
        with running(server, tmp_path_factory.mktemp("server")) as restartable:
            return play(command(language), restartable, scenarios)

    return by_name


@pytest.mark.parametrize(
    ("language", "server", "scenario"),
    [
        pytest.param(language, server, scenario, id=f"{language}-{server}-{scenario}")
        for language in LANGUAGES
        for server, wanted in WANTED.items()
        for scenario in wanted
    ],
)
def test_it_comes_to_what_it_must(
    language: str, server: str, scenario: str, played: Callable[[str, str], dict[str, Any]]
) -> None:
    if reason := CANNOT.get((language, scenario)):
        pytest.skip(reason)
    assert played(language, server)[scenario] == WANTED[server][scenario]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("server", WANTED)
def test_the_program_ends_well(language: str, server: str, played: Callable[[str, str], dict[str, Any]]) -> None:
    assert "exit" not in played(language, server)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_example_of_the_documents_works(language: str, tmp_path: Path) -> None:
    command(language)
    with running(MQ9, tmp_path) as server:
        done = subprocess.run(
            [*LANGUAGES[language].run_example(), server.url], capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 0, done.stderr
    created, sent, received, fetched, deleted, listed = done.stdout.splitlines()
    assert json.loads(created)["mail_id"] == "desk"
    assert json.loads(sent)["pending"] == 1
    assert received == "high hello"
    assert [message["payload"] for message in json.loads(fetched)["messages"]] == ["hello"]
    assert json.loads(deleted) == {"deleted": True}
    assert [mailbox["messages"] for mailbox in json.loads(listed)["mailboxes"]] == [0]


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    """Certificates and keys."""
    return Papers(tmp_path_factory.mktemp("papers"))


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
@pytest.mark.parametrize("server", WANTED)
@pytest.mark.parametrize("language", LANGUAGES)
def test_who_may_come_in(language: str, server: str, mode: Mode, papers: Papers, tmp_path: Path) -> None:
    if reason := CANNOT.get((language, mode.name)):
        pytest.skip(reason)
    file = tmp_path / "server.conf"
    file.write_text(papers.fill_in(mode.mq9 if server == MQ9 else mode.nats_server))
    options = ("--config" if server == MQ9 else "-c", str(file))
    with running(server, tmp_path, options) as restartable:
        for visit in mode.visits:
            environment = {name: papers.fill_in(value) for name, value in visit.environment.items()}
            if mode.is_secured:  # the name that the certificate is for
                environment["NATS_URL"] = f"nats://localhost:{restartable.url.rpartition(':')[2]}"
            said = play(command(language), restartable, [visit.scenario], environment)
            assert said == {visit.scenario: ENTERING[visit.scenario]}, visit
