"""What a sender may know: the reply of its send, receipts, and the address that is good for nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mq9.mailboxes.drops import drop_id_of
from mq9.protocol import dump
from tests.server.support import ThreadedServer, body_of, create, publish, request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.rawclient import RawClient

MESSAGES = "$mq9.AI.MAILBOX.MSG."
MSG = "$mq9.AI.MSG."
NO_READING = {"error": "a drop_id accepts only send and status", "code": 403}
NO_MAILBOX = {"error": "no such mailbox", "code": 404}
NO_MESSAGE = {"error": "no such message", "code": 404}


@pytest.fixture
def server() -> Iterator[ThreadedServer]:
    with ThreadedServer() as server:
        yield server


@pytest.fixture
def client(server: ThreadedServer) -> Iterator[RawClient]:
    with server.client() as client:
        yield client


def status(client: RawClient, address: str, msg_id: object) -> Any:
    return request(client, f"{MSG}STATUS.{address}.{msg_id}")


def fetch(client: RawClient, mail_id: str, group: str, **config: int) -> Any:
    return request(client, f"{MSG}FETCH.{mail_id}", {"group_name": group, "config": {"max_wait_ms": 0} | config})


def test_a_sender_learns_how_much_waits_and_who_listens(server: ThreadedServer, client: RawClient) -> None:
    mail_id = create(client)
    assert request(client, MESSAGES + mail_id, b"1") == {"msg_id": 1, "pending": 1, "receivers": 0}
    listener = server.client()
    listener.send(f"SUB {MESSAGES}{mail_id} 1\r\nSUB {MESSAGES}{mail_id}.high 2\r\n".encode())
    listener.send(f"SUB {MESSAGES}{mail_id} workers 3\r\nSUB in 4\r\n".encode())
    listener.send(
        publish(f"{MSG}FETCH.{mail_id}", b'{"group_name": "others", "deliver": "from_id", "from_id": 9}', "in")
    )
    listener.send(publish(f"{MSG}FETCH.{mail_id}", b'{"deliver": "from_id", "from_id": 9}', "in"))
    listener.fence()
    assert request(client, MESSAGES + mail_id, b"2", {"mq9-ttl": "5"}) == {"msg_id": 2, "pending": 2, "receivers": 5}
    server.pass_time(5_100)
    assert request(client, MESSAGES + mail_id, b"3") == {"msg_id": 3, "pending": 2, "receivers": 3}
    listener.hang_up()
    while request(client, MESSAGES + mail_id, b"4")["receivers"]:
        pass  # the broker learns of it when its socket does


def test_a_drop_id_sends_and_asks_and_does_nothing_else(server: ThreadedServer, client: RawClient) -> None:
    made = request(client, "$mq9.AI.MAILBOX.CREATE", {"name": "the.box"})
    mail_id, drop_id = made["mail_id"], made["drop_id"]
    assert drop_id == drop_id_of(mail_id.encode()).decode()
    assert request(client, MESSAGES + drop_id, b"a")["msg_id"] == 1
    assert request(client, f"{MESSAGES}{drop_id}.high", b"b")["msg_id"] == 2
    assert request(client, f"{MSG}SEND.{drop_id}", b"c")["msg_id"] == 3
    assert status(client, drop_id, 1) == {"msg_id": 1, "state": "stored", "offered": False, "groups": {}}
    for subject in (
        f"$mq9.AI.MAILBOX.LIST.{drop_id}",
        f"$mq9.AI.MAILBOX.DELETE.{drop_id}.1",
        f"$mq9.AI.MAILBOX.REMOVE.{drop_id}",
        f"{MSG}FETCH.{drop_id}",
        f"{MSG}QUERY.{drop_id}",
        f"{MSG}DELETE.{drop_id}.1",
    ):
        assert request(client, subject, b"{}") == NO_READING, subject
        assert request(client, subject.replace(drop_id, "d-nothing"), b"{}") == NO_READING, subject
    assert request(client, f"{MSG}ACK.{drop_id}", {"group_name": "g", "msg_id": 1}) == NO_READING
    for queue in ("", " workers"):
        for subject in (MESSAGES + drop_id, f"{MESSAGES}{drop_id}.*", f"$mq9.AI.MAILBOX.EVENTS.{drop_id}"):
            client.send(f"SUB {subject}{queue} 7\r\n".encode())
            assert (client.frame() or b"").startswith(b"-ERR 'Permissions Violation for Subscription to")
    assert request(client, "$mq9.AI.MAILBOX.CREATE", {"name": drop_id, "renew": True})["code"] == 400
    assert [item["payload"] for item in request(client, f"$mq9.AI.MAILBOX.LIST.{mail_id}")["messages"]] == [
        "a",
        "b",
        "c",
    ]


def test_an_address_that_is_none_is_not_found(client: RawClient) -> None:
    drop_id = request(client, "$mq9.AI.MAILBOX.CREATE")["drop_id"]
    for address in ("d-", "d-x", drop_id[:-1], drop_id + "a", drop_id.upper(), "d-" + "a" * 26):
        assert request(client, MESSAGES + address, b"x") == NO_MAILBOX, address
        assert status(client, address, 1) == NO_MAILBOX, address


def test_a_drop_id_ends_with_its_mailbox_and_begins_with_the_next_one(
    server: ThreadedServer, client: RawClient
) -> None:
    made = [request(client, "$mq9.AI.MAILBOX.CREATE", {"name": f"box{at}", "ttl": 5 + at % 2}) for at in range(5_000)]
    server.pass_time(5_500)
    for at, box in enumerate(made):
        answer = request(client, MESSAGES + box["drop_id"], b"x")
        assert ("msg_id" in answer) == (at % 2 == 1), at
    again = request(client, "$mq9.AI.MAILBOX.CREATE", {"name": "box0"})
    assert again["drop_id"] == made[0]["drop_id"]
    assert "msg_id" in request(client, MESSAGES + again["drop_id"], b"x")
    request(client, "$mq9.AI.MAILBOX.REMOVE.box1")
    assert request(client, MESSAGES + made[1]["drop_id"], b"x") == NO_MAILBOX


def test_a_receipt_follows_a_message_through_its_groups(server: ThreadedServer, client: RawClient) -> None:
    mail_id = create(client)
    request(client, MESSAGES + mail_id, b"task")
    for group in ("a", "b", "c"):
        assert fetch(client, mail_id, group, num_msgs=1)["messages"][0]["attempt"] == 1
    request(
        client,
        f"{MSG}FETCH.{mail_id}",
        {"group_name": "d", "deliver": "from_id", "from_id": 9, "config": {"max_wait_ms": 0}},
    )
    ack = {"msg_ids": [1], "op": "ack"}
    request(client, f"{MSG}ACK.{mail_id}", ack | {"group_name": "a"})
    request(client, f"{MSG}ACK.{mail_id}", ack | {"group_name": "b", "op": "nack"})
    request(client, f"{MSG}ACK.{mail_id}", ack | {"group_name": "c", "op": "dead", "reason": "no"})
    assert status(client, mail_id, 1) == {
        "msg_id": 1,
        "state": "stored",
        "offered": True,
        "groups": {
            "a": {"state": "done", "attempts": 1},
            "b": {"state": "waiting", "attempts": 1},
            "c": {"state": "dead", "attempts": 1},
            "d": {"state": "done", "attempts": 1},
        },
    }
    fetch(client, mail_id, "b")
    assert status(client, mail_id, 1)["groups"]["b"] == {"state": "leased", "attempts": 2}
    request(client, f"{MSG}ACK.{mail_id}", ack | {"group_name": "b"})
    assert status(client, mail_id, 1)["groups"]["b"] == {"state": "done", "attempts": 2}
    request(client, f"$mq9.AI.MAILBOX.DELETE.{mail_id}.1")
    gone = status(client, mail_id, 1)
    assert (gone["state"], gone["offered"], set(gone["groups"]) - {"c"}) == ("gone", False, set())


def ask_groups(client: RawClient, mail_id: str, **asked: object) -> Any:
    return request(client, f"{MSG}STATUS.{mail_id}.1", asked)


def test_one_group_may_be_asked_for(client: RawClient) -> None:
    mail_id = create(client)
    request(client, MESSAGES + mail_id, b"task")
    for name in ("a", "b"):
        fetch(client, mail_id, name)
    leased = {"state": "leased", "attempts": 1}
    assert ask_groups(client, mail_id, group="b")["groups"] == {"b": leased}
    assert ask_groups(client, mail_id, group="c")["groups"] == {}
    assert ask_groups(client, mail_id, after="a")["groups"] == {"b": leased}
    assert ask_groups(client, mail_id, after="b", group="a")["groups"] == {"a": leased}
    assert "next" not in ask_groups(client, mail_id)
    assert ask_groups(client, mail_id, group=7) == {"error": "group must be a string", "code": 400}
    assert ask_groups(client, mail_id, after="a b")["code"] == 400


def all_groups(client: RawClient, mail_id: str, payload_max: int = 1 << 20) -> tuple[list[str], list[int]]:
    """The groups of all pages in their order, and how many each page has."""
    names: list[str] = []
    pages: list[int] = []
    reply = ask_groups(client, mail_id)
    while True:
        assert len(dump(reply)) <= payload_max
        names += reply["groups"]
        pages.append(len(reply["groups"]))
        if "next" not in reply:
            return names, pages
        assert reply["next"] == names[-1]
        reply = ask_groups(client, mail_id, after=reply["next"])


@pytest.mark.parametrize(("count", "pages"), [(1_000, [1_000]), (1_001, [1_000, 1])])
def test_more_groups_than_a_reply_may_have_come_page_by_page(client: RawClient, count: int, pages: list[int]) -> None:
    mail_id = create(client)
    request(client, MESSAGES + mail_id, b"task")
    expected = [f"group{number:04}" for number in range(count)]
    for name in reversed(expected):
        fetch(client, mail_id, name)
    assert all_groups(client, mail_id) == (expected, pages)


def test_a_receipt_is_not_above_max_payload() -> None:
    with ThreadedServer(max_payload=4_096) as server, server.client() as client:
        mail_id = create(client)
        request(client, MESSAGES + mail_id, b"task")
        # Of the longest names there are, and such as JSON writes in more characters than they have.
        expected = sorted(f"{number:03}{letter * 125}" for number in range(40) for letter in "a\u00e9"[number % 2])
        expected = [name[: 64 if number % 2 else 128] for number, name in enumerate(expected)]
        for name in expected:
            assert fetch(client, mail_id, name)["error"] == ""
        names, pages = all_groups(client, mail_id, 4_096)
        assert names == expected
        assert len(pages) > 1


def test_a_message_is_offered_when_a_receiver_was_written_it(server: ThreadedServer, client: RawClient) -> None:
    mail_id = create(client)
    request(client, MESSAGES + mail_id, b"x")
    assert status(client, mail_id, 1)["offered"] is False
    with server.client() as listener:
        listener.send(f"SUB {MESSAGES}{mail_id} 1\r\n".encode())
        assert body_of(listener.frame() or b"") == b"x"
    assert status(client, mail_id, 1)["offered"] is True


def test_a_receipt_that_cannot_be(client: RawClient) -> None:
    mail_id, other = create(client), create(client)
    request(client, MESSAGES + other, b"x")
    assert status(client, mail_id, 1)["state"] == "gone"
    assert status(client, mail_id, 2) == NO_MESSAGE
    assert status(client, mail_id, 0) == NO_MESSAGE
    bad = {"error": "the last token must be the msg_id of a message", "code": 400}
    for token in ("x", "-1", "1e3", str(2**64), "9" * 400, "\u0663"):
        assert status(client, mail_id, token) == bad, token
    assert status(client, "nobody", 1) == NO_MAILBOX


def test_published_clients_find_the_operations_under_the_names_that_they_know(client: RawClient) -> None:
    mail_id = create(client)
    headers = {"mq9-tags": "red,new", "x": "y"}
    assert request(client, f"{MSG}SEND.{mail_id}", b"\xff", headers) == {
        "error": "",
        "msg_id": 1,
        "pending": 1,
        "receivers": 0,
    }
    request(client, MESSAGES + mail_id, b"plain")
    found = request(client, f"{MSG}QUERY.{mail_id}", {"tags": ["red"], "limit": 5, "since": None})
    (item,) = found.pop("messages")
    assert found == {"error": ""}
    assert bytes(item.pop("header")) == b"NATS/1.0\r\nmq9-tags: red,new\r\nx: y\r\n\r\n"
    assert item.pop("create_time") == 1_800_000_000
    assert item == {
        "msg_id": 1,
        "priority": "normal",
        "payload": "/w==",
        "headers": {"mq9-tags": ["red,new"], "x": ["y"]},
        "attempt": 0,
    }
    assert [item["header"] for item in request(client, f"{MSG}QUERY.{mail_id}")["messages"]][1:] == [None]
    assert request(client, f"{MSG}DELETE.{mail_id}.1") == {"error": "", "deleted": True}
    assert request(client, f"{MSG}DELETE.{mail_id}.1") == {"error": "", "deleted": False}
    assert request(client, f"{MSG}DELETE.nobody.1") == NO_MAILBOX
    assert request(client, f"{MSG}QUERY.{mail_id}", {"limit": "many"})["code"] == 400
