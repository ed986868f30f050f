"""The core part of nats-py's own test suite, against mq9 behind a launcher that understands nats-server's command line.

The suite comes with the source distribution on the package index; what that lacks, and which tests are left out, is beside this file.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.natspy import alone, fetching, launcher
from tests.natspy.skipped import SKIPPED
from tools.peers import required

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.clients

# Every class of the suite; each is run by itself, in a network of its own, several at a time: they spend their time waiting.
CLASSES: Final = (
    *(
        f"test_client.py::{name}"
        for name in (
            *("ClientUtilsTest", "ClientTest", "ClientReconnectTest", "ClientAuthTokenTest", "ClientTLSTest"),
            *("ClientTLSReconnectTest", "ClientTLSHandshakeFirstTest", "ClusterDiscoveryTest"),
            *("ClusterDiscoveryReconnectTest", "ConnectFailuresTest", "ClientDrainTest", "NoAuthUserClientTest"),
            *("ClientDisconnectTest", "ClientServerPoolTest", "ClientReconnectToServerHandlerTest"),
        )
    ),
    "test_client_async_await.py::ClientAsyncAwaitTest",
    "test_client_nkeys.py::ClientNkeysAuthTest",
    "test_client_nkeys.py::ClientJWTAuthTest",
    "test_client_v2.py::HeadersTest",
    "test_client_websocket.py::WebSocketTest",
    "test_client_websocket.py::WebSocketTLSTest",
    "test_custom_headers_websocket.py::TestHeaderCatcher",
    "test_compatibility.py::CompatibilityTest",
    "test_micro_service.py::MicroServiceTest",
    "test_nuid.py::NUIDTest",
    "test_parser.py::ProtocolParserTest",
)
AT_A_TIME: Final = 6
# Tests that fail on a busy machine, on nats-server too, and why. They get three tries, and their classes are run before all others, alone.
RACES: Final = {
    "test_client.py::ClientReconnectTest::test_failed_reconnect_removes_servers": (
        "a server that is started again has one second until its client must be back"
    ),
    "test_client.py::ClientDrainTest::test_drain_connection": (
        "one connection publishes while the subscriptions of another are under way: whose bytes the server reads first is open"
    ),
    "test_client.py::ClientDrainTest::test_drain_connection_timeout": "the same",
    "test_client.py::ClientTest::test_connect_after_close": "an answer has ten milliseconds to come back",
}
TRIES: Final = 3
PATIENCE_S: Final = 240.0


@dataclass(frozen=True)
class Outcome:
    """What became of one test of theirs: `failure` and `skip` are empty, or say why."""

    name: str
    failure: str
    skip: str


class Suite:
    """The suite, unpacked below `folder`; `command` is the server that it starts."""

    def __init__(self, folder: Path, command: Sequence[str]) -> None:
        self.folder = fetching.unpack(folder, SKIPPED)
        self._reports = folder
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("MQ9_", "PYTEST_", "NATS"))},
            "NATSD": shlex.join(command),
            "NATS_SERVER_VERSION": "v2.12.0",
            "PYTHONPATH": str(self.folder / "src"),
        }

    def classes(self) -> set[str]:
        """Every class that it has, with its file."""
        listing = self._pytest("tests", "--collect-only", "--quiet")
        assert listing.returncode == 0, listing.stdout
        lines = [line for line in listing.stdout.splitlines() if "::" in line]
        return {line.partition("/")[2].rpartition("::")[0] for line in lines}

    def run(self, name: str) -> list[Outcome]:
        """What became of the tests of a class."""
        report = self._reports / f"{name.rpartition('::')[2]}.xml"
        done = self._pytest(f"tests/{name}", f"--junit-xml={report}", "--timeout=60", apart=True)
        if done.returncode == alone.CANNOT:
            pytest.skip(done.stdout) if not required() else pytest.fail(done.stdout)
        assert done.returncode in {0, 1}, done.stdout
        return [_outcome(case) for case in ET.parse(report).iter("testcase")]  # noqa: S314 - pytest wrote it

    def _pytest(self, *arguments: str, apart: bool = False) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", *arguments]
        if apart:
            command = [sys.executable, str(Path(alone.__file__)), *command]
        with subprocess.Popen(
            command,
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                said, _ = process.communicate(timeout=PATIENCE_S)
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)  # its servers, too
                raise
        return subprocess.CompletedProcess(command, process.returncode, said)


def _outcome(case: ET.Element) -> Outcome:
    def said(*kinds: str) -> str:
        return "".join(f"{found.get('message')}\n{found.text}" for kind in kinds for found in case.iter(kind))

    skip = case.find("skipped")
    return Outcome(
        case.get("name", ""),
        said("failure", "error"),
        "" if skip is None else skip.get("message", "").removeprefix("Skipped: "),
    )


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Outcome]]:
    """What became of every class."""
    suite = Suite(tmp_path_factory.mktemp("natspy"), [sys.executable, str(Path(launcher.__file__))])
    assert {name for name in suite.classes() if not name.startswith("test_js.py::")} == set(CLASSES)
    racing = {name.rpartition("::")[0] for name in RACES}
    found = {name: [_tried_again(suite, name, outcome) for outcome in suite.run(name)] for name in racing}
    others = [name for name in CLASSES if name not in racing]
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        return found | dict(zip(others, pool.map(suite.run, others), strict=True))


def _tried_again(suite: Suite, class_name: str, outcome: Outcome) -> Outcome:
    """What became of a test, at the last of its tries if it is one of RACES."""
    name = f"{class_name}::{outcome.name}"
    for _ in range(TRIES - 1 if name in RACES else 0):
        if not outcome.failure:
            break
        (outcome,) = suite.run(name)
    return outcome


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", CLASSES)
def test_the_class_passes(name: str, outcomes: dict[str, list[Outcome]]) -> None:
    failed = {outcome.name: outcome.failure for outcome in outcomes[name] if outcome.failure}
    assert not failed, "\n".join(failed.values())
    assert outcomes[name]


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", CLASSES)
def test_nothing_is_left_out_but_what_is_listed(name: str, outcomes: dict[str, list[Outcome]]) -> None:
    for outcome in outcomes[name]:
        listed = {
            SKIPPED[prefix]
            for prefix in (name.partition("::")[0], name, f"{name}::{outcome.name}")
            if prefix in SKIPPED
        }
        assert {outcome.skip} == (listed or {""}), outcome.name
