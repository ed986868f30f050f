"""The eight scenarios that mq9 is for, played by the examples: every agent is a process that is started, stopped or killed.

Where a scenario waits for time to pass, the broker's clock is set forward.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from mq9 import Forbidden, Mailbox
from tests.cli.support import Command
from tests.examples.support import Cast, hear_first
from tests.sdk.support import eventually
from tests.support.broker import BrokerProcess
from tests.support.running import RunningServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOUR_MS = 3_600_000


@pytest.fixture
def timed() -> Iterator[RunningServer]:
    """A broker whose clock can be set forward."""
    with RunningServer() as broker:
        yield broker


@pytest.fixture
def cast(timed: RunningServer) -> Iterator[Cast]:
    """The agents of a scenario, with the broker whose clock can be set forward."""
    with Cast(timed.url) as everybody:
        yield everybody


@pytest.fixture
def client(timed: RunningServer) -> Iterator[Mailbox]:
    """What the test itself looks through."""
    with Mailbox(timed.url) as mailbox:
        yield mailbox


def found(pattern: str, lines: list[str]) -> str:
    """The group of `pattern` in the one line that has it."""
    [only] = [match[1] for line in lines if (match := re.search(pattern, line))]
    return only


def eventually_renewed(client: Mailbox, name: str, timed: RunningServer) -> None:
    """Wait for the next heartbeat of whoever has this mailbox."""
    now_s = timed.clock() / 1000
    eventually(lambda: any(box == name and box["expires_at"] > now_s + 7 for box in client.list()))


def test_a_sub_agent_reports_to_a_sleeping_parent(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path / "data") as broker, Cast(broker.url) as cast:
        said = cast.play("sub_agent", "hire")
        drop_id, mail_id = found(r"reports to (d-\w{26})$", said), found(r"read it in (m-\w{26}),", said)
        broker.kill()
        broker.start()
        for _ in range(2):  # the second time, it does not remember that it has reported
            [line] = cast.play("sub_agent", "sub-agent", drop_id, "to be or not to be")
            assert line == "sub-agent: reported; listening: 0, waiting to be read: 1"
        with Mailbox(broker.url) as snoop, pytest.raises(Forbidden):
            snoop.fetch(drop_id)
        broker.kill()
        broker.start()
        assert cast.play("sub_agent", "wake", mail_id) == [
            "parent: “to be or not to be” has 6 words",
            "parent: reports found: 1",
        ]
        assert cast.play("sub_agent", "wake", mail_id) == ["parent: reports found: 0"]


def test_an_orchestrator_knows_the_state_of_its_workers(timed: RunningServer, cast: Cast, client: Mailbox) -> None:
    orchestrator = cast.start("worker_state", "orchestrator")
    alpha = cast.start("worker_state", "worker", "alpha", "--beat", "0.1")
    orchestrator.hear("alpha is (busy|idle)")
    beta = cast.start("worker_state", "worker", "beta", "--beat", "0.1")
    orchestrator.hear("beta is busy")
    orchestrator.hear("beta is idle")
    alpha.kill()
    timed.pass_time(6_000)
    eventually_renewed(client, "workers.beta", timed)
    assert "workers.alpha" in client.list()
    timed.pass_time(6_000)
    orchestrator.hear("alpha is offline: no heartbeat for 10 seconds")
    assert [str(box) for box in client.list()] == ["workers.beta"]
    cast.start("worker_state", "worker", "alpha", "--beat", "0.1")
    orchestrator.hear("alpha is (online|busy|idle)")
    beta.stop()
    orchestrator.hear("beta is offline: it said goodbye")
    assert not [line for line in orchestrator.heard if "beta is offline: no" in line]


def test_a_task_is_done_though_the_worker_that_took_it_is_killed(timed: RunningServer, cast: Cast) -> None:
    slow = [cast.start("worker_crash", "worker", name, "--seconds", "600") for name in ("alpha", "beta")]
    for worker in slow:
        worker.hear("ready")
    task = found(r"boss: task (\d+) is cat\.jpg", cast.play("worker_crash", "boss", "cat.jpg"))
    first, _ = hear_first(slow, rf"begins with task {task}, cat\.jpg, attempt 1")
    [second] = [worker for worker in slow if worker is not first]
    first.kill()
    [line] = cast.play("worker_crash", "receipt", task)
    assert line == f"boss: task {task} is leased in the group workers, attempts: 1"
    timed.pass_time(10_000)
    second.hear(rf"begins with task {task}, cat\.jpg, attempt 2")
    assert not [line for line in second.heard if "attempt 1" in line]
    third = cast.start("worker_crash", "worker", "gamma", "--seconds", "0")
    third.hear("ready")
    second.kill()
    timed.pass_time(10_000)
    third.hear(rf"begins with task {task}, cat\.jpg, attempt 3")
    third.hear(rf"task {task} is done")
    third.stop()
    [line] = cast.play("worker_crash", "receipt", task)
    assert line == f"boss: task {task} is done in the group workers, attempts: 3"


def test_an_alert_reaches_handlers_that_were_offline(timed: RunningServer, cast: Cast, client: Mailbox) -> None:
    def states(alert: str) -> dict[str, str]:
        return {name: group.state for name, group in client.status("alerts", int(alert)).groups.items()}

    pager, mail = (cast.start("alert", "handler", name) for name in ("pager", "mail"))
    pager.hear("ready")
    mail.hear("ready")
    mail.stop()
    alert = found(r"alert (\d+) is raised", cast.play("alert", "raise-alert", "the disk is full"))
    pager.hear("pager: high: the disk is full")
    eventually(lambda: states(alert)["pager"] == "done")
    assert cast.play("alert", "who", alert) == [f"alert {alert}: waiting for mail", f"alert {alert}: done for pager"]
    mail = cast.start("alert", "handler", "mail")
    mail.hear("mail: high: the disk is full")
    pager.stop()
    pager = cast.start("alert", "handler", "pager")
    pager.hear("ready")
    cast.play("alert", "raise-alert", "the disk is on fire", "--priority", "critical")
    for handler in (pager, mail):
        handler.hear("critical: the disk is on fire")
    assert not [line for line in pager.heard if "full" in line]
    timed.pass_time(HOUR_MS)
    late = cast.start("alert", "handler", "late")
    late.hear("ready")
    cast.play("alert", "raise-alert", "all is well")
    late.hear("high: all is well")
    assert not [line for line in late.heard if "disk" in line]


def test_a_device_that_was_offline_does_the_urgent_first(timed: RunningServer, cast: Cast, client: Mailbox) -> None:
    said = cast.play("edge_device", "register")
    mail_id, drop_id = found(r"reads (m-\w{26})$", said), found(r"sends to (d-\w{26})$", said)
    assert cast.play("edge_device", "cloud", drop_id) == [
        "cloud: the device is offline; it will find this",
        "cloud: 4 commands are waiting",
    ]
    timed.pass_time(601_000)
    device = cast.start("edge_device", "device", mail_id)
    device.hear("upload the logs")
    assert device.heard == [
        "device: high: close the valve",
        "device: normal: measure every 5 seconds",
        "device: low: upload the logs",
    ]
    [logs] = [message.msg_id for message in client.fetch(mail_id, priority="low")]
    eventually(lambda: client.status(drop_id, logs).groups["device"].state == "done")
    device.kill()
    device = cast.start("edge_device", "device", mail_id)
    client.send(drop_id, "open the valve")
    device.hear("open the valve")
    assert device.heard == ["device: normal: open the valve"]


def test_a_human_approves_an_hour_later_from_the_command_line(timed: RunningServer, cast: Cast) -> None:
    mq9 = Command(timed.url)
    said = cast.play("approval", "ask", "delete the staging database")
    mail_id = found(r"the answer will be in (m-\w{26})$", said)
    agent = cast.start("approval", "act", mail_id)
    agent.hear("waiting")
    timed.pass_time(HOUR_MS)
    pending = mq9("fetch", "approvals")
    assert "May I delete the staging database?" in pending
    question = pending.splitlines()[1].split()[0]
    mq9("reply", "approvals", question, "yes", "--delete")
    agent.hear("^agent: I delete the staging database$")
    agent.finish()
    assert len(mq9("fetch", "approvals").splitlines()) == 1


def test_a_human_refuses_while_the_agent_is_away(timed: RunningServer, cast: Cast) -> None:
    mq9 = Command(timed.url)
    said = cast.play("approval", "ask", "spend the money")
    mail_id = found(r"the answer will be in (m-\w{26})$", said)
    timed.pass_time(HOUR_MS)
    question = mq9("receive", "approvals", "--count", "1").split()[0]
    mq9("reply", "approvals", question, "ask me tomorrow")
    timed.pass_time(HOUR_MS)
    assert cast.play("approval", "act", mail_id)[1:] == ["agent: I do not spend the money: ask me tomorrow"]


def test_a_request_is_answered_though_the_two_are_never_online_together(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path / "data") as broker, Cast(broker.url) as cast:
        mail_id = found(r"the answers in (m-\w{26})$", cast.play("request_reply", "ask", "17", "21"))
        broker.kill()
        broker.start()
        service = cast.start("request_reply", "service")
        first, second = (int(service.hear(r"answered question (\d+)")[1]) for _ in range(2))
        with Mailbox(broker.url) as client:
            eventually(lambda: client.status("service.is-prime", first).groups["service"].state == "done")
            eventually(lambda: client.status("service.is-prime", second).groups["service"].state == "done")
        service.kill()
        broker.kill()
        broker.start()
        assert cast.play("request_reply", "collect", mail_id) == ["client: 17 is prime", "client: 21 is not prime"]
        cast.play("request_reply", "ask", "5")
        service = cast.start("request_reply", "service")
        assert int(service.hear(r"answered question (\d+)")[1]) > second
        service.stop()


def test_agents_are_found_by_what_they_can_do(timed: RunningServer, cast: Cast, client: Mailbox) -> None:
    ada = cast.start("discovery", "agent", "ada", "upper", "count", "--beat", "0.1")
    bob = cast.start("discovery", "agent", "bob", "lower", "--beat", "0.1")
    for agent in (ada, bob):
        agent.hear("ready")
    assert cast.play("discovery", "find", "count") == ["ada can count"]
    assert cast.play("discovery", "ask", "count", "one two three") == ["ada answered: 3 words"]
    assert cast.play("discovery", "ask", "lower", "QUIET") == ["bob answered: quiet"]
    ada.kill()
    timed.pass_time(6_000)
    eventually_renewed(client, "agents.bob", timed)
    timed.pass_time(6_000)
    assert cast.play("discovery", "find", "count") == []
    assert cast.start("discovery", "ask", "count", "one").finish(1) == ["nobody can count"]
    assert cast.play("discovery", "find", "lower") == ["bob can lower"]
    bob.stop()
    assert cast.play("discovery", "find", "lower") == []
