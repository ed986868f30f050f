"""Every fault at full length: `python -m tests.faults [--kills N]`, which `make faults` runs, and writes docs/reliability.md.

It fails when something acknowledged is missing, memory is not bounded, or a log is a flood. How long the messages of others took is a
figure of the page, with a verdict: it depends on the machine and on what else runs there.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.support.findings import VARIABLE, Finding, recorded

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "reliability.md"
# The order of the page; what is not named comes last.
ORDER: Final = ("kill", "Disk", "Torn", "Bit", "Block", "SIGSTOP", "Clock", "Out of", "Client", "Two", "Upgrade")

HEAD: Final = """# What faults do to it

`make faults` wrote this page: every fault is done to a real `mq9 serve`, with real sockets and files, and what was found is here.
`make test` does the same for a shorter time, and says nothing about how long anything took. Errors of the disk are injected below the
store by a small library of our own (`tests/faults/shim.c`), which also takes back what was written when a sync fails, as Linux may.

**Kept** is how many things that had been acknowledged were looked for afterwards, mostly after a `kill -9` and a new start. All of them
were there: else there would be no page. **p99** is of the messages of others on the same broker, 500 in a second, from the moment each
was due to its receipt, before the fault and during it; the rule is that it at most doubles. There is none where everybody is hit
alike. **Memory** is the resident set before the fault, and the most there was during it. **Log** is the line that the broker writes;
of lines of a kind it writes ten in ten seconds, and then counts them.
"""
TABLE: Final = (
    "| fault | what was done | what was found | kept | p99, ms | memory, MB | log |\n|---|---|---|---:|---:|---:|---|\n"
)


def main() -> int:
    """Run them, and write the page; returns what the shell is told."""
    parser = argparse.ArgumentParser(prog="make faults", description="Do every fault to a real broker.")
    parser.add_argument("--kills", type=int, default=50, help="how often it is killed under load; nightly 500")
    arguments, more = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-m", "pytest", "tests/faults", "--durations=5", *more]
        environment = os.environ | {VARIABLE: directory, "MQ9_KILLS": str(arguments.kills)}
        code = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
        findings = sorted(recorded(Path(directory)), key=_place)
    if code != 0:
        print("the page stays as it was: not everything is as it should be")  # noqa: T201
        return code
    PAGE.write_text(f"{HEAD}\n{TABLE}{''.join(map(_row, findings))}\n{_where()}\n", "utf-8")
    for finding in findings:
        if finding.p99_ms is not None and not _at_most_doubles(finding.p99_ms):
            print(f"{finding.fault}: the p99 of others went from {finding.p99_ms[0]} to {finding.p99_ms[1]} ms")  # noqa: T201
    print(f"{PAGE.relative_to(ROOT)} is written: {len(findings)} faults")  # noqa: T201
    return 0


def _place(finding: Finding) -> tuple[int, str]:
    places = [place for place, word in enumerate(ORDER) if finding.fault.startswith(word)]
    return places[0] if places else len(ORDER), finding.fault


def _at_most_doubles(p99_ms: tuple[float, float]) -> bool:
    return p99_ms[1] <= 2 * p99_ms[0]


def _row(finding: Finding) -> str:
    p99 = memory = "-"
    if finding.p99_ms is not None:
        verdict = "" if _at_most_doubles(finding.p99_ms) else ", **more than doubles**"
        p99 = f"{finding.p99_ms[0]:.1f} → {finding.p99_ms[1]:.1f}{verdict}"
    if finding.rss_mb is not None:
        memory = f"{finding.rss_mb[0]:.0f} → {finding.rss_mb[1]:.0f}"
    kept = "-" if finding.kept is None else f"{finding.kept:,}"
    log = f"`{_safe(finding.log)}`" if finding.log else "nothing"
    return f"| {_safe(finding.fault)} | {_safe(finding.done)} | {_safe(finding.found)} | {kept} | {p99} | {memory} | {log} |\n"


def _safe(text: str) -> str:
    for directory in {tempfile.gettempdir(), str(ROOT)}:
        while (at := text.find(directory + "/")) >= 0:
            end = next((place for place in range(at, len(text)) if text[place] in " ,;:"), len(text))
            text = f"{text[:at]}DIRECTORY{text[end:]}"
    return text.replace("|", "\\|")


def _where() -> str:
    busy = os.getloadavg()[1]
    return (
        f"Linux {platform.release().split('-')[0]}, Python {platform.python_version()}, {os.cpu_count()} cores,"
        f" with a load of {busy:.1f} in the last five minutes."
    )


if __name__ == "__main__":
    sys.exit(main())
