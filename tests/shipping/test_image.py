"""The Dockerfile, as far as that can be seen without building it: a linter is content, and what it copies is there for it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.house.source import ROOT

DOCKERFILE: Final = ROOT / "Dockerfile"
IGNORED: Final = ROOT / ".dockerignore"


def test_a_linter_has_nothing_to_say_about_it() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    ran = subprocess.run([hadolint, "--no-color", DOCKERFILE], capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stdout) == (0, "")


def test_what_it_copies_is_there_and_not_ignored() -> None:
    let_through = {line.removeprefix("!") for line in IGNORED.read_text().splitlines() if line.startswith("!")}
    copied = {
        name for line in re.findall(r"(?m)^COPY (?!--)(.*)$", DOCKERFILE.read_text()) for name in line.split()[:-1]
    }
    assert copied == let_through
    assert all((ROOT / name).exists() for name in copied)
    assert "*" in IGNORED.read_text().splitlines()


def test_the_last_stage_has_nobody_and_nothing_of_the_first_but_what_it_names() -> None:
    last = DOCKERFILE.read_text().rpartition("FROM ")[2]
    assert last.startswith("scratch\n")
    assert "RUN" not in last
    assert re.search(r"(?m)^USER (?!0|root)", last)
    assert re.search(r"(?m)^HEALTHCHECK .*\[\"mq9\", \"health\"\]$", last)
