"""`make demo` tells the story that it says it tells."""

from __future__ import annotations

import subprocess
import sys

from tests.house.source import ROOT
from tests.support.broker import clean_environment


def test_the_demo_loses_nothing_and_keeps_the_order() -> None:
    ran = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "quickstart.py")],
        capture_output=True,
        text=True,
        timeout=60,
        env=clean_environment(),
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    said = [line.split(" │ ")[1] for line in ran.stdout.splitlines()]
    assert [line for line in said if line.startswith("got")] == [
        "got  #3 high: analyze today",
        "got  #5 high: a customer waits",
        "got  #2 normal: analyze last week",
        "got  #4 normal: write the report",
        "got  #1 low: tidy up the notes",
        "got the answer to “a customer waits”: the customer has an answer",
    ]
    assert said[said.index("task #7; 0 workers are there") :] == [
        "task #7; 0 workers are there",
        "begins #7, attempt 1: send the customer the report",
        "killed with SIGKILL in the middle of it",
        "a second worker comes; when the lease of the first has run out, it gets the task",
        "begins #7, attempt 2: send the customer the report",
        "has done #7",
        "task #7 is done, attempts: 2",
        "killed with SIGKILL",
    ]
    assert said.count("killed with SIGKILL") == 3
