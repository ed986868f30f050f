"""What a test of a fault has found, in figures, for the page that `make faults` writes: docs/reliability.md."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

# A directory: then what is found is written there.
VARIABLE: Final = "MQ9_FINDINGS"


@dataclass(frozen=True, slots=True)
class Finding:
    """One row of the page.

    Attributes:
        fault: what went wrong.
        done: what the test did.
        found: what the broker did, in a few words.
        kept: how many acknowledged things were looked for, all of which were there.
        p99_ms: of the others' messages from send to receipt, before the fault and during it; None where nobody was beside it, or
            where all of them are hit.
        rss_mb: memory of the broker before the fault and at most during it.
        log: the line that it logged.
    """

    fault: str
    done: str
    found: str
    kept: int | None = None
    p99_ms: tuple[float, float] | None = None
    rss_mb: tuple[float, float] | None = None
    log: str = ""


def record(finding: Finding) -> None:
    """Write down what was found, where that is wanted."""
    directory = os.environ.get(VARIABLE)
    if directory:
        name = re.sub(r"[^a-z0-9]+", "-", finding.fault.lower()).strip("-")
        Path(directory, f"{name}.json").write_text(json.dumps(asdict(finding)), "utf-8")


def recorded(directory: Path) -> list[Finding]:
    """Everything that was written down."""
    found = []
    for path in sorted(directory.glob("*.json")):
        fields = json.loads(path.read_text("utf-8"))
        for pair in ("p99_ms", "rss_mb"):
            fields[pair] = None if fields[pair] is None else tuple(fields[pair])
        found.append(Finding(**fields))
    return found


def is_thorough() -> bool:
    """Whether the faults are to last as long as `make faults` wants, and not as short as a test may."""
    return bool(os.environ.get(VARIABLE))
