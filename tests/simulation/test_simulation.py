"""The whole broker against a simple model, a thousand times: see README.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.simulation.simulation import run

SEEDS = 1_000
CHUNK = 50


def regressions() -> list[int]:
    """The seeds that once failed."""
    lines = (Path(__file__).parent / "regressions.txt").read_text("utf-8").splitlines()
    return [int(line.split()[0]) for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("seed", regressions())
def test_a_seed_that_once_failed(seed: int) -> None:
    run(seed)


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_seeds(first: int) -> None:
    for seed in range(first, first + CHUNK):
        run(seed)


def test_a_seed_is_the_same_run_every_time() -> None:
    first, second = run(7), run(7)
    assert list(first.world.log) == list(second.world.log)
    assert first.world.durable == second.world.durable


def test_a_run_does_what_it_is_for() -> None:
    """Over some seeds all that is simulated does happen: messages come, leases are given, brokers are restarted."""
    runs = [run(seed) for seed in range(60)]
    worlds = [each.world for each in runs]
    assert sum(world.model.delivered for world in worlds) > 500
    assert sum(world.model.groups.given for world in worlds) > 200
    assert sum(world.model.repeats for world in worlds) > 100
    assert sum(world.model.replaced for world in worlds) > 100
    assert sum(world.model.receipts for world in worlds) > 500
    assert sum(letter.visible > 0 for world in worlds for letter in world.model.letters.values()) > 500
    assert sum(world.events for world in worlds) > 100
    assert sum(world.model.damaged for world in worlds) > 1
    assert sum(world.restarts for world in worlds) > 10
    assert sum(world.commits for world in worlds) > 1_000
