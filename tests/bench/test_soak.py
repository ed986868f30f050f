"""The soak judges what grows, and stops at a promise that is broken."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from bench.generator import RunFailedError
from bench.soak import __main__ as command_line
from bench.soak import drawing, traffic, verdict
from bench.soak.verdict import Series, Watched
from bench.soak.watching import Watcher
from tests.bench.scripted import Script

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.broker import BrokerProcess

SVG = "{http://www.w3.org/2000/svg}"
MEMORY = Watched("memory", None, share=0.05, beside=10.0)


def series(*values: float, watched: Watched = MEMORY) -> Series:
    """Make up a series, with a value each second."""
    made = Series(watched)
    for second, value in enumerate(values):
        made.add(float(second), value)
    return made


@pytest.mark.parametrize(
    ("last", "flat"), [(100.0, True), (114.0, True), (115.0, True), (116.0, False), (1.0, True), (1_000.0, False)]
)
def test_what_grows_by_more_than_it_may_is_not_flat(last: float, flat: bool) -> None:
    judged = verdict.judge(series(*[5.0] * 10, *[100.0] * 10, *[900.0] * 10, *[last] * 10), 10.0, 40.0)
    assert judged is not None
    assert (judged.first, judged.last, judged.flat) == (100.0, last, flat)
    assert ("GROWS" in str(judged)) is not flat


def test_a_single_peak_is_not_growth() -> None:
    judged = verdict.judge(series(*[100.0] * 20, 9_000.0, *[100.0] * 9), 0.0, 30.0)
    assert judged is not None
    assert judged.flat


def test_what_was_not_seen_is_not_judged() -> None:
    assert verdict.judge(series(1.0, 2.0), 0.0, 30.0) is None


@pytest.mark.parametrize(("busy", "judged"), [(0.5, True), (0.8, False)])
def test_messages_may_take_longer_when_something_else_keeps_the_machine_busy(busy: float, judged: bool) -> None:
    steady = {watched: [5.0] * 30 for watched in verdict.JUDGED}
    late = {verdict.LATENCY: [1_000.0] * 20 + [9_000.0] * 10, verdict.OTHERS: [0.5] * 20 + [busy] * 10}
    verdicts = verdict.judge_all([series(*values, watched=it) for it, values in (steady | late).items()], 0.0, 30.0)
    told = {each.watched: judgement for each, judgement in verdicts}
    assert [it for it, judgement in told.items() if judgement is None] == ([] if judged else [verdict.LATENCY])
    assert [it for it, judgement in told.items() if judgement and not judgement.flat] == (
        [verdict.LATENCY] if judged else []
    )


def test_the_first_part_of_a_run_does_not_count() -> None:
    assert verdict.warm_up_s(3_600) == 600
    assert verdict.warm_up_s(8 * 3_600) == 600
    assert verdict.warm_up_s(1_200) == 200
    assert verdict.warm_up_s(600) == verdict.SETTLES_S
    assert verdict.warm_up_s(300) == 150
    assert verdict.warm_up_s(10) == 5


def test_every_series_is_drawn_with_its_verdict() -> None:
    grows, flat = series(*range(1, 31)), series(*[5.0] * 30)
    judged = [(each, verdict.judge(each, 10.0, 30.0)) for each in (grows, flat, series(1.0))]
    root = ET.fromstring(drawing.draw(judged, 10.0, 30.0))  # noqa: S314 - our own
    texts = ["".join(text.itertext()) for text in root.findall(f"{SVG}text")]
    curves = [line for line in root.findall(f"{SVG}polyline") if line.get("class") == "curve"]
    assert [text for text in texts if text in {"flat", "grows", "not judged"}] == [
        "grows",
        "flat",
        "not judged",
    ]
    assert [len((curve.get("points") or "").split()) for curve in curves] == [30, 30]


def test_a_few_seconds_of_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples, plot = tmp_path / "soak.json", tmp_path / "soak.svg"
    words = ["--minutes", "0.1", "--dir", str(tmp_path), "--json", str(samples), "--plot", str(plot)]
    # In six seconds nothing has settled, so that it grows is no surprise.
    assert command_line.main(words) in {0, 1}
    told = json.loads(samples.read_text())
    assert all(told["traffic"][what] > 0 for what in ("mailboxes", "messages", "groups", "tasks", "connections"))
    assert [each["name"] for each in told["series"]] == [watched.name for watched in verdict.JUDGED]
    assert all(each["points"] for each in told["series"])
    assert "resident memory" in capsys.readouterr().out
    assert ET.parse(plot).getroot().tag == f"{SVG}svg"  # noqa: S314 - our own


def test_traffic_that_ends_leaves_nothing_on_the_broker(broker: BrokerProcess) -> None:
    port = int(broker.url.rpartition(":")[2])
    ends_at = time.monotonic() + 1.0
    load = traffic.Traffic(port, 7, lambda: time.monotonic() < ends_at)
    asyncio.run(load.run())
    assert load.count["mailboxes"] >= 2


def test_a_broken_promise_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def broken(self: Watcher, goes_on: object) -> None:
        del self, goes_on
        raise RunFailedError("receiver 0 got message 7 of publisher 0 in place of 6")

    monkeypatch.setattr(Watcher, "probe", broken)
    words = ["--minutes", "0.5", "--dir", str(tmp_path), "--json", str(tmp_path / "j"), "--plot", str(tmp_path / "p")]
    started = time.monotonic()
    assert command_line.main(words) == 2
    assert time.monotonic() - started < 25
    assert "in place of 6" in capsys.readouterr().err
    assert not (tmp_path / "j").exists()


def test_a_broker_that_refuses_is_a_broken_promise() -> None:
    async def scenario() -> None:
        async with Script().serving() as port:  # which is no mailbox broker, and answers all with a number
            await traffic.Traffic(port, 1, lambda: True).run()

    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(scenario())
    assert caught.group_contains(RunFailedError)
