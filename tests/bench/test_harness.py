"""The harness measures whoever is there, leaves out who is not, tells who broke a promise, and adds up right."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import bench.__main__ as command_line
from bench import bars, figures, generator, machine, report, rounds, writing
from bench.figures.base import Measured
from bench.figures.expiry import Expiry
from bench.figures.p1 import DurableSend
from bench.figures.p3 import Core
from bench.generator import RunFailedError
from bench.peers.mq9 import Mq9
from bench.peers.nats_server import JetStream, NatsServer, installed_program
from bench.peers.rabbitmq import RabbitMQ
from bench.peers.redis import Redis
from bench.peers.sink import Sink, SinkServer
from bench.processes import serving
from bench.writing import Quantity
from tools import debian
from tools.peers import required

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.figures.base import Figure
    from bench.peers.base import Peer, Server

SCALE = 0.002


def need(peer: Peer) -> Peer:
    """Return the peer if its program is here; otherwise skip the test, or fail where all peers are required."""
    program = {Redis.name: "redis-server", RabbitMQ.name: "rabbitmq-server"}.get(peer.name)
    if (installed_program() if program is None else debian.installed(program)) is None:
        end = pytest.fail if required() else pytest.skip
        end(f"{peer.name} is not installed: `make peers` installs it")
    return peer


class Absent(Sink):
    """A broker that this machine does not have."""

    name = "absent"
    yardstick = False

    def missing(self) -> str | None:
        """Say so."""
        return "it is not in any package"


class Broken(Sink):
    """A broker that breaks a promise each time."""

    name = "broken"
    yardstick = False

    @contextlib.contextmanager
    def start(self, directory: Path) -> Iterator[Server]:
        """Break it."""
        assert directory.is_dir()
        raise RunFailedError("connection 3 got msg_id 7 after 7\nand more")
        yield SinkServer(0)


class Other(Sink):
    """A broker that works."""

    name = "other"
    yardstick = False


def small(figure: Figure, *peers: Peer) -> Figure:
    """Have these peers measured with `figure` in place of its own."""
    figure.peers = peers
    return figure


def durable(*peers: Peer) -> Figure:
    return small(DurableSend("P1x", connections=4, in_flight=8, count=50_000), *peers)


def core(*peers: Peer) -> Figure:
    return small(Core("P3x", subscribers=2, count=500_000), *peers)


@pytest.fixture(autouse=True, scope="module")
def _built_generator() -> None:
    generator.build()


def told(figure: Figure, directory: Path, times: int = 2) -> tuple[str, dict[str, Any]]:
    """Measure, and return the table and the entries of the document by their names."""
    place = directory / "servers"
    place.mkdir()
    outcome = rounds.play(figure, place, times, SCALE)
    assert list(place.iterdir()) == [], "a server has left something behind"
    about = machine.facts(directory)
    document = json.loads(json.dumps(report.document(about, [outcome], times, SCALE)))
    entries = {entry["name"]: entry for entry in document["figures"][0]["entries"]}
    return report.table(about, [outcome], times), entries


def test_each_round_is_told_and_the_median_is_of_them(tmp_path: Path) -> None:
    table, entries = told(durable(Other(), Sink()), tmp_path, times=3)
    other = entries["other"]
    rates = sorted(measured["value"] for measured in other["rounds"])
    assert len(rates) == 3
    assert [other["lowest"], other["median"], other["highest"]] == rates
    assert all(measured["count"] == 4 * 100 for measured in other["rounds"])
    assert entries["the generator's ceiling"]["mq9_ratio"] is None
    assert "P1x  durable send, every send answered, 4 connections x 8 in flight" in table


def test_the_ratio_is_our_median_over_theirs(tmp_path: Path) -> None:
    def entry(name: str, *rates: float) -> rounds.Entry:
        peer = Other()
        peer.name = name
        measured = [Measured(value=rate, count=1, p50_us=1.0, p99_us=1.0, generator_cores=0.5) for rate in rates]
        return rounds.Entry(peer, "1", rounds=measured, others_cores=[0.25, 0.0, 1.0])

    outcome = rounds.Outcome(
        durable(), [entry("mq9", 300_000, 100_000, 200_000), entry("other", 50_000, 20_000, 90_000)]
    )
    assert outcome.ratio(outcome.entries[1]) == 4.0
    assert outcome.ratio(outcome.entries[0]) is None
    row = report.table(machine.facts(tmp_path), [outcome], 3).splitlines()[-1]
    assert row.split() == [
        *("other", "50.0", "k", "20.0", "k", "…", "90.0", "k", "4.00", "x", "1", "µs", "1", "µs", "0.50", "cores"),
        *("0.25", "cores"),
        *Sink.promise.split(),
    ]


def test_who_is_missing_or_broken_has_no_figure_and_the_others_have(tmp_path: Path) -> None:
    table, entries = told(core(Other(), Absent(), Broken(), Sink()), tmp_path)
    assert entries["absent"]["missing"] == "it is not in any package"
    assert entries["broken"]["failure"] == "connection 3 got msg_id 7 after 7\nand more"
    assert "median" not in entries["absent"]
    assert "median" not in entries["broken"]
    assert entries["other"]["median"] > 0
    assert table.splitlines()[1] == Other().version()
    rows = {line.split()[0]: line.split() for line in table.splitlines() if line.startswith("  ")}
    assert rows["absent"] == ["absent", "none", "it", "is", "not", "in", "any", "package"]
    assert rows["broken"] == ["broken", "none", "connection", "3", "got", "msg_id", "7", "after", "7"]


def test_one_failed_round_is_enough_to_have_no_figure(tmp_path: Path) -> None:
    class Unreliable(Other):
        starts = 0

        @contextlib.contextmanager
        def start(self, directory: Path) -> Iterator[Server]:
            self.starts += 1
            if self.starts == 2:
                raise RunFailedError("a message was lost")
            with super().start(directory) as server:
                yield server

    peer = Unreliable()
    _, entries = told(core(peer), tmp_path, times=3)
    assert entries["other"]["failure"] == "a message was lost"
    assert "median" not in entries["other"]
    assert peer.starts == 2


def outcome_of(ours: list[float], theirs: list[float], *judged: bars.Bar) -> rounds.Outcome:
    """Make up an outcome."""

    def entry(name: str, values: list[float]) -> rounds.Entry:
        peer = Other()
        peer.name = name
        measured = [Measured(value=value, count=1, details={"fdatasync_us": 100.0}) for value in values]
        return rounds.Entry(peer, "1", rounds=measured, others_cores=[0.0] * len(values))

    figure = durable()
    figure.bars = judged
    return rounds.Outcome(figure, [entry("mq9", ours), entry("other", theirs)])


@pytest.mark.parametrize(("ours", "met"), [([250.0, 10.0, 900.0], True), ([249.0, 10.0, 900.0], False)])
def test_a_bar_is_met_when_the_medians_say_so(ours: list[float], met: bool) -> None:
    compared, limit = bars.times(2.5, "other"), bars.at_least(250, Quantity.RATE)
    outcome = outcome_of(ours, [100.0, 1.0, 500.0], compared, limit)
    assert [bar.judge(outcome).met for bar in (compared, limit)] == [met, met]
    assert bars.at_most(249, Quantity.RATE).judge(outcome).met is not met
    word = "met" if met else "not met"
    rows = [row.split("  ") for row in report.summary([outcome]).splitlines()[1:]]
    assert [row[-1].strip() for row in rows] == [word, word]
    told_bars = report.document(machine.facts(Path()), [outcome], 3, 1.0)["figures"][0]["bars"]
    assert [bar["met"] for bar in told_bars] == [met, met]


def test_a_bar_that_cannot_be_judged_is_not_met_and_not_missed() -> None:
    compared = bars.times(2.5, "other")
    outcome = outcome_of([1.0], [1.0], compared, bars.times(1.0, "nobody"), bars.at_least(1, Quantity.RATE))
    outcome.entries[1].failure = "a message was lost"
    assert [bar.judge(outcome).met for bar in outcome.figure.bars] == [None, None, True]
    outcome.entries[0].missing = "it is not here"
    assert [bar.judge(outcome).met for bar in outcome.figure.bars] == [None, None, None]


@pytest.mark.parametrize(
    ("value", "quantity", "written"),
    [
        (950, Quantity.RATE, "950"),
        (8_500, Quantity.RATE, "8.50 k"),
        (85_000, Quantity.RATE, "85.0 k"),
        (1_230_000, Quantity.RATE, "1.23 M"),
        (0.25, Quantity.SECONDS, "250.0 ms"),
        (2.5, Quantity.SECONDS, "2.50 s"),
        (250, Quantity.MICROSECONDS, "250 µs"),
        (6_144, Quantity.BYTES, "6144 B"),
        (54_000, Quantity.BYTES, "52.7 KiB"),
        (1.2e9, Quantity.BYTES, "1.12 GiB"),
    ],
)
def test_values_are_written_with_their_unit(value: float, quantity: Quantity, written: str) -> None:
    assert writing.amount(value, quantity) == written


BURN = "import time\nwhile time.process_time() < 0.4: pass"


def test_what_we_use_is_not_taken_for_what_others_use() -> None:
    busy_before, start = machine._busy_s(), time.monotonic()
    bystanders = machine.Bystanders()
    subprocess.run([sys.executable, "-c", BURN], check=True)
    others_s = bystanders.cores() * (time.monotonic() - start)
    assert machine._busy_s() - busy_before - others_s > 0.3


def test_what_others_use_is_told() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        bystanders = machine.Bystanders()
        subprocess.run([sys.executable, "-c", BURN], check=True)
        cores = bystanders.cores()
        other.kill()
    assert cores > 0.2


def test_a_server_that_does_not_start_is_told_with_its_last_words(tmp_path: Path) -> None:
    command = ["/bin/sh", "-c", "echo no such option; exit 3"]
    with pytest.raises(RunFailedError, match="no such option"), serving(command, 1, tmp_path):
        pass


PEERS = (
    ("P1a", JetStream()),
    ("P1a", Redis()),
    ("P2", JetStream()),
    ("P3a", NatsServer()),
    ("P4", JetStream()),
    ("P4", Redis()),
    ("P4", RabbitMQ()),
    ("P5", JetStream()),
    ("P6", JetStream()),
    ("P6", Redis()),
    ("P6", RabbitMQ()),
    ("P7a", JetStream()),
    ("P9a", NatsServer()),
)


@pytest.mark.parametrize(("key", "peer"), PEERS, ids=[f"{key}-{peer.name}" for key, peer in PEERS])
def test_peers_keep_their_promises(key: str, peer: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [figure] = figures.chosen([key])
    monkeypatch.setattr(figure, "peers", (need(peer),), raising=False)
    _, entries = told(figure, tmp_path, times=1)
    assert entries[peer.name]["failure"] is None
    assert entries[peer.name]["median"] > 0
    assert any(character.isdigit() for character in entries[peer.name]["version"])


@pytest.mark.parametrize("figure", [figure for figure in figures.ALL if figure.key != "E1"], ids=lambda it: it.key)
def test_mq9_has_every_figure(figure: Figure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = tuple(peer for peer in figure.peers if isinstance(peer, Mq9))
    if any(reason := peer.missing() for peer in ours):
        pytest.skip(reason or "")
    monkeypatch.setattr(figure, "peers", ours, raising=False)
    table, entries = told(figure, tmp_path, times=1)
    assert [entry["failure"] for entry in entries.values()] == [None] * len(ours)
    assert all(entry["median"] > 0 for entry in entries.values())
    assert f"\n{figure.key}  {figure.title}, {figure.unit}: {figure.conditions}\n" in table


@pytest.mark.parametrize("key", ["P1a", "P2", "P4", "P5", "P6", "P7a"])
def test_the_generator_has_a_ceiling(key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [figure] = figures.chosen([key])
    ceiling = tuple(peer for peer in figure.peers if isinstance(peer, Sink))
    monkeypatch.setattr(figure, "peers", ceiling, raising=False)
    _, entries = told(figure, tmp_path, times=1)
    assert [entry["failure"] for entry in entries.values()] == [None]


def test_the_command_measures_mq9_and_writes_both_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "bench.json"
    words = ["P3a", "p3b", "--rounds", "1", "--scale", str(SCALE), "--dir", str(tmp_path), "--json", str(place)]
    status = command_line.main(words)
    table = capsys.readouterr().out
    document = json.loads(place.read_text())
    ours = [figure["entries"][0] for figure in document["figures"]]
    assert [(entry["name"], entry["failure"]) for entry in ours] == [("mq9", None)] * 2
    assert all(entry["median"] > 0 for entry in ours)
    assert [figure["key"] for figure in document["figures"]] == ["P3a", "P3b"]
    assert all(f"\n{key}  " in table for key in ("P3a", "P3b"))
    assert document["machine"]["fdatasync_small_us"] > 0
    assert status == 0


def test_what_ends_beside_a_mailbox_is_gone_when_the_figure_says_so(tmp_path: Path) -> None:
    _, entries = told(Expiry("E1x", count=20_000, life_s=3), tmp_path, times=1)
    assert entries["mq9"]["failure"] is None


def test_a_figure_that_does_not_exist_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["P1", "P77"]) == 2
    assert "there is no figure P77" in capsys.readouterr().err


def test_a_word_names_all_figures_that_begin_with_it() -> None:
    assert [figure.key for figure in figures.chosen(["p3"])] == ["P3a", "P3b"]
    assert figures.chosen([]) == list(figures.ALL)
    assert figures.chosen(["P3b", "P3"]) == figures.chosen(["P3"])
    assert [figure.key for figure in figures.chosen(["P1"])] == ["P1a", "P1b"]
    assert [figure.key for figure in figures.chosen(["P10"])] == ["P10"]
    assert [figure.key for figure in figures.chosen(["T"])] == ["T1", "T2"]
