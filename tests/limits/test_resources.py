"""What clients can use up of a broker, at each limit and above it: the exact refusal, the metric, and a bystander who is not hurt."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from mq9.server.addresses import Addresses
from mq9.server.userconfig import PermissionsConfig, SubjectLists, UserConfig
from tests.server.support import ThreadedServer, body_of, create, publish, request, until
from tests.support.certificates import Certificates
from tests.support.rawclient import RawClient
from tests.support.secrets import password

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# What a record has besides the payload (mailboxes/format.pxd).
RECORD_HEAD = 32
CREATE = "$mq9.AI.MAILBOX.CREATE"
MESSAGES = "$mq9.AI.MAILBOX.MSG."
FETCH = "$mq9.AI.MSG.FETCH."


class Limited(ThreadedServer):
    """A broker with limits and a monitoring port, whose clock the test sets."""

    def __init__(self, **config: Any) -> None:
        super().__init__(http_port=0, **config)

    def metric(self, line: str) -> float:
        """The value of a line of /metrics."""
        assert self.server.http is not None
        said = urllib.request.urlopen(f"http://127.0.0.1:{self.server.http.port}/metrics").read().decode()
        found = [each.rpartition(" ")[2] for each in said.splitlines() if each.rpartition(" ")[0] == line]
        assert len(found) == 1, f"{line} is {len(found)} times in\n{said}"
        return float(found[0])

    def reached(self, limit: str) -> float:
        """How often a limit was reached."""
        return self.metric(f'mq9_limit_reached_total{{limit="{limit}"}}')


@contextmanager
def limited(**config: Any) -> Iterator[tuple[Limited, RawClient, RawClient]]:
    """A broker with limits, a client that will reach one, and a bystander."""
    with Limited(**config) as broker, broker.client() as client, broker.client() as bystander:
        yield broker, client, bystander


def refusal(client: RawClient, subject: str, body: object = None, headers: dict[str, str] | None = None) -> Any:
    """The code and sentence with which a request is refused; (None, "") or (None, None) for one that is not."""
    answer = request(client, subject, body, headers)
    return answer.get("code"), answer.get("error")


def answers(client: RawClient, frames: list[bytes]) -> list[dict[str, Any]]:
    """The answers to requests that are sent at once, each with the reply subject in.1."""
    client.send(b"SUB in.1 77\r\n" + b"".join(frames))
    got = []
    for _ in frames:
        frame = client.frame()
        assert frame is not None
        got.append(json.loads(body_of(frame)))
    client.send(b"UNSUB 77\r\n")
    return got


def unharmed(bystander: RawClient) -> None:
    """Somebody else does what people do."""
    box = create(bystander)
    assert "msg_id" in request(bystander, MESSAGES + box, b"still served")
    assert len(request(bystander, FETCH + box, {"group_name": "others"})["messages"]) == 1


def denied(subject: str) -> bytes:
    """How a publish that has no reply subject is refused."""
    return f"-ERR 'Permissions Violation for Publish to \"{subject}\"'".encode()


# connections


def test_connections_of_one_address() -> None:
    with Limited(max_address_connections=3) as broker, ExitStack() as stack:
        port = broker.server.port
        clients = [stack.enter_context(RawClient(port).connect()) for _ in range(3)]
        with RawClient(port) as one_more:
            one_more.opened()
            assert one_more.rest() == [b"-ERR 'maximum connections exceeded'"]
        for client in clients:
            unharmed(client)
        assert broker.reached("max_address_connections") == 1
        assert broker.reached("max_connections") == 0
        clients[0].finish()
        clients[0].rest()
        stack.enter_context(RawClient(port).connect())


def test_addresses_that_count_as_one() -> None:
    """Of IPv6 a subscriber has a whole network, in which there are more addresses than anybody can count."""
    addresses = Addresses()
    assert addresses.enter("2001:db8:1:2::1", 2)
    assert addresses.enter("2001:db8:1:2:ffff::9", 2)
    assert not addresses.enter("2001:db8:1:2::3", 2)
    assert addresses.enter("2001:db8:1:3::1", 2)
    assert addresses.enter("192.0.2.1", 1)
    assert not addresses.enter("::ffff:192.0.2.1", 1)
    addresses.leave("2001:db8:1:2::1")
    assert addresses.enter("2001:db8:1:2::3", 2)
    assert addresses.enter("192.0.2.1", 0), "0 is no limit"


def test_connections_of_one_address_over_tls(tmp_path: Path) -> None:
    """They are counted from before the handshake, which is work."""
    certificates = Certificates.make(tmp_path)
    with Limited(max_address_connections=1, **certificates.configuration()) as broker:
        with RawClient(broker.server.port) as client:
            client.opened()
            with RawClient(broker.server.port) as one_more:
                one_more.opened()
                assert one_more.rest() == [b"-ERR 'maximum connections exceeded'"]
            client.secure(certificates.context()).connect()
            with RawClient(broker.server.port) as one_more:
                one_more.opened()
                assert one_more.rest() == [b"-ERR 'maximum connections exceeded'"]
            assert client.fence() == []
        assert broker.reached("max_address_connections") == 2
        until(lambda: not broker.server.hub.sessions, "it has left")
        with RawClient(broker.server.port) as no_tls:
            no_tls.opened()
            no_tls.send(b"this is no handshake\r\n")
            no_tls.bytes_until_hung_up()
        with RawClient(broker.server.port) as client:
            client.opened()
            client.secure(certificates.context()).connect()


def test_connections_in_all() -> None:
    with Limited(max_connections=2) as broker, broker.client() as client, broker.client():
        with RawClient(broker.server.port) as one_more:
            one_more.opened()
            assert one_more.rest() == [b"-ERR 'maximum connections exceeded'"]
        unharmed(client)
        assert broker.reached("max_connections") == 1


def test_a_client_that_does_not_say_who_it_is() -> None:
    with Limited(users=(UserConfig("anna", password="anna"),)) as broker:
        port = broker.server.port
        with RawClient(port).connect(**password("anna")) as client:
            broker.call(lambda: setattr(broker.server.access, "patience_s", 0.05))
            with RawClient(port) as silent:
                silent.opened()
                assert silent.rest() == [b"-ERR 'Authentication Timeout'"]
            unharmed(client)
        assert broker.reached("auth_timeout") == 1


def test_subscriptions() -> None:
    with limited(max_subscriptions=2) as (broker, client, bystander):
        client.send(b"SUB a 1\r\nSUB b 2\r\nSUB c 3\r\n")
        assert client.fence() == [b"-ERR 'maximum subscriptions exceeded'"]
        unharmed(bystander)
        assert broker.reached("max_subscriptions") == 1
        assert broker.reached("users.max_subscriptions") == 0


# the size of what is said


@pytest.mark.parametrize(
    ("limit", "config", "said", "heard"),
    [
        ("max_payload", {"max_payload": 100}, b"PUB a 101\r\n", b"-ERR 'Maximum Payload Violation'"),
        (
            "max_control_line",
            {"max_control_line": 600},
            b"SUB %b 1\r\n" % (b"s" * 700),
            b"-ERR 'maximum control line exceeded'",
        ),
    ],
)
def test_what_is_too_large_ends_the_connection(limit: str, config: dict[str, int], said: bytes, heard: bytes) -> None:
    with limited(**config) as (broker, client, bystander):
        client.send(said)
        assert client.rest() == [heard]
        assert bystander.fence() == []
        assert broker.reached(limit) == 1


def test_subjects() -> None:
    with limited(max_subject=100) as (broker, client, bystander):
        client.send(b"SUB %b 1\r\nPUB %b 0\r\n\r\n" % (b"s" * 101, b"s" * 101))
        assert client.fence() == [b"-ERR 'Invalid Subject'", denied("s" * 101)]
        unharmed(bystander)
        assert broker.reached("max_subject") == 2


def headers_of_size(size: int) -> dict[str, str]:
    """Headers whose block has so many bytes."""
    return {"x": "y" * (size - len(b"NATS/1.0\r\nx: \r\n\r\n"))}


def test_header_bytes() -> None:
    with limited(max_header_size=1000) as (broker, client, bystander):
        box = create(client)
        assert "msg_id" in request(client, MESSAGES + box, b"at the limit", headers_of_size(1000))
        too_large = (413, "the headers of a message must have at most 1000 bytes")
        assert refusal(client, MESSAGES + box, b"above", headers_of_size(1001)) == too_large
        client.send(publish(MESSAGES + box, b"above", headers=headers_of_size(1001)))
        assert client.fence() == [denied(MESSAGES + box)]
        assert [item["payload"] for item in request(client, "$mq9.AI.MAILBOX.LIST." + box)["messages"]] == [
            "at the limit"
        ]
        # Core NATS hands headers on unread, as nats-server does: there they count as payload only.
        client.send(b"SUB core 5\r\n" + publish("core", b"", headers=headers_of_size(5000)))
        assert len(client.fence()) == 1
        unharmed(bystander)
        assert broker.reached("max_header_size") == 2


def test_header_bytes_are_refused_before_they_come() -> None:
    with limited(max_header_size=1000, max_payload=1 << 20) as (broker, client, bystander):
        box = create(client)
        client.send(b"SUB answers 1\r\n")
        frame = publish(MESSAGES + box, b"above", "answers", headers_of_size(500_000))
        line_size = frame.index(b"\n") + 1
        too_large = {"error": "the headers of a message must have at most 1000 bytes", "code": 413}
        for size in (line_size, line_size + 1, line_size + 300_000, len(frame) - 2, len(frame) - 1, len(frame)):
            client.send(frame[:size])
            if size < len(frame):
                told = client.frame()
                assert told is not None
                assert json.loads(body_of(told)) == too_large
                unharmed(bystander)
                client.send(frame[size:])
            # What comes behind it, at once or in the middle of a read, is as good as ever.
            client.send(publish(MESSAGES + box, b"%d" % size, "answers"))
            told = client.frame()
            if size == len(frame):
                assert told is not None
                assert json.loads(body_of(told)) == too_large
                told = client.frame()
            assert told is not None
            assert "msg_id" in json.loads(body_of(told))
        assert len(request(client, "$mq9.AI.MAILBOX.LIST." + box)["messages"]) == 6
        # A frame that does not end as frames do is none, whether it was wanted or not.
        client.send(frame[:-2])
        client.send(b"\rX")
        *answers, last = client.rest()
        assert [json.loads(body_of(told))["code"] for told in answers] == [413]
        assert last == b"-ERR 'Unknown Protocol Operation'"
        assert broker.reached("max_header_size") == 7


def test_what_else_is_wrong_with_a_message_comes_before_its_header_bytes() -> None:
    other = PermissionsConfig(publish=SubjectLists(deny=(MESSAGES + "forbidden",)))
    anna = UserConfig("anna", password="anna", permissions=other)
    with (
        Limited(max_header_size=1000, users=(anna,)) as broker,
        RawClient(broker.server.port).connect(**password("anna")) as client,
    ):
        client.send(b"SUB answers 1\r\n")
        for mail_id, code in (("forbidden", 403), ("nobody", 404)):
            frame = publish(MESSAGES + mail_id, b"", "answers", headers_of_size(5000))
            client.send(frame[:2000])
            told = client.frame()
            assert told is not None
            assert json.loads(body_of(told))["code"] == code
            client.send(frame[2000:])
            assert client.fence() == []


def nested(depth: int) -> bytes:
    """A request with lists that are so deep within each other and the object around them."""
    return b'{"x": ' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


@pytest.mark.parametrize(
    "body",
    [
        nested(33),
        nested(30_000),
        b"[" * 65_536,
        b'{"x":' * 10_000,
        b'{"\\"[": ' + b"[" * 32,
        b'["' + b"[" * 40 + b'"' + b"[" * 33,
    ],
    ids=["one too many", "many", "lists", "objects", "behind a quote", "behind a string"],
)
def test_requests_that_are_nested_too_deeply(body: bytes) -> None:
    with limited() as (_, client, bystander):
        assert refusal(client, CREATE, body) == (400, "a request must not be nested more than 32 deep")
        unharmed(bystander)


@pytest.mark.parametrize(
    "body",
    [
        nested(32),
        b'{"x": "' + b"[{" * 1000 + b'"}',
        b'{"x": [' + b"[]," * 1000 + b"[]]}",
        b'{"x": "\\"' + b"[" * 40 + b'"}',
    ],
    ids=["at the limit", "in a string", "beside each other", "behind an escaped quote"],
)
def test_requests_that_are_not_nested_too_deeply(body: bytes) -> None:
    with limited() as (_, client, _bystander):
        assert "mail_id" in request(client, CREATE, body)


def test_a_request_of_quotes_takes_linear_time() -> None:
    """It would take minutes if each of them were tried as the beginning of a string that ends nowhere."""
    with limited() as (_, client, bystander):
        body = b'{"' + b'\\"' * 32_000 + b"[" * 40
        assert refusal(client, CREATE, body) == (400, "the request is not valid JSON")
        unharmed(bystander)


# rates


def test_publishes_of_one_client_in_a_second() -> None:
    with limited(max_rate=50) as (broker, client, bystander):
        box = create(client)
        frames = [publish(MESSAGES + box, b"x", "in.1") for _ in range(60)]
        assert all("msg_id" in answer for answer in answers(client, frames)), "it is made to wait, and loses nothing"
        assert broker.reached("max_rate") >= 1
        assert broker.reached("users.max_rate") == 0
        unharmed(bystander)


def test_mailboxes_that_one_client_creates_in_a_second() -> None:
    with limited(max_create_rate=2) as (broker, client, bystander):
        create(client)
        create(client)
        assert refusal(client, CREATE) == (429, "one client may create at most 2 mailboxes in a second")
        unharmed(bystander)
        assert broker.reached("max_create_rate") == 1
        broker.pass_time(500)
        create(client)
        assert refusal(client, CREATE)[0] == 429


# what is kept


def test_mailboxes_in_all() -> None:
    with limited(max_mailboxes=3) as (broker, client, bystander):
        theirs = create(bystander)
        got = answers(client, [publish(CREATE, b"{}", "in.1") for _ in range(4)])
        codes = sorted(answer.get("code", 0) for answer in got)
        assert codes == [0, 0, 429, 429], "those that are not durable yet count, too"
        assert refusal(client, CREATE) == (429, "the broker may have at most 3 mailboxes")
        assert "msg_id" in request(bystander, MESSAGES + theirs, b"x")
        assert broker.reached("max_mailboxes") == 3
        assert request(bystander, "$mq9.AI.MAILBOX.REMOVE." + theirs) == {"deleted": True}
        create(bystander)


def test_messages_of_one_mailbox() -> None:
    with limited(max_mailbox_messages=3) as (broker, client, bystander):
        box = create(client)
        got = answers(client, [publish(MESSAGES + box, b"x", "in.1") for _ in range(5)])
        assert sorted(answer.get("code", 0) for answer in got) == [0, 0, 0, 429, 429]
        full = (429, "a mailbox may hold at most 3 messages")
        assert refusal(client, MESSAGES + box, b"x") == full
        client.send(publish(MESSAGES + box, b"x"))
        assert client.fence() == [denied(MESSAGES + box)]
        unharmed(bystander)
        assert broker.reached("max_mailbox_messages") == 4
        first = next(answer["msg_id"] for answer in got if "msg_id" in answer)
        assert request(client, f"$mq9.AI.MAILBOX.DELETE.{box}.{first}") == {"deleted": True}
        assert "msg_id" in request(client, MESSAGES + box, b"x")
        assert refusal(client, MESSAGES + box, b"x") == full


def test_a_message_that_replaces_another_needs_no_place() -> None:
    with limited(max_mailbox_messages=2) as (_, client, _bystander):
        box = create(client)
        for payload in (b"1", b"2", b"3"):
            assert "msg_id" in request(client, MESSAGES + box, payload, {"mq9-key": "state"})
        request(client, MESSAGES + box, b"other")
        assert "msg_id" in request(client, MESSAGES + box, b"4", {"mq9-key": "state"})
        assert refusal(client, MESSAGES + box, b"5", {"mq9-key": "new"}) == (
            429,
            "a mailbox may hold at most 2 messages",
        )
        got = [item["payload"] for item in request(client, "$mq9.AI.MAILBOX.LIST." + box)["messages"]]
        assert got == ["other", "4"]


def test_bytes_of_one_mailbox() -> None:
    with limited(max_mailbox_bytes=2 * (RECORD_HEAD + 68)) as (broker, client, bystander):
        box = create(client)
        got = answers(client, [publish(MESSAGES + box, b"x" * 68, "in.1") for _ in range(3)])
        assert sorted(answer.get("code", 0) for answer in got) == [0, 0, 429]
        assert refusal(client, MESSAGES + box, b"") == (429, "a mailbox may hold at most 200 bytes")
        unharmed(bystander)
        assert broker.reached("max_mailbox_bytes") == 2


def test_messages_in_all() -> None:
    with limited(max_messages=2) as (broker, client, bystander):
        box, theirs = create(client), create(bystander)
        got = answers(client, [publish(MESSAGES + box, b"x", "in.1") for _ in range(3)])
        assert sorted(answer.get("code", 0) for answer in got) == [0, 0, 507]
        assert refusal(client, MESSAGES + box, b"x") == (507, "the broker may hold at most 2 messages")
        assert broker.reached("max_messages") == 2
        # Reading, deleting and core NATS go on for everybody, and what is freed can be used.
        bystander.send(b"SUB a 1\r\nPUB a 0\r\n\r\n")
        assert bystander.fence() == [b"MSG a 1 0\r\n"]
        request(client, "$mq9.AI.MAILBOX.REMOVE." + box)
        broker.pass_time(10)
        assert "msg_id" in request(bystander, MESSAGES + theirs, b"x")


def test_ids_of_messages() -> None:
    with limited(max_message_ids=2) as (broker, client, bystander):
        box = create(client)
        first = request(client, MESSAGES + box, b"x", {"Nats-Msg-Id": "1"})
        request(client, MESSAGES + box, b"x", {"Nats-Msg-Id": "2"})
        third = {"Nats-Msg-Id": "3"}
        assert refusal(client, MESSAGES + box, b"x", third) == (
            429,
            "the broker remembers at most 2 values of Nats-Msg-Id",
        )
        assert request(client, MESSAGES + box, b"x", {"Nats-Msg-Id": "1"})["msg_id"] == first["msg_id"], (
            "none is forgotten"
        )
        unharmed(bystander)
        assert broker.reached("max_message_ids") == 1
        assert broker.metric("mq9_message_ids") == 2
        broker.outlast(121_000)
        assert "msg_id" in request(client, MESSAGES + box, b"x", third)


# groups


def test_groups_of_one_mailbox() -> None:
    with limited(max_groups=1) as (broker, client, bystander):
        box = create(client)
        request(client, FETCH + box, {"group_name": "one", "config": {"max_wait_ms": 0}})
        assert refusal(client, FETCH + box, {"group_name": "two"}) == (429, "a mailbox has at most 1 groups")
        unharmed(bystander)
        assert broker.reached("max_groups") == 1
        assert broker.metric("mq9_groups") == 2


def test_groups_in_all() -> None:
    with limited(max_total_groups=1) as (broker, client, bystander):
        box, theirs = create(client), create(bystander)
        request(client, FETCH + box, {"group_name": "one", "config": {"max_wait_ms": 0}})
        assert refusal(client, FETCH + box, {"group_name": "two"}) == (429, "the broker has at most 1 groups")
        client.send(f"SUB {MESSAGES}{box} one 1\r\nSUB {MESSAGES}{box} two 2\r\n".encode())
        refused = f'-ERR \'Permissions Violation for Subscription to "{MESSAGES}{box}" using queue "two"\''
        assert client.fence() == [refused.encode()]
        assert "msg_id" in request(bystander, MESSAGES + theirs, b"x")
        assert broker.reached("max_total_groups") == 2
        request(client, "$mq9.AI.MAILBOX.REMOVE." + box)
        assert broker.metric("mq9_groups") == 0
        assert len(request(bystander, FETCH + theirs, {"group_name": "one"})["messages"]) == 1


def test_unfinished_messages_of_one_group() -> None:
    with limited(max_unfinished=3) as (broker, client, bystander):
        box = create(client)
        sent = [request(client, MESSAGES + box, b"x")["msg_id"] for _ in range(5)]
        ask = {"group_name": "workers", "config": {"num_msgs": 100, "max_wait_ms": 1000}}
        got = [item["msg_id"] for item in request(client, FETCH + box, ask)["messages"]]
        assert got == sent[:3]
        full = (429, "a group may have at most 3 messages unfinished")
        assert refusal(client, FETCH + box, ask) == full
        assert broker.reached("max_unfinished") == 1
        assert broker.metric("mq9_unfinished") == 3
        unharmed(bystander)
        other = request(client, FETCH + box, ask | {"group_name": "others"})["messages"]
        assert [item["msg_id"] for item in other] == sent[:3], "another group of the mailbox has its own"
        # What was given back is given out again, full or not; new ones only when there is room.
        back = {"group_name": "workers", "msg_ids": [sent[1]], "op": "nack"}
        request(client, "$mq9.AI.MSG.ACK." + box, back)
        assert [item["msg_id"] for item in request(client, FETCH + box, ask)["messages"]] == [sent[1]]
        assert refusal(client, FETCH + box, ask) == full
        request(client, "$mq9.AI.MSG.ACK." + box, {"group_name": "workers", "msg_ids": [sent[0]], "op": "ack"})
        assert [item["msg_id"] for item in request(client, FETCH + box, ask)["messages"]] == [sent[3]]
        request(client, "$mq9.AI.MAILBOX.REMOVE." + box)
        assert broker.metric("mq9_unfinished") == 1, "the bystander's"


# requests that wait


def test_waiting_fetches_of_one_client() -> None:
    with limited(max_requests=2) as (broker, client, bystander):
        box = create(client)
        ask = json.dumps({"group_name": "workers", "config": {"max_wait_ms": 60_000}}).encode()
        client.send(b"SUB in.1 77\r\n" + publish(FETCH + box, ask, "in.1") * 2)
        assert client.fence() == []
        assert broker.metric('mq9_requests{kind="FETCH"}') == 2
        assert refusal(client, FETCH + box, ask) == (429, "at most 2 FETCHes of one client may be under way")
        assert broker.reached("max_requests") == 1
        unharmed(bystander)
        client.finish()
        until(lambda: broker.metric('mq9_requests{kind="FETCH"}') == 0, "they wait for nobody")


def test_waiting_fetches_in_all() -> None:
    with limited(max_total_requests=2) as (broker, client, bystander):
        box, theirs = create(client), create(bystander)
        ask = json.dumps({"group_name": "workers", "config": {"max_wait_ms": 60_000}}).encode()
        client.send(b"SUB in.1 77\r\n" + publish(FETCH + box, ask, "in.1") * 2)
        assert client.fence() == []
        assert refusal(client, FETCH + box, ask) == (429, "at most 2 FETCHes of all clients may be under way")
        assert broker.reached("max_total_requests") == 1
        # Somebody who has none may have one; and its message comes.
        bystander.send(b"SUB in.1 77\r\n" + publish(FETCH + theirs, ask, "in.1"))
        assert bystander.fence() == []
        assert refusal(bystander, FETCH + theirs, ask)[0] == 429
        client.send(publish(MESSAGES + theirs, b"x"))
        frame = bystander.frame()
        assert frame is not None
        assert len(json.loads(body_of(frame))["messages"]) == 1


def test_fetches_of_one_client() -> None:
    with limited(max_requests=2) as (broker, client, bystander):
        box = create(client)
        got = answers(client, [publish(f"$mq9.AI.MAILBOX.LIST.{box}", b"", "in.1") for _ in range(5)])
        refused = [answer for answer in got if "error" in answer]
        assert len(refused) == 3
        assert {(answer["code"], answer["error"]) for answer in refused} == {
            (429, "at most 2 fetches of one client may be under way")
        }
        unharmed(bystander)
        assert broker.reached("max_requests") == 3


# clients that do not read, do not answer, or are faster than the disk


def test_a_subscriber_that_does_not_read() -> None:
    with limited(max_pending=1 << 20) as (broker, client, bystander):
        client.send(b"SUB flood 1\r\n")
        assert client.fence() == []
        for _ in range(400):
            bystander.send(b"PUB flood 65536\r\n" + b"x" * 65536 + b"\r\n")
        assert bystander.fence() == []
        client.bytes_until_hung_up()
        unharmed(bystander)
        assert broker.reached("max_pending") == 1


def test_a_client_that_answers_no_ping() -> None:
    with limited() as (broker, client, bystander):
        client.answers_pings = False

        def minutes_pass() -> None:
            for session in list(broker.server.hub.sessions.values())[:1]:
                for minutes in range(0, 12, 2):
                    session.check_alive(broker.loop.time() + 60 * minutes, 120.0, 2)

        broker.call(minutes_pass)
        assert client.rest()[-1:] == [b"-ERR 'Stale Connection'"]
        unharmed(bystander)
        assert broker.reached("ping_max") == 1


# users


def test_limits_of_users_are_counted() -> None:
    anna = UserConfig(
        "anna", password="anna", max_mailboxes=1, max_stored=100, max_connections=1, max_subscriptions=4, max_rate=1000
    )
    with Limited(users=(anna, UserConfig("other", password="other"))) as broker:
        port = broker.server.port
        with (
            RawClient(port).connect(**password("anna")) as client,
            RawClient(port).connect(**password("other")) as other,
        ):
            box = create(client)
            assert refusal(client, CREATE)[0] == 429
            assert refusal(client, MESSAGES + box, b"x" * 100)[0] == 429
            client.send(b"SUB a 1\r\nSUB b 2\r\nSUB c 3\r\nSUB d 4\r\nSUB e 5\r\n")
            assert client.fence() == [b"-ERR 'maximum subscriptions exceeded'"]
            with RawClient(port) as one_more:
                one_more.opened()
                one_more.send(b"CONNECT " + json.dumps(password("anna")).encode() + b"\r\n")
                assert one_more.rest() == [b"-ERR 'maximum account active connections exceeded'"]
            unharmed(other)
            client.send(publish("in", b"x") * 1_100)
            client.fence()
            assert broker.reached("users.max_rate") >= 1
            names = ("max_mailboxes", "max_stored", "max_subscriptions", "max_connections")
            assert [broker.reached(f"users.{name}") for name in names] == [1, 1, 1, 1]


# changing them


def test_limits_change_without_a_restart() -> None:
    """For those who are connected, too; what is there stays."""
    with limited() as (broker, client, bystander):
        box, second = create(client), create(client)
        for _ in range(2):
            request(client, MESSAGES + box, b"x", {"Nats-Msg-Id": "1"})
            request(client, MESSAGES + box, b"x")
        lower: dict[str, Any] = {
            "max_mailboxes": 1,
            "max_mailbox_messages": 2,
            "max_header_size": 100,
            "max_message_ids": 0,
        }
        lower |= {"max_total_groups": 1, "max_unfinished": 1, "max_subscriptions": 2, "max_address_connections": 1}
        changed = replace(broker.server.config, **lower)
        asyncio.run_coroutine_threadsafe(broker.server.reload(changed), broker.loop).result(10)
        assert {limit: broker.metric(f'mq9_limit{{limit="{limit}"}}') for limit in lower} == lower
        assert refusal(client, CREATE)[0] == 429
        assert refusal(client, MESSAGES + box, b"x")[0] == 429
        assert refusal(client, MESSAGES + second, b"x", headers_of_size(101))[0] == 413
        assert refusal(client, MESSAGES + second, b"x", {"Nats-Msg-Id": "2"})[0] == 429
        ask = {"group_name": "one", "config": {"max_wait_ms": 0}}
        assert len(request(client, FETCH + box, ask)["messages"]) == 1
        assert refusal(client, FETCH + box, ask)[0] == 429
        assert refusal(client, FETCH + box, ask | {"group_name": "two"})[0] == 429
        assert len(request(client, "$mq9.AI.MAILBOX.LIST." + box)["messages"]) == 3
        client.send(b"SUB a 1\r\nSUB b 2\r\nSUB c 3\r\n")
        assert client.fence() == [b"-ERR 'maximum subscriptions exceeded'"]
        client.send(b"UNSUB 1\r\nUNSUB 2\r\n")
        with RawClient(broker.server.port) as one_more:
            one_more.opened()
            assert one_more.rest() == [b"-ERR 'maximum connections exceeded'"]
        rates = replace(broker.server.config, max_create_rate=1, max_mailboxes=100)
        asyncio.run_coroutine_threadsafe(broker.server.reload(rates), broker.loop).result(10)
        create(bystander)
        assert refusal(bystander, CREATE) == (429, "one client may create at most 1 mailboxes in a second")
        create(client)
