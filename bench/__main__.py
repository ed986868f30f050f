"""The command line of the benchmark; see README.md beside this file."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from bench import figures, generator, machine, plot, report, rounds

BUILD = generator.ROOT / "build"


def _arguments(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Measures mq9 beside its peers on this machine."
    )
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help="P1, P3a, …; all when none is named")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each peer, of which the median counts (5)")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="share of the messages to send, for a quick look (1.0)"
    )
    parser.add_argument(
        "--dir", type=Path, default=BUILD / "bench", help="where servers keep their files (build/bench)"
    )
    parser.add_argument(
        "--json", type=Path, default=BUILD / "bench.json", help="where all rounds go (build/bench.json)"
    )
    parser.add_argument("--plot", type=Path, default=BUILD / "bench.svg", help="where the plot goes (build/bench.svg)")
    arguments = parser.parse_args(words)
    if arguments.rounds < 1 or not 0 < arguments.scale <= 100:
        parser.error("--rounds must be 1 or more, --scale above 0 and at most 100")
    return arguments


def main(words: list[str] | None = None) -> int:
    """Run what `words` (default: the command line) ask for, print the tables, and write the JSON document and the plot.

    Returns the exit status: 0 when everybody who is here has a figure, 1 when a run failed, 2 when nothing was run.
    """
    arguments = _arguments(words)
    try:
        wanted = figures.chosen(arguments.figures)
        generator.build()
    except (LookupError, generator.RunFailedError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    arguments.dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="data-", dir=arguments.dir) as directory:
        about = machine.facts(Path(directory))
        outcomes = [rounds.play(figure, Path(directory), arguments.rounds, arguments.scale) for figure in wanted]
    print(report.table(about, outcomes, arguments.rounds, arguments.scale))
    print()
    print(report.summary(outcomes))
    document = report.document(about, outcomes, arguments.rounds, arguments.scale)
    for path, text in (
        (arguments.json, json.dumps(document, indent=2, ensure_ascii=False) + "\n"),
        (arguments.plot, plot.draw(document)),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return 1 if any(entry.failure for outcome in outcomes for entry in outcome.entries) else 0


if __name__ == "__main__":
    sys.exit(main())
