"""The command line of the micro-benchmarks: count, compare with what was recorded, or record."""

from __future__ import annotations

import argparse
import sys

from bench.generator import RunFailedError
from bench.micro import benchmarks, counting

_NAMES = [benchmark.name for benchmark in benchmarks.ALL]


def _arguments(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.micro", description="Counts the instructions of each compiled module on a message's path."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(_NAMES)}; all when none is named")
    parser.add_argument("--record", action="store_true", help="record the counts, to be compared with from now on")
    parser.add_argument("--under-callgrind", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args(words)
    unknown = [name for name in arguments.names if name not in _NAMES]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]!r}; there are {', '.join(_NAMES)}")
    return arguments


def _table(compared: list[counting.Compared]) -> str:
    lines = [f"{'':32}  {'instructions':>12}  {'recorded':>12}  {'ratio':>7}  {'time':>9}"]
    for each in compared:
        recorded = "" if each.recorded is None else f"{each.recorded:,.1f}"
        ratio = "" if each.ratio is None else f"{each.ratio:.3f}"
        took = f"{counting.time_each(each.name):,.0f} ns"
        lines.append(f"{each.name:32}  {each.now:12,.1f}  {recorded:>12}  {ratio:>7}  {took:>9}  {each.verdict}")
    return "\n".join(lines)


def main(words: list[str] | None = None) -> int:
    """Count, and print what came out.

    Returns the exit status: 1 when something takes a quarter more instructions than was recorded, 2 when it could not be counted.
    """
    arguments = _arguments(words)
    if arguments.under_callgrind:
        counting.run_under_callgrind(arguments.names)
        return 0
    try:
        compared = counting.compare(counting.count(arguments.names or _NAMES))
    except RunFailedError as error:
        print(f"bench.micro: {error}", file=sys.stderr)
        return 2
    print(_table(compared))
    if counting.recorded_with_other_tools():
        print("what was recorded was made with another compiler or interpreter: compare with care, or record anew")
    if arguments.record:
        counting.write_record({each.name: each.now for each in compared})
        return 0
    slower = [each.name for each in compared if each.verdict == "SLOWER"]
    print(f"slower by a quarter or more: {', '.join(slower)}" if slower else "nothing has become slower by a quarter")
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
