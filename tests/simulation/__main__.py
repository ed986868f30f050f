"""`python -m tests.simulation --seeds 10000 --from 0`: run seeds over all cores, and print what the first that fail have found."""

from __future__ import annotations

import argparse
import sys
import time
from multiprocessing import Pool, cpu_count

from tests.simulation.simulation import STEPS, SeedFailedError, run


def attempt(seed: int, steps: int) -> str | None:
    """What a seed has found, or None."""
    try:
        run(seed, steps)
    except SeedFailedError as failure:
        return str(failure)
    return None


def _attempt(job: tuple[int, int]) -> str | None:
    return attempt(*job)


def main() -> int:
    """Returns how the process ends: 1 when a seed has failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=10_000, help="how many")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first seed")
    parser.add_argument("--steps", type=int, default=STEPS, help="steps of each")
    parser.add_argument("--failures", type=int, default=3, help="end after so many that fail")
    parser.add_argument("--processes", type=int, default=cpu_count())
    arguments = parser.parse_args()
    begun, failed, done = time.monotonic(), 0, 0
    jobs = ((seed, arguments.steps) for seed in range(arguments.first, arguments.first + arguments.seeds))
    with Pool(arguments.processes) as pool:
        for found in pool.imap(_attempt, jobs, chunksize=20):
            done += 1
            if found is not None:
                failed += 1
                sys.stdout.write(found + "\n\n")
                if failed == arguments.failures:
                    break
    sys.stdout.write(f"{done} seeds, {failed} failed, {time.monotonic() - begun:.0f} s\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
