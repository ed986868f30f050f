"""What a message can be sent with, what the sender is told, and what becomes of the message."""

from __future__ import annotations

import pickle
import time
from typing import TYPE_CHECKING, Any

import pytest

from mq9 import AsyncMailbox, BadRequest, Forbidden, GroupStatus, Mailbox, NotFound, Sent, Status
from mq9.protocol import HEADER_DELAY
from mq9.sdk.operations import send_options
from tests.sdk.support import run
from tests.support.running import RunningServer

if TYPE_CHECKING:
    from collections.abc import Callable

NOTHING: dict[str, Any] = {
    "ttl": None,
    "delay": None,
    "key": None,
    "tags": None,
    "dedup_id": None,
    "reply_to": None,
    "correlation_id": None,
}


def test_what_send_returns_is_the_msg_id_and_more(mailbox: Mailbox) -> None:
    box = mailbox.create(ttl=60)
    first = mailbox.send(box, "x")
    assert isinstance(first, int)
    assert (first.duplicate, first.pending, first.receivers) == (False, 1, 0)
    with mailbox.receive(box), mailbox.receive(box):
        second = mailbox.send(box, "y")
    assert (second > first, second.pending, second.receivers) == (True, 2, 2)
    again = pickle.loads(pickle.dumps(second))  # noqa: S301 - our own bytes
    assert (again, again.pending, again.receivers, again.duplicate) == (second, 2, 2, False)
    assert f"{second}" == str(int(second))
    assert Sent({"msg_id": 7}).pending is None


def test_a_message_with_the_same_dedup_id_is_stored_once(mailbox: Mailbox) -> None:
    box, elsewhere = mailbox.create(ttl=60), mailbox.create(ttl=60)
    first = mailbox.send(box, "x", dedup_id="order 7")
    second = mailbox.send(box, "x", dedup_id="order 7")
    by_header = mailbox.send(box, "x", headers={"nats-msg-id": "order 7"})
    assert [first.duplicate, second.duplicate, by_header.duplicate] == [False, True, True]
    assert first == second == by_header
    assert mailbox.send(elsewhere, "x", dedup_id="order 7").duplicate is False
    other = mailbox.send(box, "x")
    assert other.duplicate is False
    assert [message.msg_id for message in mailbox.fetch(box)] == [first, other]


def test_a_delayed_message_is_there_before_it_can_be_seen(mailbox: Mailbox) -> None:
    box = mailbox.create(ttl=60)
    started = time.monotonic()
    sent = mailbox.send(box, "later", delay=0.5)
    assert sent.pending == 1
    assert mailbox.fetch(box) == []
    assert mailbox.status(box, sent) == Status(sent, "delayed", offered=False, groups={})
    message = mailbox.receive(box).next(timeout=10)
    assert message is not None
    assert (message.msg_id, message.payload) == (sent, "later")
    assert time.monotonic() - started >= 0.5
    assert mailbox.status(box, sent).state == "stored"


@pytest.mark.parametrize(
    ("delay", "text"),
    [(0, "0"), (5, "5"), (0.25, "0.250"), (1.1, "1.100"), (0.0001, "0.001"), (2.0005, "2.001"), (0.07, "0.070")],
)
def test_a_delay_is_never_shorter_than_asked_for(delay: float, text: str) -> None:
    assert send_options(**{**NOTHING, "delay": delay})[HEADER_DELAY] == text


def test_a_key_replaces_what_had_it_before(mailbox: Mailbox) -> None:
    box = mailbox.create(ttl=60)
    first = mailbox.send(box, {"state": "busy"}, key="worker.7")
    mailbox.send(box, "else", key="worker.8")
    last = mailbox.send(box, {"state": "idle"}, key="worker.7")
    assert [message.payload for message in mailbox.fetch(box)] == ["else", {"state": "idle"}]
    assert [message.msg_id for message in mailbox.fetch(box, key="worker.7")] == [last]
    assert mailbox.fetch(box, key="worker.9") == []
    assert mailbox.status(box, first).state == "gone"


def test_tags_are_looked_for_all_together(mailbox: Mailbox) -> None:
    box = mailbox.create(ttl=60)
    both = mailbox.send(box, "both", tags=["red", "two words"])
    mailbox.send(box, "one", tags=("red",))
    mailbox.send(box, "none", tags=[])
    assert len(mailbox.fetch(box, tags=["red"])) == 2
    assert [message.msg_id for message in mailbox.fetch(box, tags=["two words", "red"])] == [both]
    assert mailbox.fetch(box, tags=["blue"]) == []
    assert len(mailbox.fetch(box, tags=[])) == 3


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"delay": -1}, "delay"),
        ({"delay": "5"}, "delay"),
        ({"delay": True}, "delay"),
        ({"delay": float("nan")}, "delay"),
        ({"delay": float("inf")}, "delay"),
        ({"delay": 10, "ttl": 10}, "mq9-delay"),
        ({"delay": 61}, "mq9-delay"),
        ({"key": ""}, "key"),
        ({"key": 7}, "key"),
        ({"key": " a"}, "key"),
        ({"key": "a\r\nb"}, "mq9-key"),
        ({"key": "ü" * 129}, "mq9-key"),
        ({"tags": "red"}, "tags"),
        ({"tags": 7}, "tags"),
        ({"tags": ["a,b"]}, "tag"),
        ({"tags": [""]}, "tag"),
        ({"tags": [7]}, "tag"),
        ({"tags": [str(n) for n in range(65)]}, "mq9-tags"),
        ({"dedup_id": ""}, "dedup_id"),
        ({"dedup_id": "x" * 257}, "Nats-Msg-Id"),
        ({"dedup_id": 7}, "dedup_id"),
        ({"key": "a", "headers": {"MQ9-Key": "b"}}, "mq9-key"),
    ],
)
def test_an_option_that_cannot_be_is_refused_and_nothing_is_stored(
    mailbox: Mailbox, options: dict[str, Any], names: str
) -> None:
    box = mailbox.create(ttl=60)
    with pytest.raises(BadRequest, match=names) as refusal:
        mailbox.send(box, "x", **options)
    assert refusal.value.code == 400
    assert mailbox.fetch(box) == []


