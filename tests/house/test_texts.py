"""The texts of the project tell nobody where they were written, and leave nothing for later."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from tests.house.source import ROOT, texts

if TYPE_CHECKING:
    from pathlib import Path

# Put together here, so that this file is not among those it looks for.
_FOLDERS: Final = ("root", "work", "tmp", "home/[a-z]+", "Users/[A-Za-z]+")
_HOSTS: Final = (
    ("pypi", "org"),
    ("pythonhosted", "org"),
    ("npmjs", "(?:org|com)"),
    ("proxy", "golang", "org"),
    ("sum", "golang", "org"),
    ("crates", "io"),
    ("repo1?", "maven", r"[\w.]+"),
    ("debian", "org"),
)
MACHINE_PATH: Final = re.compile(rf"(?<![\w./$}}])/(?:{'|'.join(_FOLDERS)})(?:/|\b)")
REGISTRY: Final = re.compile("|".join(r"\.".join(parts) for parts in _HOSTS))
LEFT_FOR_LATER: Final = re.compile(
    "|".join(rf"\b{first}{rest}\b" for first, rest in (("TO", "DO"), ("FIX", "ME"), ("X", "XX")))
)
OTHERS: Final = re.compile("robust" + "mq", re.IGNORECASE)


def found(pattern: re.Pattern[str], paths: list[Path]) -> list[str]:
    """Where `pattern` occurs, as file, line and text."""
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}"
        for path in paths
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if pattern.search(line)
    ]


def test_no_text_names_a_folder_of_some_machine() -> None:
    assert found(MACHINE_PATH, texts()) == []


def test_no_text_names_a_registry() -> None:
    assert found(REGISTRY, texts()) == []


def test_nothing_is_left_for_later() -> None:
    assert found(LEFT_FOR_LATER, texts()) == []


def test_no_text_speaks_of_others_by_name_to_compare() -> None:
    assert found(OTHERS, texts()) == []


def test_the_patterns_find_what_they_look_for() -> None:
    for folder in ("root", "work", "tmp", "home/somebody"):
        assert MACHINE_PATH.search(f"see /{folder}/file"), folder
    assert not MACHINE_PATH.search("docs/work/x and https://host/work")
    assert REGISTRY.search("https://" + ".".join(_HOSTS[0]))
    assert LEFT_FOR_LATER.search("# TO" + "DO: later")
    assert len(texts()) > 50
