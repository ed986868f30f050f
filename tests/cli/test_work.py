"""`mq9 work` as a real process with real commands: what it hands to them, and what becomes of a message when they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mq9 import Mailbox
from tests.cli.support import Command, objects
from tests.server.support import ThreadedServer
from tests.support.broker import BrokerProcess
from tests.support.running import RunningServer

if TYPE_CHECKING:
    from collections.abc import Iterator

GROUP = ("--group", "workers")
FACTS = (
    'echo "$MQ9_MSG_ID $MQ9_PRIORITY $MQ9_ATTEMPT ${MQ9_REPLY_TO-none} ${MQ9_CORRELATION_ID-none} $MQ9_URL"; cat; echo'
)


@pytest.fixture
def box(mq9: Command) -> str:
    """A mailbox of the shared broker."""
    return mq9("create", "--ttl", "600").strip()


@pytest.fixture
def timed() -> Iterator[RunningServer]:
    """A broker whose clock can be set forward."""
    with RunningServer() as broker:
        yield broker


def state(mq9: Command, mail_id: str, msg_id: str) -> tuple[str, int]:
    """What the workers' group says of a message."""
    [status] = objects(mq9("status", mail_id, msg_id, "--json"))
    group = status["groups"]["workers"]
    return group["state"], group["attempts"]


def test_a_command_gets_the_payload_and_the_facts(mq9: Command, box: str) -> None:
    one = mq9("send", box, "hello", "--reply-to", "answers", "--correlation-id", "c 1", "--priority", "high").strip()
    two = mq9("send", box, stdin=b"\xff\x00").strip()
    mq9.environment["MQ9_REPLY_TO"] = "somebody who is not meant"
    with mq9.start("work", box, *GROUP, "--exec", FACTS, "--count", "2") as working:
        said, complained = working.communicate(timeout=30)
    url = mq9.environment["MQ9_URL"].encode()
    first = b"%s high 1 answers c 1 %s\nhello\n" % (one.encode(), url)
    assert said == first + b"%s normal 1 none none %s\n\xff\x00\n" % (two.encode(), url)
    assert (complained, working.returncode) == (b"", 0)
    assert state(mq9, box, one) == state(mq9, box, two) == ("done", 1)


def test_a_large_payload_that_the_command_does_not_read_is_no_trouble(mq9: Command, box: str) -> None:
    msg_id = mq9("send", box, stdin=b"x" * 1_000_000).strip()
    assert mq9("work", box, *GROUP, "--exec", "echo done", "--count", "1") == "done\n"
    assert state(mq9, box, msg_id) == ("done", 1)


def test_a_command_that_fails_gets_the_message_again_later() -> None:
    with ThreadedServer() as broker:
        mq9 = Command(f"nats://127.0.0.1:{broker.server.port}")
        box = mq9("create", "--ttl", "600").strip()
        msg_id = mq9("send", box, "x").strip()
        fails = "echo first >&2; echo; echo 'it is broken' >&2; echo >&2; exit 3"
        ran = mq9.run("work", box, *GROUP, "--exec", fails, "--count", "1")
        assert ran.returncode == 0
        told = f"mq9: message {msg_id}, attempt 1: it is broken; it comes again in 1 s"
        assert ran.stderr.splitlines() == ["first", "it is broken", "", told]
        broker.pass_time(1_000)
        assert mq9.run("work", box, *GROUP, "--exec", "true", "--count", "1", "--wait", "0.3").returncode == 5
        broker.outlast(0)
        for attempt, delay in ((2, 2), (3, 4)):
            ran = mq9.run("work", box, *GROUP, "--exec", "exit 3", "--count", "1", "--json")
            assert objects(ran.stdout) == [
                {
                    "msg_id": int(msg_id),
                    "attempt": attempt,
                    "exit_code": 3,
                    "outcome": "failed",
                    "reason": "exit code 3",
                    "delay": delay,
                }
            ]
            broker.outlast(delay * 1_000)
        assert mq9("work", box, *GROUP, "--exec", 'echo "$MQ9_ATTEMPT"', "--count", "1") == "4\n"


