"""Mailboxes that only their owner may read: what others are told, by every way there is, and that it outlives a restart."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from mq9.mailboxes.drops import drop_id_of
from mq9.server.config import Config
from mq9.server.embedded import Broker
from mq9.server.userconfig import PermissionsConfig, UserConfig
from tests.server.support import body_of, create, publish, request
from tests.support.rawclient import RawClient
from tests.support.secrets import password

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

USERS = (
    UserConfig("anna", password="anna"),
    UserConfig("ben", password="ben"),
    UserConfig("reader", password="reader", permissions=PermissionsConfig(mailboxes=("receive", "delete"))),
)
MAILBOX = "$mq9.AI.MAILBOX"
MSG = "$mq9.AI.MSG"
NOT_OWNER = {"error": "the mailbox is another user's", "code": 403}
NO_MAILBOX = {"error": "no such mailbox", "code": 404}
# Whatever an owner keeps to itself, as a request.
OWNERS_ALONE = [
    (f"{MAILBOX}.LIST.{{}}", {}),
    (f"{MAILBOX}.LIST.{{}}", {"dead": "group"}),
    (f"{MAILBOX}.DELETE.{{}}.1", None),
    (f"{MAILBOX}.REMOVE.{{}}", None),
    (f"{MSG}.FETCH.{{}}", {"group_name": "g"}),
    (f"{MSG}.FETCH.{{}}", {"config": {"max_wait_ms": 0}}),
    (f"{MSG}.ACK.{{}}", {"group_name": "g", "msg_id": 1}),
    (f"{MSG}.QUERY.{{}}", {}),
    (f"{MSG}.DELETE.{{}}.1", None),
]


@contextmanager
def broker_of(data_dir: Path | None = None, **config: Any) -> Iterator[int]:
    """The port of a broker with the users above."""
    with Broker(data_dir, config=Config(users=USERS, **config)) as broker:
        yield int(broker.url.rpartition(":")[2])


def client(port: int, user: str) -> RawClient:
    return RawClient(port).connect(**password(user))


@pytest.mark.parametrize("name", ["diary", None])
def test_the_owner_alone_reads_and_everybody_sends(tmp_path: Path, name: str | None) -> None:
    with broker_of(tmp_path) as port, client(port, "anna") as anna, client(port, "ben") as ben:
        answer = request(anna, f"{MAILBOX}.CREATE", {"name": name, "owner_only": True, "ttl": 0})
        assert answer["owner_only"] is True
        box, drop_id = answer["mail_id"], answer["drop_id"]
        first = request(ben, f"{MAILBOX}.MSG.{box}", b"from ben")
        assert "msg_id" in request(ben, f"{MAILBOX}.MSG.{drop_id}.high", b"by the drop_id")
        assert "msg_id" in request(ben, f"{MSG}.SEND.{box}", b"by the other name")
        assert request(ben, f"{MSG}.STATUS.{box}.{first['msg_id']}")["state"] == "stored"
        for subject, body in OWNERS_ALONE:
            assert request(ben, subject.format(box), body) == NOT_OWNER, subject
    # After a restart the same, over another connection of the owner's.
    with broker_of(tmp_path) as port, client(port, "anna") as anna, client(port, "ben") as ben:
        for subject, body in OWNERS_ALONE:
            assert request(ben, subject.format(box), body) == NOT_OWNER, subject
        assert len(request(anna, f"{MAILBOX}.LIST.{box}")["messages"]) == 3
        leased = request(anna, f"{MSG}.FETCH.{box}", {"group_name": "g"})
        assert len(leased["messages"]) == 3
        assert request(anna, f"{MSG}.ACK.{box}", {"group_name": "g", "msg_id": first["msg_id"]}) == {"error": ""}
        assert request(anna, f"{MAILBOX}.DELETE.{box}.{first['msg_id']}") == {"deleted": True}
        anna.send(f"SUB {MAILBOX}.MSG.{box}.* 1\r\n".encode())
        assert sorted(body_of(anna.frame() or b"") for _ in range(2)) == [b"by the drop_id", b"by the other name"]
        assert request(anna, f"{MAILBOX}.REMOVE.{box}") == {"deleted": True}


@pytest.mark.parametrize(
    "subject", ["MSG.diary", "MSG.diary.*", "MSG.diary.high", "MSG.diary.* workers", "EVENTS.diary"]
)
def test_nobody_else_subscribes(subject: str) -> None:
    with broker_of() as port, client(port, "anna") as anna, client(port, "ben") as ben:
        create(anna, name="diary", owner_only=True)
        name, _, queue = subject.partition(" ")
        ben.send(f"SUB {MAILBOX}.{subject} 1\r\n".encode())
        using = f' using queue "{queue}"' if queue else ""
        refusal = f"-ERR 'Permissions Violation for Subscription to \"{MAILBOX}.{name}\"{using}'".encode()
        assert ben.fence() == [refusal]
        request(anna, f"{MAILBOX}.MSG.diary", b"x")
        assert ben.fence() == []
        anna.send(f"SUB {MAILBOX}.{subject} 1\r\n".encode())
        assert b"-ERR" not in b"".join(anna.fence())


def test_a_group_of_the_owners_is_not_somebody_elses() -> None:
    with broker_of() as port, client(port, "anna") as anna, client(port, "ben") as ben:
        create(anna, name="diary", owner_only=True)
        anna.send(f"SUB {MAILBOX}.MSG.diary.* workers 1\r\n".encode())
        anna.fence()
        ben.send(f"SUB {MAILBOX}.MSG.diary.* workers 1\r\n".encode())
        assert len(ben.fence()) == 1
        for number in range(4):
            request(ben, f"{MAILBOX}.MSG.diary", b"%d" % number)
        assert [body_of(anna.frame() or b"") for _ in range(4)] == [b"0", b"1", b"2", b"3"]
        assert ben.fence() == []


def test_the_name_is_taken() -> None:
    with broker_of() as port, client(port, "anna") as anna, client(port, "ben") as ben:
        box = create(anna, name="diary", owner_only=True, ttl=100)
        for body in ({}, {"owner_only": True}, {"renew": True, "ttl": 1}, {"public": True}):
            assert request(ben, f"{MAILBOX}.CREATE", {"name": box} | body) == NOT_OWNER
        again = request(anna, f"{MAILBOX}.CREATE", {"name": box, "owner_only": True})
        assert (again["is_new"], again["owner_only"], again["ttl"]) == (False, True, 100)
        assert request(anna, f"{MAILBOX}.CREATE", {"name": box, "renew": True, "ttl": 50})["ttl"] == 50
        private = create(anna, owner_only=True)
        assert request(ben, f"{MAILBOX}.CREATE", {"name": private, "renew": True}) == NOT_OWNER
        assert request(anna, f"{MAILBOX}.CREATE", {"name": private, "renew": True})["owner_only"] is True


def test_two_who_create_it_at_once() -> None:
    with broker_of() as port, client(port, "anna") as anna, client(port, "ben") as ben:
        for number in range(20):
            body = b'{"name": "race.%d", "owner_only": true}' % number
            for one in (anna, ben):
                one.send(b"SUB in 1\r\nUNSUB 1 1\r\n" + publish(f"{MAILBOX}.CREATE", body, "in"))
            answers = [body_of(one.frame() or b"") for one in (anna, ben)]
            assert sorted(b'"is_new": true' in answer for answer in answers) == [False, True]
            assert sum(b'"code": 403' in answer for answer in answers) == 1


def test_what_is_open_is_not_taken_for_the_owners_alone() -> None:
    with broker_of() as port, client(port, "anna") as anna, client(port, "ben") as ben:
        create(ben, name="open")
        conflict = {"error": "the mailbox is there already, and not owner_only", "code": 409}
        assert request(anna, f"{MAILBOX}.CREATE", {"name": "open", "owner_only": True}) == conflict
        assert request(ben, f"{MAILBOX}.CREATE", {"name": "open", "owner_only": True}) == conflict
        assert request(anna, f"{MAILBOX}.CREATE", {"name": "open"})["is_new"] is False


def test_it_needs_a_user() -> None:
    needs = {"error": "owner_only needs a client that is known as a user", "code": 403}
    with Broker() as broker, RawClient(int(broker.url.rpartition(":")[2])).connect() as anybody:
        assert request(anybody, f"{MAILBOX}.CREATE", {"owner_only": True}) == needs
        wrong = {"error": "owner_only must be true or false", "code": 400}
        assert request(anybody, f"{MAILBOX}.CREATE", {"owner_only": 1}) == wrong


def test_without_users_nobody_is_the_owner(tmp_path: Path) -> None:
    with broker_of(tmp_path) as port, client(port, "anna") as anna:
        create(anna, name="diary", owner_only=True, ttl=0)
        request(anna, f"{MAILBOX}.MSG.diary", b"dear diary")
    with Broker(tmp_path) as broker, RawClient(int(broker.url.rpartition(":")[2])).connect() as anybody:
        for subject, body in OWNERS_ALONE:
            assert request(anybody, subject.format("diary"), body) == NOT_OWNER
        assert request(anybody, f"{MAILBOX}.CREATE", {"name": "diary"}) == NOT_OWNER
    with broker_of(tmp_path) as port, client(port, "anna") as anna:
        assert len(request(anna, f"{MAILBOX}.LIST.diary")["messages"]) == 1


def test_who_could_not_find_out_is_not_told_that_it_is_there() -> None:
    with broker_of() as port, client(port, "anna") as anna, client(port, "reader") as reader:
        create(anna, name="diary", owner_only=True)
        for subject, body in OWNERS_ALONE:
            there = request(reader, subject.format("diary"), body)
            absent = request(reader, subject.format("nothing"), body)
            assert there == absent == NO_MAILBOX, subject
        for name in ("diary", "nothing"):
            reader.send(f"SUB {MAILBOX}.MSG.{name} 1\r\nSUB {MAILBOX}.EVENTS.{name} 2\r\n".encode())
            assert reader.fence() == [
                f"-ERR 'Permissions Violation for Subscription to \"{MAILBOX}.{kind}.{name}\"'".encode()
                for kind in ("MSG", "EVENTS")
            ]
            # To send and to create is not this user's at all, and said of every name.
            forbidden = {"error": "this user may not do that", "code": 403}
            assert request(reader, f"{MAILBOX}.MSG.{name}", b"x") == forbidden
            assert request(reader, f"{MAILBOX}.MSG.{drop_id_of(name.encode()).decode()}", b"x") == forbidden
            assert request(reader, f"{MAILBOX}.CREATE", {"name": name}) == forbidden


def test_a_mailbox_of_the_same_name_is_another_mailbox(tmp_path: Path) -> None:
    with broker_of(tmp_path) as port, client(port, "anna") as anna, client(port, "ben") as ben:
        create(anna, name="diary", owner_only=True)
        request(anna, f"{MAILBOX}.MSG.diary", b"anna's")
        request(anna, f"{MAILBOX}.REMOVE.diary")
        create(ben, name="diary", owner_only=True, ttl=0)
        assert request(anna, f"{MAILBOX}.LIST.diary") == NOT_OWNER
        assert request(ben, f"{MAILBOX}.LIST.diary")["messages"] == []
    with broker_of(tmp_path) as port, client(port, "anna") as anna, client(port, "ben") as ben:
        assert request(anna, f"{MAILBOX}.LIST.diary") == NOT_OWNER
        assert request(ben, f"{MAILBOX}.LIST.diary")["messages"] == []
