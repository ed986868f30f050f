"""The command line of the soak; see README.md in bench/."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import generator
from bench.generator import RunFailedError
from bench.peers.mq9 import Mq9
from bench.soak import drawing, verdict
from bench.soak.traffic import Traffic
from bench.soak.watching import Watcher

if TYPE_CHECKING:
    from bench.soak.verdict import Series, Verdict

BUILD = generator.ROOT / "build"


def _arguments(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.soak", description="Sees that a broker under load stays flat."
    )
    parser.add_argument("--minutes", type=float, default=60.0, help="how long (60)")
    parser.add_argument("--seed", type=int, default=1, help="of the traffic (1)")
    parser.add_argument(
        "--dir", type=Path, default=BUILD / "bench", help="where the broker keeps its files (build/bench)"
    )
    parser.add_argument("--json", type=Path, default=BUILD / "soak.json", help="where all samples go (build/soak.json)")
    parser.add_argument("--plot", type=Path, default=BUILD / "soak.svg", help="where the plot goes (build/soak.svg)")
    arguments = parser.parse_args(words)
    if not 0 < arguments.minutes <= 7 * 24 * 60:
        parser.error("--minutes must be above 0 and at most a week")
    return arguments


async def _run(watcher: Watcher, traffic: Traffic, ends_at: float) -> None:
    def goes_on() -> bool:
        return time.monotonic() < ends_at

    async def tell() -> None:
        while goes_on():
            await asyncio.sleep(min(60.0, max(0.0, ends_at - time.monotonic()) + 0.01))
            print(f"{watcher.now:.0f} s: {dict(traffic.count)}", file=sys.stderr, flush=True)

    async with asyncio.TaskGroup() as group:
        for work in (watcher.sample(goes_on), watcher.probe(goes_on), traffic.run(), tell()):
            group.create_task(work)


def _leaves(errors: BaseExceptionGroup[RunFailedError]) -> list[RunFailedError]:
    """The errors in a group and in the groups that it holds."""
    return [
        leaf
        for error in errors.exceptions
        for leaf in (_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    ]


def _document(
    judged: list[tuple[Series, Verdict | None]], traffic: Traffic, seconds: float, from_s: float
) -> dict[str, Any]:
    series = [
        {
            "name": each.watched.name,
            "flat": None if judgement is None else judgement.flat,
            "first_third": None if judgement is None else judgement.first,
            "last_third": None if judgement is None else judgement.last,
            "allowed": None if judgement is None else judgement.allowed,
            "points": each.points,
        }
        for each, judgement in judged
    ]
    return {"seconds": seconds, "counts_from_s": from_s, "traffic": dict(traffic.count), "series": series}


def main(words: list[str] | None = None) -> int:
    """Run it, print the verdict, and write all samples and the plot.

    Returns the exit status: 0 when everything stayed flat, 1 when something grew, 2 when the broker broke a promise.
    """
    arguments = _arguments(words)
    seconds = arguments.minutes * 60
    arguments.dir.mkdir(parents=True, exist_ok=True)
    broken: list[str] = []
    try:
        generator.build()
        with tempfile.TemporaryDirectory(prefix="soak-", dir=arguments.dir) as directory:
            place = Path(directory)
            with Mq9("fsync before every answer").start(place) as server:
                ends_at = time.monotonic() + seconds
                watcher = Watcher(server.port, server.pid, place / "data", seconds)
                traffic = Traffic(server.port, arguments.seed, lambda: time.monotonic() < ends_at)
                asyncio.run(_run(watcher, traffic, ends_at))
    except* RunFailedError as errors:
        broken += [str(error) for error in _leaves(errors)]
    if broken:
        print(f"bench.soak: {'; '.join(broken)}", file=sys.stderr)
        return 2
    from_s = verdict.warm_up_s(seconds)
    judged = verdict.judge_all(list(watcher.series.values()), from_s, seconds)
    for path, text in (
        (arguments.json, json.dumps(_document(judged, traffic, seconds, from_s), indent=1) + "\n"),
        (arguments.plot, drawing.draw(judged, from_s, seconds)),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    print(f"{seconds / 60:g} minutes, of which those from {from_s / 60:.3g} on count: {dict(traffic.count)}")
    for series, judgement in judged:
        seen = verdict.judge(series, from_s, seconds) is not None
        why = "something else kept the machine busier in the end" if seen else "too little was seen"
        print(judgement or f"{series.watched.name:24} not judged: {why}")
    return 0 if all(judgement is None or judgement.flat for _, judgement in judged) else 1


if __name__ == "__main__":
    sys.exit(main())