def test_exit_code_100_makes_a_message_dead_and_revive_brings_it_back(mq9: Command, box: str) -> None:
    one, two = (mq9("send", box, body).strip() for body in ("first", "second"))
    hopeless = "echo \"cannot read '$(cat)' é\" >&2; exit 100"
    ran = mq9.run("work", box, *GROUP, "--exec", hopeless, "--count", "2", "--json")
    assert [(told["outcome"], told["reason"]) for told in objects(ran.stdout)] == [
        ("dead", "cannot read 'first' é"),
        ("dead", "cannot read 'second' é"),
    ]
    assert state(mq9, box, one) == ("dead", 1)
    head, row, _ = mq9("fetch", box, "--dead", "workers").splitlines()
    assert head.split() == ["MSG_ID", "PRIORITY", "TIME", "BYTES", "ATTEMPTS", "REASON", "BODY"]
    assert row.split()[0] == one
    assert "cannot read 'first' é" in row
    dead = objects(mq9("fetch", box, "--dead", "workers", "--json"))
    assert [(message["attempts"], message["payload"]) for message in dead] == [(1, "first"), (1, "second")]
    assert mq9("revive", box, one, *GROUP) == ""
    assert state(mq9, box, one) == ("waiting", 0)
    ran = mq9.run("revive", box, one, two, *GROUP, "--json")
    assert ran.returncode == 4
    assert [told["revived"] for told in objects(ran.stdout)] == [False, True]
    assert ran.stderr.startswith("mq9: ")
    assert mq9("work", box, *GROUP, "--exec", "cat; echo", "--count", "2") == "first\nsecond\n"
    mq9("send", box, "third")
    mq9.run("work", box, *GROUP, "--exec", "exit 100", "--count", "1")
    mq9("revive", box, "--all", *GROUP)
    assert objects(mq9("fetch", box, "--dead", "workers", "--json")) == []


def test_the_reason_is_cut_to_what_the_broker_keeps(mq9: Command, box: str) -> None:
    mq9("send", box, "x")
    says = "printf '\\033[2J\\377%0300d' 1 >&2; exit 100"
    with mq9.start("work", box, *GROUP, "--exec", says, "--count", "1") as working:
        working.communicate(timeout=30)
    [dead] = objects(mq9("fetch", box, "--dead", "workers", "--json"))
    assert 200 < len(dead["reason"].encode()) <= 256
    assert dead["reason"].isprintable()


@pytest.mark.parametrize(
    ("command", "code"), [("no-such-command-anywhere", 127), ("kill -KILL $$", -9), ("exit 99", 99)]
)
def test_whatever_goes_wrong_the_message_stays(mq9: Command, box: str, command: str, code: int) -> None:
    msg_id = mq9("send", box, "x").strip()
    ran = mq9.run("work", box, *GROUP, "--exec", command, "--count", "1", "--json")
    [told] = objects(ran.stdout)
    assert (told["outcome"], told["exit_code"]) == ("failed", code)
    assert state(mq9, box, msg_id) == ("waiting", 1)


def test_a_message_that_no_process_can_take_does_not_end_the_worker() -> None:
    """Its headers do not fit into an environment; by default no message has that many."""
    with ThreadedServer(max_header_size=1_000_000) as broker:
        mq9 = Command(url := f"nats://127.0.0.1:{broker.server.port}")
        with Mailbox(url) as mailbox:
            box = str(mailbox.create(ttl=600)["mail_id"])
            mailbox.send(box, "first", correlation_id="x" * 200_000)
            mailbox.send(box, "second")
        ran = mq9.run("work", box, *GROUP, "--exec", "true", "--count", "2", "--json")
        assert [told["outcome"] for told in objects(ran.stdout)] == ["failed", "done"]


def test_several_commands_run_at_the_same_time(mq9: Command, box: str, tmp_path: Path) -> None:
    for n in range(3):
        mq9("send", box, str(n))
    # Each waits until all three have begun, so that they end only if they run together.
    waits = f'touch {tmp_path}/$MQ9_MSG_ID; until [ "$(ls {tmp_path} | wc -l)" -eq 3 ]; do sleep 0.02; done'
    ran = mq9.run("work", box, *GROUP, "--exec", waits, "--concurrency", "3", "--count", "3", "--json")
    assert [told["outcome"] for told in objects(ran.stdout)] == ["done"] * 3


