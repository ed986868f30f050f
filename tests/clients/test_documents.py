"""docs/clients.md names the versions that are really tried, and shows the programs that are really run."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

import pytest

from tests.natspy import fetching
from tools.clients import LANGUAGES, ROOT, SOURCES

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE: Final = (ROOT / "docs" / "clients.md").read_text("utf-8")


def locked(file: str, pattern: str) -> str:
    """The version that a file names."""
    found = re.search(pattern, (SOURCES / file).read_text("utf-8"))
    assert found is not None, file
    return found[1]


VERSIONS: Final[dict[str, Callable[[], str]]] = {
    "nats.go": lambda: locked("go/go.mod", r"nats-io/nats\.go v(\S+)"),
    "nats.js, `@nats-io/transport-node`": lambda: str(
        json.loads((SOURCES / "javascript" / "package-lock.json").read_text("utf-8"))["packages"][
            "node_modules/@nats-io/transport-node"
        ]["version"]
    ),
    "async-nats": lambda: locked("rust/Cargo.lock", r'name = "async-nats"\nversion = "(\S+)"'),
    "jnats, `io.nats:jnats`": lambda: locked("java/pom.xml", r"<artifactId>jnats</artifactId><version>([\d.]+)"),
    "nats-py": lambda: locked("python/requirements.txt", r"nats-py==(\S+)"),
    "nats-py's own test suite": lambda: fetching.DISTRIBUTION.rpartition("-")[2],
    "the `nats` command": lambda: locked("../../tools/natscli/go.mod", r"nats-io/natscli v(\S+)"),
}


@pytest.mark.parametrize("client", VERSIONS)
def test_the_version_is_the_one_that_is_tried(client: str) -> None:
    row = re.search(rf"\| {re.escape(client)} \| ([\d.]+) \|", PAGE)
    assert row is not None
    assert row[1] == VERSIONS[client]()


@pytest.mark.parametrize("name", LANGUAGES)
def test_the_example_is_the_one_that_is_run(name: str) -> None:
    language = LANGUAGES[name]
    assert f"\n{(language.source / language.example_source).read_text('utf-8')}```\n" in PAGE


@pytest.mark.parametrize(
    "file", ["go/go.sum", "javascript/package-lock.json", "rust/Cargo.lock", "python/requirements.txt"]
)
def test_no_lock_names_another_source_than_the_usual(file: str) -> None:
    """A lock made behind a mirror would send everybody there."""
    urls = set(re.findall(r"\w+://[^\s\"]+", (SOURCES / file).read_text("utf-8")))
    assert {re.sub(r"^registry\+", "", url) for url in urls} <= {
        "https://github.com/rust-lang/" + "crates" + ".io-index"
    }
