"""The programs in the README and in docs/python.md work as they are printed there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import mq9
from tests.house.source import ROOT
from tests.support import peers
from tests.support.broker import BrokerProcess, clean_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

README = (ROOT / "README.md").read_text("utf-8")


def block(language: str, containing: str, page: str = README) -> str:
    """The one block of a page in `language` that has these words."""
    found: list[str] = re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)
    [wanted] = [text for text in found if containing in text]
    return wanted


@pytest.fixture
def fresh_broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    """A broker in which nothing has a name yet."""
    with BrokerProcess(tmp_path / "data") as running:
        yield running


def run(command: list[str], broker: BrokerProcess, path: str = "") -> str:
    """What `command` says, on both its outputs; it must succeed."""
    environment = clean_environment() | {"NATS_URL": broker.url, "MQ9_URL": broker.url}
    if path:
        environment["PATH"] = path + os.pathsep + environment["PATH"]
    ran = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, timeout=60
    )
    assert ran.returncode == 0, ran.stdout
    return ran.stdout


def test_the_quick_start(fresh_broker: BrokerProcess, tmp_path: Path) -> None:
    program = tmp_path / "quickstart.py"
    program.write_text(block("python", "agent_b = mb.create").replace("nats://localhost:4222", fresh_broker.url))
    said = run([sys.executable, "-X", "dev", str(program)], fresh_broker)
    [line] = [line for line in said.splitlines() if "took" not in line]
    assert re.fullmatch(r"#1 high \{'from': 'm-[a-z2-7]{4}…', 'type': 'task', 'payload': 'analyze this'\}", line), said


ABILITIES = {
    "def resize": ["resizing cat.jpg at attempt 1"],
    "Forbidden": ["a drop_id accepts only send and status"],
    "dedup_id": ["0 are listening, 1 waiting", "#1 normal 'ship order 17'", "done", "True"],
}


@pytest.mark.parametrize("containing", ABILITIES)
def test_the_programs_of_the_abilities(fresh_broker: BrokerProcess, tmp_path: Path, containing: str) -> None:
    program = tmp_path / "program.py"
    program.write_text(block("python", containing).replace("nats://localhost:4222", fresh_broker.url))
    said = run([sys.executable, "-X", "dev", str(program)], fresh_broker)
    assert [line for line in said.splitlines() if "took" not in line] == ABILITIES[containing]


def test_every_program_of_the_readme_is_run() -> None:
    assert README.count("```python\n") == 1 + len(ABILITIES)


PYTHON_PAGE = {
    "asyncio.run": ["1 high"],
    "handle.stop": ["first", "second", "called with first", "called with second"],
    "dedup_id": ["True True 1 stored", "['idle']"],
    "resume=": ["144", "by hand 1 nobody can read this"],
    "import Broker": ["60"],
}


@pytest.mark.parametrize("containing", PYTHON_PAGE)
def test_the_programs_of_the_python_page(fresh_broker: BrokerProcess, tmp_path: Path, containing: str) -> None:
    program = tmp_path / "program.py"
    page = (ROOT / "docs" / "python.md").read_text("utf-8")
    program.write_text(block("python", containing, page).replace("nats://localhost:4222", fresh_broker.url))
    assert run([sys.executable, str(program)], fresh_broker).splitlines() == PYTHON_PAGE[containing]


def test_every_program_of_the_python_page_is_run() -> None:
    page = (ROOT / "docs" / "python.md").read_text("utf-8")
    assert page.count("```python\n") == len(PYTHON_PAGE)


def test_everything_that_can_be_imported_is_explained() -> None:
    page = (ROOT / "docs" / "python.md").read_text("utf-8")
    for name in mq9.__all__:
        assert re.search(rf"`{name.removeprefix('Async')}\b", page), name


def test_the_nats_command(fresh_broker: BrokerProcess) -> None:
    nats = peers.need(peers.NATS)
    said = run(["bash", "-e", "-c", block("sh", "nats request")], fresh_broker, str(Path(nats).parent))
    for expected in ('"mail_id":"agent.b"', '"msg_id":1', "and this when you have time", '"deleted":true'):
        assert expected in said.replace('": ', '":'), said
    assert said.index("mq9-priority: high") < said.index("mq9-priority: normal")


def test_the_command_line(fresh_broker: BrokerProcess) -> None:
    said = run(["bash", "-e", "-c", block("sh", "box=$(mq9 create")], fresh_broker, str(Path(sys.executable).parent))
    sent, received = said.splitlines()
    assert sent == "1"
    assert received.split()[:2] == ["1", "high"]
    assert received.endswith("analyze this")


def test_work_from_the_command_line(fresh_broker: BrokerProcess) -> None:
    said = run(["bash", "-e", "-c", block("sh", "mq9 work")], fresh_broker, str(Path(sys.executable).parent))
    assert said.splitlines() == ["tasks.shell", "1", "resizing cat.jpg"]


EXAMPLES = [path for path in (ROOT / "examples").glob("*.py") if path.name not in {"roles.py", "quickstart.py"}]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_and_its_roles_are_explained(path: Path) -> None:
    source = path.read_text("utf-8")
    [row] = [
        line for line in (ROOT / "examples" / "README.md").read_text("utf-8").splitlines() if f"`{path.name}`" in line
    ]
    roles = source.rpartition("play(")[2].rpartition(")")[0].replace("_", "-").split(", ")
    assert len(roles) > 1
    for role in roles:
        assert re.search(rf"`{role}\b", row), role
        assert f"    python examples/{path.name} {role}" in source, role
    said = subprocess.run(
        [sys.executable, str(path), roles[0], "--help"], capture_output=True, text=True, env=clean_environment()
    )
    assert "--server" in said.stdout


def test_every_target_of_the_makefile_that_is_named_exists() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"(?m)^([a-z]+):", makefile))
    assert {"run", "demo", "test", "lint", "types", "bench", "setup", "clean"} <= targets
    for document in ("README.md", "CONTRIBUTING.md", "bench/README.md"):
        named = set(re.findall(r"(?m)(?:^|`)make ([a-z]+)\b", (ROOT / document).read_text("utf-8")))
        assert named <= targets, document
