"""The operations that ask and are answered: create, send, fetch, delete, remove, list, against a real broker."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from mq9 import (
    AsyncMailbox,
    AsyncMessage,
    BadRequest,
    Mailbox,
    MailboxInfo,
    Message,
    NotFound,
    Priority,
    TooLarge,
)
from mq9.protocol import PRIORITIES
from tests.sdk.support import run

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.broker import BrokerProcess

NOBODYS = "m-" + "a" * 26


def test_create_makes_a_private_mailbox(mailbox: Mailbox) -> None:
    box = mailbox.create(ttl=3600)
    assert box.startswith("m-")
    assert box["mail_id"] == box.mail_id == str(box)
    assert (box.is_new, box.public, box.ttl) == (True, False, 3600)
    assert box.expires_at is not None
    assert box.created_at is not None
    assert box.expires_at - box.created_at == timedelta(seconds=3600)
    assert mailbox.create() != box


def test_create_with_ttl_0_never_ends(mailbox: Mailbox) -> None:
    assert mailbox.create(0).expires_at is None


def test_create_finds_a_mailbox_by_its_name(mailbox: Mailbox, unique: Callable[[str], str]) -> None:
    name = unique("orders")
    first = mailbox.create(ttl=100, name=name, desc="first")
    again = mailbox.create(ttl=999, name=name, desc="second")
    assert first == again == name
    assert (first.is_new, again.is_new) == (True, False)
    assert again.ttl == 100


def test_create_renews_a_mailbox(mailbox: Mailbox, unique: Callable[[str], str]) -> None:
    name = unique("worker")
    first = mailbox.create(ttl=100, name=name)
    renewed = mailbox.create(ttl=5000, name=name, renew=True)
    assert first.expires_at is not None
    assert renewed.expires_at is not None
    assert renewed.expires_at - first.expires_at > timedelta(seconds=4000)


def test_create_renews_a_private_mailbox(mailbox: Mailbox) -> None:
    box = mailbox.create(ttl=100)
    assert mailbox.create(5000, name=box, renew=True).ttl == 5000


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"ttl": -1}, "ttl"),
        ({"ttl": "long"}, "ttl"),
        ({"public": True}, "name"),
        ({"name": "two..dots"}, "name"),
        ({"name": "m-mine"}, "name"),
        ({"name": "ends.high"}, "priority word"),
        ({"name": "x" * 129}, "128"),
        ({"desc": 7}, "desc"),
        ({"renew": True}, "name"),
        ({"desc": object()}, "argument"),
    ],
)
def test_create_refuses_what_the_protocol_does_not_allow(
    mailbox: Mailbox, arguments: dict[str, Any], names: str
) -> None:
    with pytest.raises(BadRequest, match=names) as refusal:
        mailbox.create(**arguments)
    assert refusal.value.code == 400


@pytest.mark.parametrize(
    "payload",
    [b"", b"\x00\xff", "", "text", "ünïcödé", {"a": [1, None, "x"]}, [], 17, 1.5, True, None, {"nested": {"m": "n"}}],
    ids=repr,
)
def test_what_is_sent_comes_back(mailbox: Mailbox, payload: Any) -> None:
    box = mailbox.create(ttl=60)
    msg_id = mailbox.send(box, payload)
    [fetched] = mailbox.fetch(box)
    received = mailbox.receive(box).next(timeout=5)
    assert received is not None
    for message in (fetched, received):
        assert isinstance(message, Message)
        assert message.payload == payload
        assert type(message.payload) is type(payload)
        assert message.msg_id == msg_id
        assert message.priority == "normal"
        assert message.time is not None
        assert abs(message.time - datetime.now(UTC)) < timedelta(seconds=30)


def test_a_message_carries_headers_answers_and_correlation(mailbox: Mailbox) -> None:
    box, answers = mailbox.create(ttl=60), mailbox.create(ttl=60)
    headers = {"traceparent": "00-ab-cd-01", "x-colour": "blau ünd grün"}
    mailbox.send(box, "question", headers=headers, reply_to=answers, correlation_id="c-7")
    [fetched] = mailbox.fetch(box)
    received = mailbox.receive(box).next(timeout=5)
    assert received is not None
    for message in (fetched, received):
        assert message.headers["traceparent"] == "00-ab-cd-01"
        assert message.headers["x-colour"] == "blau ünd grün"
        assert message.reply_to == answers
        assert message.correlation_id == "c-7"
        assert not any(name.startswith("mq9-msg") for name in message.headers)


def test_a_content_type_of_the_senders_own_is_kept(mailbox: Mailbox) -> None:
    box = mailbox.create(ttl=60)
    mailbox.send(box, b'{"a": 1}', headers={"Content-Type": "application/json"})
    [message] = mailbox.fetch(box)
    assert message.payload == {"a": 1}


def test_reply_goes_where_the_sender_wants_it(mailbox: Mailbox) -> None:
    box, answers = mailbox.create(ttl=60), mailbox.create(ttl=60)
    mailbox.send(box, "question", reply_to=answers, correlation_id="c-8")
    [question] = mailbox.fetch(box)
    msg_id = question.reply({"answer": 42}, priority="high")
    [answer] = mailbox.fetch(answers)
    assert (answer.msg_id, answer["answer"], answer.correlation_id, answer.priority) == (msg_id, 42, "c-8", "high")


def test_reply_without_an_address_says_so(mailbox: Mailbox) -> None:
    box = mailbox.create(ttl=60)
    mailbox.send(box, "statement")
    [statement] = mailbox.fetch(box)
    with pytest.raises(BadRequest, match="reply_to"):
        statement.reply("answer")


@pytest.mark.parametrize("priority", [*PRIORITIES, Priority.HIGH])
def test_the_priority_that_was_sent_comes_back(mailbox: Mailbox, priority: str) -> None:
    box = mailbox.create(ttl=60)
    mailbox.send(box, "x", priority=priority)
    assert mailbox.fetch(box)[0].priority == priority


@pytest.mark.parametrize("priority", ["", "HIGH", "soon", "high.high", 7])
def test_a_bad_priority_names_the_good_ones(mailbox: Mailbox, priority: Any) -> None:
    box = mailbox.create(ttl=60)
    for refused in (
        lambda: mailbox.send(box, "x", priority=priority),
        lambda: mailbox.fetch(box, priority=priority),
        lambda: mailbox.receive(box, priority=priority),
    ):
        with pytest.raises(BadRequest, match="critical, urgent, high, normal, low"):
            refused()


@pytest.mark.parametrize(
    "mail_id", ["", "a b", "a..b", "*", ">", "x.*", "a\r\nPUB x 0", "ü", "\ud800", "x" * 129, 7, None, b"x"]
)
def test_a_mail_id_that_cannot_be_one_is_refused_everywhere(mailbox: Mailbox, mail_id: Any) -> None:
    for refused in (
        lambda: mailbox.send(mail_id, "x"),
        lambda: mailbox.fetch(mail_id),
        lambda: mailbox.receive(mail_id),
        lambda: mailbox.delete(mail_id, 1),
        lambda: mailbox.remove(mail_id),
    ):
        with pytest.raises(BadRequest, match="mail_id"):
            refused()


def test_a_mailbox_that_is_not_there_is_not_found_anywhere(mailbox: Mailbox) -> None:
    for refused in (
        lambda: mailbox.send(NOBODYS, "x"),
        lambda: mailbox.fetch(NOBODYS),
        lambda: mailbox.receive(NOBODYS),
        lambda: mailbox.receive(NOBODYS, print),
        lambda: mailbox.delete(NOBODYS, 1),
    ):
        with pytest.raises(NotFound) as refusal:
            refused()
        assert refusal.value.code == 404
        assert NOBODYS not in str(refusal.value)


@pytest.mark.parametrize(
    "headers",
    [
        {"": "x"},
        {"a b": "x"},
        {"a:": "x"},
        {"ü": "x"},
        {"a": "two\r\nlines"},
        {"a": b"x"},
        {"a": "\ud800"},
        {7: "x"},
        {"a": True},
    ],
)
def test_headers_that_cannot_be_sent_are_refused(mailbox: Mailbox, headers: Any) -> None:
    with pytest.raises(BadRequest, match="header"):
        mailbox.send(NOBODYS, "x", headers=headers)


@pytest.mark.parametrize("ttl", [-1, "long", 1.5, True, 2**70])
def test_a_bad_message_ttl_is_refused_and_nothing_is_stored(mailbox: Mailbox, ttl: Any) -> None:
    box = mailbox.create(ttl=60)
    with pytest.raises(BadRequest, match="ttl"):
        mailbox.send(box, "x", ttl=ttl)
    assert mailbox.fetch(box) == []


def test_a_message_with_a_ttl_expires(mailbox: Mailbox) -> None:
    box = mailbox.create(ttl=60)
    mailbox.send(box, "short", ttl=1)
    mailbox.send(box, "long", ttl=50)
    deadline = time.monotonic() + 10
    while (left := [message.payload for message in mailbox.fetch(box)]) != ["long"]:
        assert left == ["short", "long"]
        assert time.monotonic() < deadline, "the message did not expire"


def test_a_message_at_the_limit_is_stored_and_above_it_too_large(mailbox: Mailbox) -> None:
    box = mailbox.create(ttl=60)
    room = 1024 * 1024 - len(b"NATS/1.0\r\ncontent-type: application/octet-stream\r\nNats-Msg-Id: 1\r\n\r\n")
    mailbox.send(box, b"x" * room, dedup_id="1")
    with pytest.raises(TooLarge, match="1048576") as refusal:
        mailbox.send(box, b"x" * (room + 1), dedup_id="2")
    assert refusal.value.code == 413
    assert [message.size for message in mailbox.fetch(box)] == [room]


def test_fetch_goes_through_as_many_pages_as_it_takes(mailbox: Mailbox) -> None:
    box = mailbox.create(ttl=60)
    sent = [mailbox.send(box, bytes(100_000)) for _ in range(25)]
    everything = mailbox.fetch(box, limit=None)
    assert [message.msg_id for message in everything] == sent
    assert everything.next is None
    first = mailbox.fetch(box, limit=15)
    assert [message.msg_id for message in first] == sent[:15]
    assert first.next == sent[14]
    rest = mailbox.fetch(box, after=first.next)
    assert [message.msg_id for message in rest] == sent[15:]
    assert rest.next is None


def test_fetch_narrows_down(mailbox: Mailbox) -> None:
    box = mailbox.create(ttl=60)
    mailbox.send(box, "low", priority="low")
    mailbox.send(box, "high", priority="high")
    assert [message.payload for message in mailbox.fetch(box, priority="high")] == ["high"]
    assert mailbox.fetch(box, since=datetime.now(UTC) + timedelta(hours=1)) == []
    assert len(mailbox.fetch(box, since=datetime.now(UTC) - timedelta(hours=1))) == 2
    assert len(mailbox.fetch(box, since=time.time() - 3600)) == 2
    [bare, _] = mailbox.fetch(box, payload=False)
    assert (bare.data, bare.size) == (b"", 3)


@pytest.mark.parametrize(
    "arguments", [{"limit": 0}, {"limit": "all"}, {"limit": True}, {"after": -1}, {"after": "x"}, {"since": "now"}]
)
def test_fetch_refuses_what_makes_no_sense(mailbox: Mailbox, arguments: dict[str, Any]) -> None:
    box = mailbox.create(ttl=60)
    with pytest.raises(BadRequest, match=next(iter(arguments)) if "after" not in arguments else "msg_id"):
        mailbox.fetch(box, **arguments)


def test_fetched_messages_tell_no_pending(mailbox: Mailbox) -> None:
    box = mailbox.create(ttl=60)
    mailbox.send(box, "x")
    assert mailbox.fetch(box)[0].pending is None


def test_delete_tells_whether_it_was_there(mailbox: Mailbox) -> None:
    box = mailbox.create(ttl=60)
    msg_id = mailbox.send(box, "x")
    assert mailbox.delete(box, msg_id) is True
    assert mailbox.delete(box, msg_id) is False
    assert mailbox.fetch(box) == []


@pytest.mark.parametrize("msg_id", [-1, 2**64, "1", 1.0, None, True])
def test_a_number_that_cannot_be_a_msg_id_is_refused(mailbox: Mailbox, msg_id: Any) -> None:
    with pytest.raises(BadRequest, match="msg_id"):
        mailbox.delete(mailbox.create(ttl=60), msg_id)


def test_remove_ends_a_mailbox(mailbox: Mailbox) -> None:
    box = mailbox.create(ttl=60)
    mailbox.send(box, "x")
    assert mailbox.remove(box) is True
    with pytest.raises(NotFound):
        mailbox.fetch(box)


def test_list_shows_the_public_mailboxes_only(mailbox: Mailbox, unique: Callable[[str], str]) -> None:
    prefix = unique("listed")
    private, unlisted = mailbox.create(ttl=60), mailbox.create(ttl=60, name=f"{prefix}.unlisted")
    shown = [mailbox.create(ttl=60, public=True, name=f"{prefix}.{n}", desc=f"number {n}") for n in "ab"]
    mailbox.send(shown[1], "x")
    found = mailbox.list(prefix=prefix)
    assert found == shown
    assert [box.desc for box in found] == ["number a", "number b"]
    assert [box.messages for box in found] == [0, 1]
    assert all(isinstance(box, MailboxInfo) and box.public and box.expires_at for box in found)
    everything = mailbox.list()
    assert set(shown) <= set(everything)
    assert not {str(private), str(unlisted)} & set(everything)


def test_list_goes_through_all_pages(mailbox: Mailbox, unique: Callable[[str], str]) -> None:
    prefix = unique("many")

    async def create_many(client: AsyncMailbox) -> None:
        for n in range(1_001):
            await client.create(60, public=True, name=f"{prefix}.{n:04}")

    run(create_many, mailbox)
    assert len(mailbox.list(prefix=prefix)) == 1_001


def test_the_asynchronous_face_has_the_same_operations(mailbox: Mailbox, unique: Callable[[str], str]) -> None:
    name = unique("async")

    async def use(client: AsyncMailbox) -> None:
        box = await client.create(ttl=60, name=name, public=True, desc="here")
        answers = await client.create(60)
        msg_id = await client.send(box, {"a": 1}, priority="high", reply_to=answers, correlation_id="c")
        [message] = await client.fetch(box)
        assert isinstance(message, AsyncMessage)
        assert (message.msg_id, message["a"]) == (msg_id, 1)
        await message.reply("done")
        [answer] = await client.fetch(answers)
        assert (answer.payload, answer.correlation_id) == ("done", "c")
        assert await client.list(prefix=name) == [name]
        assert await client.delete(box, msg_id) is True
        assert await client.remove(box) is True
        with pytest.raises(NotFound):
            await client.fetch(box)

    run(use, mailbox)


def test_many_calls_at_once_share_one_connection(mailbox: Mailbox) -> None:
    import asyncio

    async def use(client: AsyncMailbox) -> None:
        box = await client.create(60)
        sent = await asyncio.gather(*(client.send(box, n) for n in range(500)))
        assert len(set(sent)) == 500
        by_id = {message.msg_id: message.payload for message in await client.fetch(box, limit=None)}
        assert [by_id[msg_id] for msg_id in sent] == list(range(500))

    run(use, mailbox)


@pytest.mark.parametrize("timeout", [0, -1, "long", float("nan"), float("inf"), True])
def test_a_timeout_that_no_clock_can_wait_for_is_refused(broker: BrokerProcess, timeout: Any) -> None:
    with pytest.raises(BadRequest, match="timeout"):
        Mailbox(broker.url, timeout=timeout)
    with Mailbox(broker.url) as client, pytest.raises(BadRequest, match="timeout"):
        client.create(timeout=timeout)
