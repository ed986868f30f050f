"""The documents name whatever a user can say or meet, and what they point at is there."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import TYPE_CHECKING, Final

import click
import pytest

from mq9 import protocol
from mq9.cli import mq9 as command
from mq9.cli.exits import Exit
from mq9.protocol import AckRequest, CreateRequest, FetchRequest, LeaseRequest, ListRequest
from mq9.server.config import Config
from mq9.server.limits import LIMIT_OF_REFUSAL, LIMITS
from mq9.server.reloading import RELOADED
from mq9.server.userconfig import PermissionsConfig, Responses, SubjectLists, UserConfig
from tests.house.source import ROOT, files, package_files

if TYPE_CHECKING:
    from pathlib import Path

PROTOCOL: Final = ROOT / "docs" / "protocol.md"
COMMAND_LINE: Final = ROOT / "docs" / "command-line.md"
CONFIGURATION: Final = ROOT / "docs" / "configuration.md"
LIMIT_PAGE: Final = ROOT / "docs" / "limits.md"
REQUIRED: Final = (
    "README.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "docs/protocol.md",
    "docs/design.md",
)
HEADERS: Final = sorted(value for name, value in vars(protocol).items() if name.startswith("HEADER_"))
SUBJECTS: Final = sorted(
    value
    for value in vars(protocol).values()
    if isinstance(value, str) and value.startswith("$mq9.") and value != "$mq9."
)
CONFIGURATION_TABLES: Final = (UserConfig, PermissionsConfig, SubjectLists, Responses)
# How the keys are called on the wire that have another name in the code.
ON_THE_WIRE: Final = {"group": "group_name", "wait_ms": "max_wait_ms"}
REQUESTS: Final = (AckRequest, CreateRequest, FetchRequest, LeaseRequest, ListRequest)
REQUEST_KEYS: Final = sorted(
    {"num_msgs", "config", "mail_address"}
    | {ON_THE_WIRE.get(field.name, field.name) for kind in REQUESTS for field in fields(kind)}
)


def text(path: Path) -> str:
    """What `path` says; a document that is not there fails the test."""
    assert path.exists(), f"{path.relative_to(ROOT)} is missing"
    return path.read_text("utf-8")


def codes() -> set[str]:
    """Every code with which the broker refuses something."""
    sources = [
        path for path in package_files(".py", ".pyx") if path.relative_to(ROOT / "src" / "mq9").parts[0] != "sdk"
    ]
    return {code for path in sources for code in re.findall(r"ProtocolError\(\s*(\d{3})\b", path.read_text("utf-8"))}


def commands() -> dict[str, click.Command]:
    """Every command of `mq9` by its name."""
    context = click.Context(command)
    found = {name: command.get_command(context, name) for name in command.list_commands(context)}
    return {name: each for name, each in found.items() if each is not None}


COMMANDS: Final = commands()
OPTIONS: Final = sorted(
    {
        max(parameter.opts, key=len)
        for each in COMMANDS.values()
        for parameter in each.params
        if isinstance(parameter, click.Option)
    }
)


@pytest.mark.parametrize("name", REQUIRED)
def test_the_document_is_there(name: str) -> None:
    assert len(text(ROOT / name)) > 200


@pytest.mark.parametrize("header", HEADERS)
def test_every_header_is_explained(header: str) -> None:
    assert f"`{header}`" in text(PROTOCOL)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_subject_is_explained(subject: str) -> None:
    assert subject in text(PROTOCOL) or subject.removeprefix("$mq9.AI.") in text(PROTOCOL)


@pytest.mark.parametrize("priority", protocol.PRIORITIES)
def test_every_priority_is_explained(priority: str) -> None:
    assert f"`{priority}`" in text(PROTOCOL)


@pytest.mark.parametrize("key", REQUEST_KEYS)
def test_every_key_of_a_request_is_explained(key: str) -> None:
    assert re.search(rf"[`\"]{key}[`\"]", text(PROTOCOL))


@pytest.mark.parametrize("code", sorted(codes()))
def test_every_code_is_explained(code: str) -> None:
    assert re.search(rf"\b{code}\b", text(PROTOCOL))


def test_codes_are_found_in_the_source() -> None:
    assert {"400", "404", "413"} <= codes()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_explained(name: str) -> None:
    assert re.search(rf"\bmq9 {name}\b", text(COMMAND_LINE))
    assert COMMANDS[name].help


def test_there_are_commands() -> None:
    assert {"serve", "create", "send", "receive", "fetch", "delete", "list"} <= COMMANDS.keys()
    assert {"--json", "--port", "--data-dir"} <= set(OPTIONS)


@pytest.mark.parametrize("code", list(Exit), ids=lambda code: code.name)
def test_every_exit_code_is_explained(code: Exit) -> None:
    assert re.search(rf"(?m)^\W*{int(code)}\b", text(COMMAND_LINE)), "no line begins with it"


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_is_explained(option: str) -> None:
    assert re.search(rf"(?<![\w-]){re.escape(option)}\b(?!-)", text(COMMAND_LINE))


@pytest.mark.parametrize("key", [field.name for field in fields(Config)])
def test_every_configuration_key_is_explained(key: str) -> None:
    assert f"`{key}`" in text(CONFIGURATION)


@pytest.mark.parametrize(
    "key",
    sorted({field.name for kind in CONFIGURATION_TABLES for field in fields(kind)}),
    ids=lambda key: f"table {key}",
)
def test_every_key_of_the_tables_of_a_configuration_is_explained(key: str) -> None:
    assert f"`{key}`" in text(CONFIGURATION)


def test_what_takes_effect_without_a_restart_is_marked() -> None:
    said = text(CONFIGURATION)
    whole = said[said.index("## Who may come in") : said.index("## Disk use")]
    marked = set(re.findall(r"(?m)^\| `(\w+)` ↻ \|", said))
    marked |= {field.name for field in fields(Config) if re.search(rf"(?m)^\| (?:`\w+`, )?`{field.name}`", whole)}
    assert marked == RELOADED


def limit_rows() -> dict[str, list[str]]:
    """The rows of the tables of limits: for each limit its default, what it counts, what is past it, and where else it is seen."""
    rows = re.findall(r"(?m)^\| `([\w.]+)` \| (.*) \|$", text(LIMIT_PAGE))
    assert len(rows) == len(dict(rows)), "a limit is there twice"
    return {name: rest.split(" | ") for name, rest in rows}


def test_the_page_of_limits_has_each_and_no_other() -> None:
    assert set(limit_rows()) == set(LIMITS)
    assert set(LIMIT_OF_REFUSAL.values()) <= set(LIMITS)


def test_every_key_that_is_a_most_is_a_limit() -> None:
    assert {field.name for field in fields(Config) if field.name.startswith("max_")} - set(LIMITS) == {
        "max_closed_clients"  # of what the broker keeps for itself
    }
    of_users = {f"users.{field.name}" for field in fields(UserConfig) if field.name.startswith("max_")}
    assert of_users == {limit for limit in LIMITS if limit.startswith("users.")}


@pytest.mark.parametrize("limit", [limit for limit in LIMITS if not limit.startswith("users.")])
def test_the_page_of_limits_has_their_defaults(limit: str) -> None:
    default, *rest = limit_rows()[limit]
    assert len(rest) == 3
    assert default.removesuffix(" (none)") == str(getattr(Config(), limit))
    assert re.search(
        rf"(?m)^\| `{limit}`(?: ↻)? \| `{re.escape(default.removesuffix(' (none)'))}` \|", text(CONFIGURATION)
    )


def test_the_metrics_that_the_page_of_limits_names_are_there() -> None:
    named = set(re.findall(r"`(mq9_\w+)", text(LIMIT_PAGE)))
    said = text(ROOT / "src" / "mq9" / "server" / "metrics.py")
    assert {name for name in named if f'"{name.removesuffix("_total")}"' not in said} == set()


@pytest.mark.parametrize("limit", [limit for limit in LIMITS if limit not in LIMIT_OF_REFUSAL.values()])
def test_every_limit_is_counted_somewhere(limit: str) -> None:
    sources = [path for path in package_files(".py", ".pyx") if path.name != "limits.py"]
    counted = re.compile(rf'(?:reach\(|, |== )"{re.escape(limit)}"(?:[):]| else)')
    assert any(counted.search(path.read_text("utf-8")) for path in sources)


def _documents() -> list[Path]:
    return files(".md")


def test_what_documents_link_to_is_there() -> None:
    broken = [
        f"{path.relative_to(ROOT)}: {target}"
        for path in _documents()
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text(path))
        if "://" not in target and not (path.parent / target).exists()
    ]
    assert not broken


def test_the_transcripts_that_are_named_are_there() -> None:
    missing = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in files(".md", ".py", ".pyx", ".pxd")
        for name in re.findall(r"tests/transcripts/([\w-]+\.\w+)", text(path))
        if not (ROOT / "tests" / "transcripts" / name).exists()
    ]
    assert not missing
