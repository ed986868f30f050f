"""What a user may have: at the limit, above it, together over all connections of the user, and after a restart."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from mq9.mailboxes.owner import Owner
from mq9.server.config import Config
from mq9.server.embedded import Broker
from mq9.server.user import User
from mq9.server.userconfig import UserConfig
from mq9.store.contract import StoreError, StoreFailedError, StoreFullError
from tests.server.support import ThreadedServer, create, publish, request
from tests.store.post import Post, until
from tests.store.serving import FragileStore
from tests.support.rawclient import RawClient
from tests.support.secrets import password

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# What a record has besides the payload (mailboxes/format.pxd).
RECORD_HEAD = 32
OTHER = UserConfig("other", password="other")


@contextmanager
def broker_of(data_dir: Path | None = None, **limits: Any) -> Iterator[int]:
    """The port of a broker with a user `anna`, who is limited, and one who is not."""
    with Broker(data_dir, config=Config(users=(UserConfig("anna", password="anna", **limits), OTHER))) as broker:
        yield int(broker.url.rpartition(":")[2])


def anna(port: int) -> RawClient:
    return RawClient(port).connect(**password("anna"))


def other(port: int) -> RawClient:
    return RawClient(port).connect(**password("other"))


def refusal(client: RawClient, subject: str, body: object = None, headers: dict[str, str] | None = None) -> Any:
    """The code and sentence with which a request is refused."""
    answer = request(client, subject, body, headers)
    return answer.get("code"), answer.get("error")


TOO_MANY_MAILBOXES = (429, "this user may have at most 2 mailboxes")
NO_ROOM = (429, "the user who owns the mailbox may not store more")


def test_mailboxes_of_a_user_are_counted_over_connections_and_restarts(tmp_path: Path) -> None:
    with broker_of(tmp_path, max_mailboxes=2) as port, anna(port) as one, anna(port) as two, other(port) as third:
        first = create(one, ttl=0)
        create(two, name="second", ttl=0)
        assert refusal(one, "$mq9.AI.MAILBOX.CREATE") == TOO_MANY_MAILBOXES
        assert request(two, "$mq9.AI.MAILBOX.CREATE", {"name": "second"})["is_new"] is False
        for _ in range(3):
            create(third)
        assert request(one, f"$mq9.AI.MAILBOX.REMOVE.{first}") == {"deleted": True}
        create(one, ttl=0)
        assert refusal(two, "$mq9.AI.MAILBOX.CREATE") == TOO_MANY_MAILBOXES
    with broker_of(tmp_path, max_mailboxes=2) as port, anna(port) as one:
        assert refusal(one, "$mq9.AI.MAILBOX.CREATE") == TOO_MANY_MAILBOXES
        request(one, "$mq9.AI.MAILBOX.REMOVE.second")
        create(one)


def test_mailboxes_that_are_asked_for_at_once_are_counted_too() -> None:
    with broker_of(max_mailboxes=2) as port, anna(port) as client:
        client.send(b"SUB in.* 1\r\n" + publish("$mq9.AI.MAILBOX.CREATE", b"{}", "in.1") * 5)
        answers = [json.loads(client.frame().rpartition(b"\r\n")[2]) for _ in range(5)]  # type: ignore[union-attr]
        assert sorted(answer.get("code", 0) for answer in answers) == [0, 0, 429, 429, 429]


def test_bytes_are_counted_in_the_mailboxes_of_a_user_whoever_sends(tmp_path: Path) -> None:
    record = RECORD_HEAD + 68
    with broker_of(tmp_path, max_stored=3 * record) as port, anna(port) as owner, other(port) as sender:
        box, second = create(owner, ttl=0), create(owner, ttl=0)
        msg_id = request(owner, f"$mq9.AI.MAILBOX.MSG.{box}", b"x" * 68)["msg_id"]
        request(sender, f"$mq9.AI.MAILBOX.MSG.{second}.high", b"y" * 68)
        assert refusal(sender, f"$mq9.AI.MAILBOX.MSG.{second}", b"z" * 69) == NO_ROOM
        assert "msg_id" in request(sender, f"$mq9.AI.MAILBOX.MSG.{second}", b"z" * 68)
        assert refusal(owner, f"$mq9.AI.MAILBOX.MSG.{box}", b"") == NO_ROOM
        sender.send(publish(f"$mq9.AI.MAILBOX.MSG.{box}", b""))
        assert sender.fence() == [f"-ERR 'Permissions Violation for Publish to \"$mq9.AI.MAILBOX.MSG.{box}\"'".encode()]
        # What goes makes room.
        request(owner, f"$mq9.AI.MAILBOX.DELETE.{box}.{msg_id}")
        assert "msg_id" in request(sender, f"$mq9.AI.MAILBOX.MSG.{box}", b"x" * 68)
        theirs = create(sender)
        assert "msg_id" in request(owner, f"$mq9.AI.MAILBOX.MSG.{theirs}", b"x" * 1000), (
            "anna sends, and stores nothing"
        )
    with broker_of(tmp_path, max_stored=3 * record) as port, anna(port) as owner:
        assert refusal(owner, f"$mq9.AI.MAILBOX.MSG.{box}", b"") == NO_ROOM
        request(owner, f"$mq9.AI.MAILBOX.REMOVE.{second}")
        assert "msg_id" in request(owner, f"$mq9.AI.MAILBOX.MSG.{box}", b"x" * (2 * 68))
        assert refusal(owner, f"$mq9.AI.MAILBOX.MSG.{box}", b"x" * 68) == NO_ROOM


def test_bytes_on_their_way_are_counted_too() -> None:
    record = RECORD_HEAD + 10
    with broker_of(max_stored=4 * record) as port, anna(port) as client:
        box = create(client)
        frame = publish(f"$mq9.AI.MAILBOX.MSG.{box}", b"0123456789", "in.1")
        client.send(b"SUB in.* 1\r\n" + frame * 10)
        answers = [json.loads(client.frame().rpartition(b"\r\n")[2]) for _ in range(10)]  # type: ignore[union-attr]
        assert sorted(answer.get("code", 0) for answer in answers) == [0] * 4 + [429] * 6


def test_a_repeat_needs_no_room() -> None:
    with broker_of(max_stored=200) as port, anna(port) as client:
        box = create(client)
        once = {"Nats-Msg-Id": "once"}
        first = request(client, f"$mq9.AI.MAILBOX.MSG.{box}", b"x" * 60, once)
        assert refusal(client, f"$mq9.AI.MAILBOX.MSG.{box}", b"x" * 100, {"Nats-Msg-Id": "twice"}) == NO_ROOM
        again = request(client, f"$mq9.AI.MAILBOX.MSG.{box}", b"x" * 60, once)
        assert (again["msg_id"], again["duplicate"]) == (first["msg_id"], True)
        request(client, f"$mq9.AI.MAILBOX.DELETE.{box}.{first['msg_id']}")
        fresh = request(client, f"$mq9.AI.MAILBOX.MSG.{box}", b"x" * 60, {"Nats-Msg-Id": "twice"})
        assert "duplicate" not in fresh, "what was refused has left nothing behind"


def test_what_expires_makes_room() -> None:
    users = (UserConfig("anna", password="anna", max_stored=250, max_mailboxes=2),)
    with ThreadedServer(users=users) as broker, anna(broker.server.port) as client:
        box = create(client, ttl=100)
        request(client, f"$mq9.AI.MAILBOX.MSG.{box}", b"x" * 100, {"mq9-ttl": "1"})
        create(client, ttl=1)
        assert refusal(client, f"$mq9.AI.MAILBOX.MSG.{box}", b"x" * 100) == NO_ROOM
        assert refusal(client, "$mq9.AI.MAILBOX.CREATE") == TOO_MANY_MAILBOXES
        broker.pass_time(2_000)
        assert "msg_id" in request(client, f"$mq9.AI.MAILBOX.MSG.{box}", b"x" * 100)
        create(client, ttl=1)
        broker.pass_time(200_000)
        broker.call(lambda: None)
        owner = broker.server.office.owner_of(b"anna")
        assert (owner.mailboxes, owner.stored, owner.arriving, owner.creating) == (0, 0, 0, 0)


@pytest.mark.parametrize("error", [StoreFailedError("it fails"), StoreFullError("it is full")], ids=["failed", "full"])
def test_a_commit_that_fails_takes_no_room(tmp_path: Path, error: StoreError) -> None:
    store = FragileStore(tmp_path)
    users = (UserConfig("anna", password="anna", max_stored=100, max_mailboxes=2),)
    with ThreadedServer(store, users=users) as broker, anna(broker.server.port) as client:
        box = create(client)
        store.failing = error
        assert refusal(client, f"$mq9.AI.MAILBOX.MSG.{box}", b"x" * 60)[0] in {503, 507}
        assert refusal(client, "$mq9.AI.MAILBOX.CREATE")[0] in {503, 507}
        owner = broker.server.office.owner_of(b"anna")
        assert (owner.mailboxes, owner.stored, owner.arriving, owner.creating) == (1, 0, 0, 0)
        store.failing = None
        client_again = Post(broker.server.url, **password("anna"))
        until(lambda: client_again.ask(f"$mq9.AI.MAILBOX.MSG.{box}", b"x" * 60))
        assert refusal(client, f"$mq9.AI.MAILBOX.MSG.{box}", b"x" * 60) == NO_ROOM
        client_again.client.hang_up()


def test_connections_of_a_user() -> None:
    with broker_of(max_connections=2) as port, anna(port), other(port):
        with anna(port):
            with RawClient(port) as third:
                third.opened()
                third.send(b"CONNECT " + json.dumps(password("anna")).encode() + b"\r\n")
                assert third.rest() == [b"-ERR 'maximum account active connections exceeded'"]
            with other(port):
                pass
        with RawClient(port).connect(**password("other")) as waiting:
            # The one that has left is noticed at the latest when the broker answers somebody who came later.
            waiting.fence()
        with anna(port) as again:
            again.send(b"CONNECT " + json.dumps(password("anna") | {"verbose": False}).encode() + b"\r\n")
            assert again.fence() == [], "a second CONNECT is no second connection"


def test_subscriptions_of_a_user_over_its_connections() -> None:
    with broker_of(max_subscriptions=3) as port, anna(port) as one, anna(port) as two, other(port) as third:
        box = create(third)
        one.send(f"SUB a 1\r\nSUB $mq9.AI.MAILBOX.MSG.{box} 2\r\n".encode())
        one.fence()
        two.send(b"SUB $mq9.AI.PUBLIC.LIST 1\r\nSUB b 2\r\n")
        assert two.fence() == [b"-ERR 'maximum subscriptions exceeded'"]
        third.send(b"SUB a 1\r\nSUB b 2\r\nSUB c 3\r\nSUB d 4\r\n")
        assert third.fence() == []
        one.send(b"UNSUB 2\r\n")
        one.fence()
        two.send(b"SUB b 2\r\n")
        assert two.fence() == []
        request(third, f"$mq9.AI.MAILBOX.REMOVE.{box}")
        one.send(b"SUB c 3\r\n")
        assert one.fence() == [b"-ERR 'maximum subscriptions exceeded'"]


@pytest.mark.parametrize("connections", [1, 3])
def test_a_user_who_publishes_too_fast_is_slowed_down_and_loses_nothing(connections: int) -> None:
    with broker_of(max_rate=100) as port, other(port) as receiver:
        receiver.send(b"SUB fast.* 1\r\n")
        receiver.fence()
        clients = [anna(port) for _ in range(connections)]
        for number, client in enumerate(clients):
            client.send(b"".join(publish(f"fast.{number}", b"%d" % count) for count in range(120)) + b"PING\r\n")
        seen: dict[bytes, list[int]] = {}
        for _ in range(120 * connections):
            frame = receiver.frame()
            assert frame is not None
            head, _, body = frame.partition(b"\r\n")
            seen.setdefault(head.split()[1], []).append(int(body))
        assert len(seen) == connections
        assert all(counts == list(range(120)) for counts in seen.values())
        for client in clients:
            assert client.frame() == b"PONG"
            client.hang_up()


def test_how_fast_a_user_may_publish() -> None:
    user = User("anna", None, None, Owner(b"anna"), rate=8)
    assert [user.published(100.0) for _ in range(8)] == [0.0] * 8, "a second's worth at once"
    assert user.published(100.0) == 0.125
    assert user.published(100.25) == 0.0
    assert user.published(100.25) == 0.125
    assert [user.published(200.0) for _ in range(8)] == [0.0] * 8, "what was not used is kept for a second, not longer"
    assert user.published(200.0) == 0.125
    slow = User("ben", None, None, Owner(b"ben"), rate=0.5)
    assert slow.published(0.0) == 0.0
    assert slow.published(0.0) == 2.0


def test_others_are_not_slowed_down() -> None:
    with broker_of(max_rate=1) as port, anna(port) as slow, other(port) as quick:
        slow.send(publish("a", b"") * 100)
        for _ in range(20):
            quick.send(publish("a", b"") * 1000)
            assert quick.fence() == []
