"""Every micro-benchmark still runs, every compiled module on a message's path has one, and a slower one is told."""

from __future__ import annotations

import json
import shutil
import time
from typing import TYPE_CHECKING

import pytest

from bench.generator import ROOT
from bench.micro import __main__ as command_line
from bench.micro import benchmarks, counting
from tools.peers import required

if TYPE_CHECKING:
    from pathlib import Path

    from bench.micro.benchmarks import Benchmark

PACKAGE = ROOT / "src" / "mq9"
RUN_S = 1.0


@pytest.mark.parametrize("benchmark", benchmarks.ALL, ids=lambda it: it.name)
def test_it_does_what_it_should_for_a_second(benchmark: Benchmark) -> None:
    begun = time.perf_counter()
    while time.perf_counter() - begun < RUN_S:
        assert benchmark.prepare(benchmark.counted)() == benchmark.counted


def test_every_compiled_module_has_a_benchmark_or_a_reason_to_have_none() -> None:
    compiled = {str(path.relative_to(PACKAGE).with_suffix("")) for path in PACKAGE.rglob("*.pyx")}
    measured = {module for benchmark in benchmarks.ALL for module in benchmark.modules}
    assert compiled - measured == set(benchmarks.NOT_ON_THE_PATH)
    assert all((PACKAGE / module).with_suffix(".pxd").exists() or module in compiled for module in measured)


def test_what_is_recorded_is_what_there_is() -> None:
    compared = counting.compare({benchmark.name: 1.0 for benchmark in benchmarks.ALL})
    assert all(each.recorded is not None for each in compared)


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A record of the test's own."""
    path = tmp_path / "recorded.json"
    monkeypatch.setattr(counting, "RECORD", path)
    return path


@pytest.mark.parametrize(
    ("now", "verdict"),
    [(100.0, "as it was"), (124.9, "as it was"), (125.0, "SLOWER"), (80.1, "as it was"), (79.0, "faster")],
)
@pytest.mark.usefixtures("record")
def test_a_quarter_more_is_slower(now: float, verdict: str) -> None:
    counting.write_record({"parse a frame": 100.0})
    [compared] = counting.compare({"parse a frame": now})
    assert compared.verdict == verdict
    assert not counting.recorded_with_other_tools()


@pytest.mark.usefixtures("record")
def test_what_was_not_counted_stays_recorded() -> None:
    counting.write_record({"parse a frame": 100.0, "send": 200.0})
    counting.write_record({"send": 150.0})
    assert [each.recorded for each in counting.compare({"parse a frame": 1.0, "send": 1.0})] == [100.0, 150.0]
    [unknown] = counting.compare({"fetch": 1.0})
    assert (unknown.ratio, unknown.verdict) == (None, "not recorded")


def test_what_other_tools_made_is_not_kept(record: Path) -> None:
    record.write_text(json.dumps({"tools": {"compiler": "3.1"}, "instructions": {"parse a frame": 100.0}}))
    assert counting.recorded_with_other_tools()
    counting.write_record({"send": 150.0})
    assert not counting.recorded_with_other_tools()
    assert [each.recorded for each in counting.compare({"parse a frame": 1.0, "send": 1.0})] == [None, 150.0]


def need_valgrind() -> None:
    """Skip the test where there is no valgrind, or fail it where everything is required."""
    if shutil.which("valgrind") is None:
        end = pytest.fail if required() else pytest.skip
        end("valgrind is not installed: `make peers` installs it")


def test_instructions_are_the_same_each_time() -> None:
    need_valgrind()
    names = ["write a record", "send"]
    first, second = counting.count(names), counting.count(names)
    assert first.keys() == set(names)
    for name in names:
        assert first[name] > 10
        assert second[name] == pytest.approx(first[name], rel=0.05)


@pytest.mark.usefixtures("record")
def test_the_command_says_when_something_became_slower(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = {"write a record": 100.0, "send": 1_000.0}
    monkeypatch.setattr(counting, "count", lambda names: {name: counts[name] for name in names})
    assert command_line.main([*counts, "--record"]) == 0
    assert command_line.main([*counts]) == 0
    counts["send"] = 1_300.0
    capsys.readouterr()
    assert command_line.main([*counts]) == 1
    told = capsys.readouterr().out
    assert "slower by a quarter or more: send" in told
    assert "1.300" in told


def test_a_benchmark_that_does_not_exist_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command_line.main(["dance"])
    assert "there is no benchmark 'dance'" in capsys.readouterr().err