def test_workers_share_what_there_is(mq9: Command, box: str) -> None:
    sent = [mq9("send", box, str(n)).strip() for n in range(8)]
    arguments = ("work", box, *GROUP, "--exec", "cat; echo", "--count", "4")
    with mq9.start(*arguments) as one, mq9.start(*arguments) as two:
        said = [working.communicate(timeout=30)[0].split() for working in (one, two)]
    assert sorted(said[0] + said[1]) == [str(n).encode() for n in range(8)]
    assert {state(mq9, box, msg_id) for msg_id in sent} == {("done", 1)}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_an_idle_worker_ends_at_once_and_takes_nothing_along(
    mq9: Command, box: str, number: signal.Signals, code: int
) -> None:
    with mq9.start("work", box, *GROUP, "--exec", "cat; echo") as working:
        assert working.stdout is not None
        mq9("send", box, "one")
        assert working.stdout.readline() == b"one\n"
        working.send_signal(number)
        said, complained = working.communicate(timeout=30)
    assert (said, complained, working.returncode) == (b"", b"", code)
    mq9("send", box, "two")
    assert mq9("work", box, *GROUP, "--exec", "cat; echo", "--count", "1") == "two\n"


def test_a_running_command_may_finish_and_the_rest_is_given_back(mq9: Command, box: str, tmp_path: Path) -> None:
    one, two = (mq9("send", box, body).strip() for body in ("one", "two"))
    waits = f"cat; echo; until [ -e {tmp_path}/go ]; do sleep 0.02; done; echo finished"
    with mq9.start("work", box, *GROUP, "--exec", waits, process_group=0) as working:
        assert working.stdout is not None
        assert working.stdout.readline() == b"one\n"
        os.killpg(working.pid, signal.SIGINT)  # as a terminal does it: to everything that belongs to the command
        assert state(mq9, box, one) == ("leased", 1)
        assert mq9("work", box, *GROUP, "--exec", "cat; echo", "--count", "1") == "two\n"
        (tmp_path / "go").touch()
        said, complained = working.communicate(timeout=30)
    assert (said, complained, working.returncode) == (b"finished\n", b"", 130)
    assert state(mq9, box, one) == state(mq9, box, two) == ("done", 1)


def test_the_second_interrupt_ends_the_commands_and_gives_their_messages_back(mq9: Command, box: str) -> None:
    msg_id = mq9("send", box, "one").strip()
    with mq9.start("work", box, *GROUP, "--exec", "cat; echo; sleep 600 & wait", "--json") as working:
        assert working.stderr is not None
        assert working.stderr.readline() == b"one\n"
        working.send_signal(signal.SIGTERM)
        while working.poll() is None:
            working.send_signal(signal.SIGTERM)
            time.sleep(0.05)
        [told] = objects(working.communicate(timeout=30)[0].decode())
    assert (told["outcome"], told["delay"], told["exit_code"]) == ("failed", 0, -15)
    assert state(mq9, box, msg_id) == ("waiting", 1)
    assert mq9("work", box, *GROUP, "--exec", "cat; echo", "--count", "1") == "one\n"


def test_the_message_of_a_worker_that_was_killed_goes_to_another_when_its_lease_ends(timed: RunningServer) -> None:
    mq9 = Command(timed.url)
    box = mq9("create", "--ttl", "600").strip()
    msg_id = mq9("send", box, "one").strip()
    with mq9.start("work", box, *GROUP, "--exec", "echo $$; exec sleep 600", "--lease", "20") as first:
        assert first.stdout is not None
        first.stdout.readline()
        with mq9.start("work", box, *GROUP, "--exec", 'echo "$MQ9_ATTEMPT"', "--count", "1") as second:
            first.kill()
            first.wait(30)
            assert state(mq9, box, msg_id) == ("leased", 1)
            timed.pass_time(20_000)
            said, complained = second.communicate(timeout=30)
    assert (said, complained, second.returncode) == (b"2\n", b"", 0)
    assert state(mq9, box, msg_id) == ("done", 2)