def test_whoever_has_the_drop_id_can_send_and_ask_and_nothing_else(
    mailbox: Mailbox, unique: Callable[[str], str]
) -> None:
    for box in (mailbox.create(ttl=60), mailbox.create(ttl=60, name=unique("orders"))):
        assert box.drop_id == box["drop_id"]
        assert box.drop_id.startswith("d-")
        sent = mailbox.send(box.drop_id, "x", priority="high")
        assert mailbox.status(box.drop_id, sent).state == "stored"
        for refused in (
            lambda drop_id=box.drop_id: mailbox.fetch(drop_id),
            lambda drop_id=box.drop_id: mailbox.receive(drop_id),
            lambda drop_id=box.drop_id: mailbox.receive(drop_id, resume="g"),
            lambda drop_id=box.drop_id, sent=sent: mailbox.delete(drop_id, sent),
            lambda drop_id=box.drop_id: mailbox.remove(drop_id),
            lambda drop_id=box.drop_id: mailbox.dead(drop_id, "g"),
            lambda drop_id=box.drop_id: mailbox.revive(drop_id, "g", 1),
        ):
            with pytest.raises(Forbidden, match="drop_id") as refusal:
                refused()
            assert box.drop_id not in str(refusal.value)
            assert str(box) not in str(refusal.value)
        assert [message.payload for message in mailbox.fetch(box)] == ["x"]


def test_answers_go_to_a_drop_id(mailbox: Mailbox) -> None:
    box, answers = mailbox.create(ttl=60), mailbox.create(ttl=60)
    mailbox.send(box, "question", reply_to=answers.drop_id, correlation_id="c")
    [question] = mailbox.fetch(box)
    assert question.reply_to == answers.drop_id
    sent = question.reply("answer", tags=["t"], dedup_id="once")
    [answer] = mailbox.fetch(answers)
    assert (answer.msg_id, answer.payload, answer.correlation_id) == (sent, "answer", "c")


def test_printing_never_shows_a_drop_id(mailbox: Mailbox) -> None:
    box = mailbox.create(ttl=60)
    mailbox.send(box, {"answer to": box.drop_id}, reply_to=box.drop_id)
    [message] = mailbox.fetch(box)
    for shown in (str(message), repr(message), repr(box)):
        assert box.drop_id not in shown
    assert "d-" in str(message)


def test_the_status_of_a_message(mailbox: Mailbox) -> None:
    box = mailbox.create(ttl=60)
    sent = mailbox.send(box, "x")
    assert mailbox.status(box, sent) == Status(sent, "stored", offered=False, groups={})
    assert mailbox.receive(box).next(timeout=5) is not None
    assert mailbox.status(box, sent) == Status(sent, "stored", offered=True, groups={})
    with mailbox.receive(box, resume="g") as messages:
        next(messages)
        assert mailbox.status(box, sent).groups == {"g": GroupStatus("leased", 1)}
    assert mailbox.status(box, sent).groups == {"g": GroupStatus("done", 1)}
    mailbox.delete(box, sent)
    assert mailbox.status(box, sent).state == "gone"
    with pytest.raises(NotFound, match="no such message"):
        mailbox.status(box, 2**63)
    with pytest.raises(NotFound, match="no such mailbox"):
        mailbox.status("m-" + "a" * 26, 1)


def test_a_status_with_more_groups_than_go_into_one_answer_has_them_all() -> None:
    names = sorted(f"{number:02}" + "x" * 120 for number in range(30))
    with RunningServer(max_payload=4_096) as broker, Mailbox(broker.url) as mailbox:
        box = mailbox.create(ttl=60)
        sent = mailbox.send(box, "x")
        for name in names:
            with mailbox.receive(box, resume=name) as messages:
                next(messages)
        assert mailbox.status(box, sent).groups == dict.fromkeys(names, GroupStatus("done", 1))


def test_the_asynchronous_face_sends_alike(mailbox: Mailbox) -> None:
    async def use(client: AsyncMailbox) -> None:
        box = await client.create(60)
        sent = await client.send(box, "x", key="k", tags=["t"], dedup_id="d", ttl=30, delay=0.01)
        assert (await client.send(box, "x", dedup_id="d")).duplicate is True
        status = await client.status(box, sent)
        assert status.state in {"delayed", "stored"}
        received = await client.receive(box).next(timeout=5)
        assert received is not None
        assert received.msg_id == sent
        assert [message.msg_id for message in await client.fetch(box, key="k", tags=["t"])] == [sent]

    run(use, mailbox)
