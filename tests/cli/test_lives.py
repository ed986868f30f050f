"""What the commands can say of a message's life: delay, key, tags, repeats, drop_ids, receipts, and answers to it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.cli.support import Command, objects
from tests.support.running import RunningServer

if TYPE_CHECKING:
    from collections.abc import Callable


def created(mq9: Command) -> tuple[str, str]:
    """The mail_id and the drop_id of a new mailbox."""
    mail_id, drop_id = mq9("create", "--ttl", "600", "--drop-id").split()
    return mail_id, drop_id


def test_create_shows_the_drop_id_when_asked_to(mq9: Command, unique: Callable[[str], str]) -> None:
    mail_id, drop_id = created(mq9)
    assert (mail_id[:2], drop_id[:2], len(drop_id)) == ("m-", "d-", 28)
    name = unique("shared")
    [first] = objects(mq9("create", name, "--json"))
    assert mq9("create", name, "--drop-id") == f"{name} {first['drop_id']}\n"


def test_a_drop_id_is_for_sending_and_for_nothing_else(mq9: Command) -> None:
    mail_id, drop_id = created(mq9)
    msg_id = mq9("send", drop_id, "hello").strip()
    assert mq9("receive", mail_id, "--count", "1", "--body") == "hello\n"
    assert mq9("status", drop_id, msg_id) == "stored, offered to a receiver\n"
    for arguments in (
        ["receive", drop_id],
        ["receive", drop_id, "--group", "g"],
        ["fetch", drop_id],
        ["delete", drop_id, msg_id],
        ["delete", drop_id, "--mailbox"],
        ["work", drop_id, "--group", "g", "--exec", "true"],
        ["revive", drop_id, msg_id, "--group", "g"],
    ):
        ran = mq9.run(*arguments)
        assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (1, "", 1), ran
        assert "drop_id" in ran.stderr
        assert mail_id not in ran.stderr


def test_a_delayed_message_is_seen_when_its_time_has_come() -> None:
    with RunningServer() as broker:
        mq9 = Command(broker.url)
        mail_id, drop_id = created(mq9)
        msg_id = mq9("send", drop_id, "later", "--delay", "300.5").strip()
        assert objects(mq9("fetch", mail_id, "--json")) == []
        assert mq9("status", drop_id, msg_id) == "delayed, not offered to anybody yet\n"
        broker.pass_time(301_000)
        assert mq9("receive", mail_id, "--count", "1", "--body") == "later\n"


def test_a_key_replaces_and_is_found(mq9: Command) -> None:
    mail_id, _ = created(mq9)
    first = mq9("send", mail_id, "old", "--key", "state").strip()
    mq9("send", mail_id, "other")
    [sent] = objects(mq9("send", mail_id, "new", "--key", "state", "--json"))
    assert sent["pending"] == 2
    assert [message["payload"] for message in objects(mq9("fetch", mail_id, "--key", "state", "--json"))] == ["new"]
    assert mq9("status", mail_id, first) == "gone\n"


def test_tags_are_all_wanted(mq9: Command) -> None:
    mail_id, _ = created(mq9)
    mq9("send", mail_id, "both", "--tag", "red", "--tag", "round")
    mq9("send", mail_id, "one", "--tag", "red")
    red = objects(mq9("fetch", mail_id, "--tag", "red", "--json"))
    assert [message["payload"] for message in red] == ["both", "one"]
    both = objects(mq9("fetch", mail_id, "--tag", "red", "--tag", "round", "--json"))
    assert [message["payload"] for message in both] == ["both"]


def test_a_repeat_is_not_stored_again(mq9: Command) -> None:
    mail_id, _ = created(mq9)
    first, again = (objects(mq9("send", mail_id, "x", "--dedup-id", "order-1", "--json"))[0] for _ in range(2))
    assert (first["duplicate"], again["duplicate"]) == (False, True)
    assert first["msg_id"] == again["msg_id"]
    assert len(objects(mq9("fetch", mail_id, "--json"))) == 1
    assert mq9("send", mail_id, "x") != mq9("send", mail_id, "x")


def test_send_tells_how_many_listen(mq9: Command) -> None:
    mail_id, _ = created(mq9)
    assert objects(mq9("send", mail_id, "one", "--json"))[0]["receivers"] == 0
    with mq9.start("receive", mail_id, "--body") as listening:
        assert listening.stdout is not None
        assert listening.stdout.readline() == b"one\n"
        assert objects(mq9("send", mail_id, "two", "--json"))[0]["receivers"] == 1
        listening.terminate()


def test_a_receipt_tells_of_every_group(mq9: Command) -> None:
    mail_id, drop_id = created(mq9)
    msg_id = mq9("send", drop_id, "x").strip()
    assert mq9("status", drop_id, msg_id) == "stored, not offered to anybody yet\n"
    mq9("receive", mail_id, "--group", "readers", "--count", "1")
    mq9.run("work", mail_id, "--group", "workers", "--exec", "exit 1", "--count", "1")
    first, *table = mq9("status", drop_id, msg_id).splitlines()
    assert first == "stored, offered to a receiver"
    assert [line.split() for line in table] == [
        ["GROUP", "STATE", "ATTEMPTS"],
        ["readers", "done", "1"],
        ["workers", "waiting", "1"],
    ]
    [told] = objects(mq9("status", drop_id, msg_id, "--json"))
    assert told == {
        "msg_id": int(msg_id),
        "state": "stored",
        "offered": True,
        "groups": {"readers": {"state": "done", "attempts": 1}, "workers": {"state": "waiting", "attempts": 1}},
    }
    assert mq9.run("status", drop_id, str(int(msg_id) + 1_000_000)).returncode == 4


def test_receive_with_a_group_takes_each_message_once(mq9: Command) -> None:
    mail_id, _ = created(mq9)
    for body in ("one", "two", "three"):
        mq9("send", mail_id, body)
    assert mq9("receive", mail_id, "--group", "g", "--count", "1", "--body") == "one\n"
    [second] = objects(mq9("receive", mail_id, "--group", "g", "--count", "1", "--json"))
    assert (second["payload"], second["attempt"], second["pending"]) == ("two", 1, None)
    assert mq9("receive", mail_id, "--group", "g", "--wait", "0.5", "--body") == "three\n"
    assert mq9("receive", mail_id, "--group", "other", "--count", "1", "--body") == "one\n"


def test_a_human_answers_a_message(mq9: Command) -> None:
    mail_id, _ = created(mq9)
    answers, drop_id = created(mq9)
    question = mq9("send", mail_id, "May I?", "--reply-to", drop_id, "--correlation-id", "c-1").strip()
    other = mq9("send", mail_id, "for your information").strip()
    [sent] = objects(mq9("reply", mail_id, question, "yes", "--priority", "high", "--json"))
    [answer] = objects(mq9("receive", answers, "--count", "1", "--json"))
    assert (answer["msg_id"], answer["payload"], answer["correlation_id"]) == (sent["msg_id"], "yes", "c-1")
    assert answer["priority"] == "high"
    assert len(objects(mq9("fetch", mail_id, "--json"))) == 2
    mq9("reply", mail_id, question, "--delete", stdin=b'{"sure": true}')
    assert [message["payload"] for message in objects(mq9("fetch", answers, "--json"))] == ["yes", {"sure": True}]
    assert [str(message["msg_id"]) for message in objects(mq9("fetch", mail_id, "--json"))] == [other]
    ran = mq9.run("reply", mail_id, other, "yes")
    assert (ran.returncode, ran.stderr.count("\n")) == (1, 1)
    assert "reply_to" in ran.stderr
    ran = mq9.run("reply", mail_id, question, "again")
    assert (ran.returncode, ran.stderr) == (4, f"mq9: there is no message {question} in this mailbox\n")


@pytest.mark.parametrize("as_json", [False, True])
def test_request_waits_for_the_answer(mq9: Command, as_json: bool) -> None:
    mail_id, drop_id = created(mq9)
    with mq9.start("request", drop_id, "what is 6 times 7?", *(["--json"] if as_json else [])) as asking:
        question = mq9("receive", mail_id, "--count", "1").split()[0]
        mq9("reply", mail_id, question, "42")
        said, complained = asking.communicate(timeout=30)
    assert (complained, asking.returncode) == (b"", 0)
    assert (json.loads(said)["payload"] if as_json else said) == ("42" if as_json else b"42\n")


def test_request_leaves_when_no_answer_comes(mq9: Command) -> None:
    mail_id, drop_id = created(mq9)
    ran = mq9.run("request", drop_id, "anybody there?", "--wait", "0.5")
    assert (ran.returncode, ran.stdout, ran.stderr) == (5, "", "mq9: no answer came within 0.5 seconds\n")
    assert len(objects(mq9("fetch", mail_id, "--json"))) == 1