@pytest.mark.parametrize("stubborn", [False, True])
def test_the_commands_of_a_worker_that_was_killed_are_ended(
    mq9: Command, box: str, tmp_path: Path, *, stubborn: bool
) -> None:
    """Not with it, which cannot see it coming: by who stands by for that. Their output ends when nobody of them is left."""
    mq9.environment["TMPDIR"] = str(tmp_path)
    for _ in range(3):
        mq9("send", box, "x")
    trap = "trap '' TERM; " if stubborn else ""
    command = f"{trap}echo begun; sleep 600 & sleep 600; sleep 600"
    with mq9.start("work", box, *GROUP, "--exec", command, "--concurrency", "3") as worker:
        assert worker.stdout is not None
        assert [worker.stdout.readline() for _ in range(3)] == [b"begun\n"] * 3
        worker.kill()
        said, complained = worker.communicate(timeout=60)
    assert (said, complained) == (b"", b"")
    assert list(tmp_path.iterdir()) == []


def test_what_a_command_has_left_in_the_background_is_not_ended_with_the_worker(
    mq9: Command, box: str, tmp_path: Path
) -> None:
    msg_id = mq9("send", box, "x").strip()
    waits = f"(until [ -e {tmp_path}/go ]; do sleep 0.02; done; echo finished) & echo begun"
    with mq9.start("work", box, *GROUP, "--exec", waits) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"begun\n"
        while state(mq9, box, msg_id)[0] != "done":
            time.sleep(0.02)
        worker.kill()
        worker.wait(30)
        (tmp_path / "go").touch()
        assert worker.stdout.read() == b"finished\n"


def test_a_worker_that_was_too_late_says_so(timed: RunningServer, tmp_path: Path) -> None:
    mq9 = Command(timed.url)
    box = mq9("create", "--ttl", "600").strip()
    msg_id = mq9("send", box, "one").strip()
    slow = f"echo begun; until [ -e {tmp_path}/go ]; do sleep 0.02; done"
    with mq9.start("work", box, *GROUP, "--exec", slow, "--lease", "60", "--count", "1") as first:
        assert first.stdout is not None
        first.stdout.readline()
        timed.pass_time(60_000)
        assert mq9("work", box, *GROUP, "--exec", 'echo "$MQ9_ATTEMPT"', "--count", "1") == "2\n"
        (tmp_path / "go").touch()
        _, complained = first.communicate(timeout=30)
    told = f"mq9: message {msg_id}, attempt 1: message {msg_id} was leased again; another worker may have it, too\n"
    assert (complained.decode(), first.returncode) == (told, 0)
    assert state(mq9, box, msg_id) == ("done", 2)


def test_work_that_was_done_while_the_broker_was_away_is_done(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path / "data") as broker:
        mq9 = Command(broker.url)
        box = mq9("create", "--ttl", "600").strip()
        msg_id = mq9("send", box, "one").strip()
        command = f"echo begun; until [ -e {tmp_path}/go ]; do sleep 0.02; done"
        with mq9.start("work", box, *GROUP, "--exec", command, "--count", "1", "--json") as working:
            assert working.stderr is not None
            assert working.stderr.readline() == b"begun\n"
            broker.kill()
            (tmp_path / "go").touch()
            broker.start()
            said, _ = working.communicate(timeout=60)
        assert (json.loads(said)["outcome"], working.returncode) == ("done", 0)
        assert state(mq9, box, msg_id) == ("done", 1)


def test_the_end_of_the_mailbox_ends_the_work(mq9: Command, box: str) -> None:
    with mq9.start("work", box, *GROUP, "--exec", "cat; echo") as working:
        assert working.stdout is not None
        mq9("send", box, "one")
        assert working.stdout.readline() == b"one\n"
        mq9("delete", box, "--mailbox")
        said, complained = working.communicate(timeout=30)
    assert (said, complained, working.returncode) == (b"", b"mq9: the mailbox has ended (removed)\n", 0)


def test_a_command_can_answer(mq9: Command, box: str) -> None:
    answer = 'mq9 send "$MQ9_REPLY_TO" --correlation-id "$MQ9_CORRELATION_ID" "got $(cat)"'
    mq9.environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{mq9.environment['PATH']}"
    with mq9.start("work", box, *GROUP, "--exec", answer, "--count", "1", stdin=subprocess.DEVNULL) as working:
        assert mq9("request", box, "the question") == "got the question\n"
        working.communicate(timeout=30)
    assert working.returncode == 0
