"""The harness measures whoever is there, leaves out who is not, tells who broke a promise, and adds up right."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

import bench.__main__ as command_line
from bench import figures, generator, machine, report, rounds
from bench.figures.expiry import Expiry
from bench.figures.p1 import DurableSend
from bench.figures.p3 import Core
from bench.generator import Load, RunFailedError
from bench.peers.nats_server import JetStream, NatsServer, installed_program
from bench.peers.sink import Sink, SinkServer
from bench.processes import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.figures.base import Figure
    from bench.peers.base import Peer, Server

SCALE = 0.002
nats_server_is_here = pytest.mark.skipif(installed_program() is None, reason="there is no nats-server")


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
    outcome = rounds.play(figure, directory, times, SCALE)
    about = machine.facts(directory)
    document = json.loads(json.dumps(report.document(about, [outcome], times, SCALE)))
    entries = {entry["name"]: entry for entry in document["figures"][0]["entries"]}
    return report.table(about, [outcome], times), entries


def test_each_round_is_told_and_the_median_is_of_them(tmp_path: Path) -> None:
    table, entries = told(durable(Other(), Sink()), tmp_path, times=3)
    other = entries["other"]
    rates = sorted(load["rate"] for load in other["rounds"])
    assert len(rates) == 3
    assert [other["lowest"], other["median"], other["highest"]] == rates
    assert all(load["count"] == 4 * 100 for load in other["rounds"])
    assert entries["the generator's ceiling"]["mq9_ratio"] is None
    assert "P1x  durable send, every send answered" in table


def test_the_ratio_is_our_median_over_theirs(tmp_path: Path) -> None:
    def entry(name: str, *rates: float) -> rounds.Entry:
        peer = Other()
        peer.name = name
        loads = [Load(1, 1.0, rate, 1.0, 1.0, 1.0, 0.5) for rate in rates]
        return rounds.Entry(peer, "1", loads=loads, others_cores=[0.25, 0.0, 1.0])

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


def test_nothing_is_left_in_the_directory(tmp_path: Path) -> None:
    told(core(Other(), Broken()), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_does_not_start_is_told_with_its_last_words(tmp_path: Path) -> None:
    command = ["/bin/sh", "-c", "echo no such option; exit 3"]
    with pytest.raises(RunFailedError, match="no such option"), serving(command, 1, tmp_path):
        pass


@nats_server_is_here
def test_jetstream_keeps_its_promises_at_p1(tmp_path: Path) -> None:
    _, entries = told(durable(JetStream()), tmp_path, times=1)
    assert entries["JetStream"]["failure"] is None
    assert entries["JetStream"]["median"] > 0
    assert entries["JetStream"]["version"].startswith("nats-server: v")


@nats_server_is_here
def test_nats_server_keeps_its_promises_at_p3(tmp_path: Path) -> None:
    _, entries = told(core(NatsServer()), tmp_path, times=1)
    assert entries["nats-server"]["failure"] is None
    assert entries["nats-server"]["median"] > 0


def test_the_command_measures_mq9_and_writes_both_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "bench.json"
    words = ["P1", "p3b", "--rounds", "1", "--scale", str(SCALE), "--dir", str(tmp_path), "--json", str(place)]
    status = command_line.main(words)
    table = capsys.readouterr().out
    document = json.loads(place.read_text())
    ours = [figure["entries"][0] for figure in document["figures"]]
    assert [(entry["name"], entry["failure"]) for entry in ours] == [("mq9", None)] * 3
    assert all(entry["median"] > 0 for entry in ours)
    assert [figure["key"] for figure in document["figures"]] == ["P1a", "P1b", "P3b"]
    assert all(f"\n{key}  " in table for key in ("P1a", "P1b", "P3b"))
    assert document["machine"]["fdatasync_small_us"] > 0
    assert status == 0


def test_what_ends_beside_a_mailbox_is_gone_when_the_figure_says_so(tmp_path: Path) -> None:
    _, entries = told(Expiry("E1x", count=20_000, life_s=3), tmp_path, times=1)
    failure = entries["mq9"]["failure"]
    # How late a machine that does something else makes a message is not for a test to say.
    assert failure is None or "a message beside those that ended took" in failure


def test_a_figure_that_does_not_exist_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["P1", "P77"]) == 2
    assert "there is no figure P77" in capsys.readouterr().err


def test_a_word_names_all_figures_that_begin_with_it() -> None:
    assert [figure.key for figure in figures.chosen(["p3"])] == ["P3a", "P3b"]
    assert figures.chosen([]) == list(figures.ALL)
    assert figures.chosen(["P3b", "P3"]) == figures.chosen(["P3"])
