"""What is refused of FETCH and ACK, in the very words of the two tables of docs/protocol.md §4."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from mq9.server.config import Config
from tests.server.support import ThreadedServer, create, publish, request
from tests.server.working import (
    ACK,
    GONE,
    LEASE,
    MESSAGES,
    ack,
    begin_lease,
    conflict,
    dead,
    done,
    ids,
    join,
    leased,
    send,
    wanted,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

BAD_GROUP = "group_name must have 1 to 128 bytes and no space, * or >"


@pytest.fixture(scope="module")
def broker() -> Iterator[ThreadedServer]:
    """One broker for all: what is refused leaves nothing behind."""
    with ThreadedServer() as running:
        yield running


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"{", "the request is not valid JSON"),
        (b"[]", "the request must be a JSON object"),
        ({"group_name": 7}, "group_name must be a string"),
        ({"group_name": "a*"}, BAD_GROUP),
        ({"group_name": ">"}, BAD_GROUP),
        ({"group_name": "a b"}, BAD_GROUP),
        ({"group_name": "a\u00a0b"}, BAD_GROUP),
        ({"group_name": "a\x00"}, BAD_GROUP),
        ({"group_name": "a\x7f"}, BAD_GROUP),
        ({"group_name": "x" * 129}, BAD_GROUP),
        ({"group_name": "é" * 65}, BAD_GROUP),
        ({"group_name": "g", "lease_ms": 0}, "lease_ms must be from 1 to 86400000"),
        ({"group_name": "g", "lease_ms": 86_400_001}, "lease_ms must be from 1 to 86400000"),
        ({"group_name": "g", "lease_ms": 365 * 86_400_000}, "lease_ms must be from 1 to 86400000"),
        ({"group_name": "g", "lease_ms": "30000"}, "lease_ms must be a whole number"),
        ({"group_name": "g", "lease_ms": 1.5}, "lease_ms must be a whole number"),
        ({"group_name": "g", "lease_ms": True}, "lease_ms must be a whole number"),
        ({"config": {"num_msgs": 0}}, "num_msgs must be from 1 to 18446744073709551615"),
        ({"config": {"num_msgs": -1}}, "num_msgs must be from 1 to 18446744073709551615"),
        ({"config": {"num_msgs": "1"}}, "num_msgs must be a whole number"),
        ({"config": {"max_wait_ms": 3_600_001}}, "max_wait_ms must be from 0 to 3600000"),
        ({"config": {"max_wait_ms": -1}}, "max_wait_ms must be from 0 to 3600000"),
        ({"config": 7}, "config must be an object"),
        ({"deliver": "newest"}, "deliver must be one of earliest, latest, from_time, from_id"),
        ({"deliver": 7}, "deliver must be a string"),
        ({"deliver": "from_id"}, "deliver from_id needs from_id"),
        ({"deliver": "from_time"}, "deliver from_time needs from_time"),
        ({"deliver": "from_time", "from_time": "now"}, "from_time must be a number of seconds"),
        ({"deliver": "from_time", "from_time": float("nan")}, "from_time must be a number of seconds"),
        ({"deliver": "from_id", "from_id": -1}, "from_id must be from 0 to 18446744073709551615"),
        ({"force_deliver": "yes"}, "force_deliver must be true or false"),
    ],
)
def test_a_fetch_that_is_malformed(broker: ThreadedServer, body: Any, sentence: str) -> None:
    with broker.client() as client:
        box = create(client)
        assert request(client, LEASE + box, body) == {"error": sentence, "code": 400}
        assert ack(client, box, msg_id=1) == {"error": "no such group", "code": 404}


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"msg_id": 1}, "group_name is needed"),
        ({"group_name": "", "msg_id": 1}, "group_name is needed"),
        ({"group_name": "a b", "msg_id": 1}, BAD_GROUP),
        ({"group_name": "g"}, "either msg_id or msg_ids is needed"),
        ({"group_name": "g", "msg_id": 1, "msg_ids": [1]}, "either msg_id or msg_ids is needed"),
        (
            {"group_name": "g", "msg_id": 1, "mail_address": "another"},
            "mail_address must be the mail_id of the subject",
        ),
        ({"group_name": "g", "msg_id": "1"}, "msg_id must be a whole number"),
        ({"group_name": "g", "msg_id": -1}, "msg_id must be from 0 to 18446744073709551615"),
        ({"group_name": "g", "msg_id": 2**64}, "msg_id must be from 0 to 18446744073709551615"),
        ({"group_name": "g", "msg_ids": []}, "msg_ids must have 1 to 1000 items from 0 to 18446744073709551615"),
        (
            {"group_name": "g", "msg_ids": [1] * 1_001},
            "msg_ids must have 1 to 1000 items from 0 to 18446744073709551615",
        ),
        ({"group_name": "g", "msg_ids": [1, "2"]}, "msg_ids must be a list of whole numbers"),
        ({"group_name": "g", "msg_ids": 1}, "msg_ids must be a list of whole numbers"),
        ({"group_name": "g", "msg_id": 1, "op": "done"}, "op must be one of ack, nack, extend, dead, revive"),
        ({"group_name": "g", "msg_id": 1, "op": "extend", "lease_ms": 0}, "lease_ms must be from 1 to 86400000"),
        (
            {"group_name": "g", "msg_id": 1, "op": "nack", "delay_ms": 604_800_001},
            "delay_ms must be from 0 to 604800000",
        ),
        ({"group_name": "g", "msg_id": 1, "op": "nack", "delay_ms": -1}, "delay_ms must be from 0 to 604800000"),
        ({"group_name": "g", "msg_id": 1, "op": "dead", "reason": "é" * 129}, "reason must have at most 256 bytes"),
        ({"group_name": "g", "msg_id": 1, "attempt": "first"}, "attempt must be a whole number"),
    ],
)
def test_an_ack_that_is_malformed(broker: ThreadedServer, body: dict[str, Any], sentence: str) -> None:
    with broker.client() as client:
        box = create(client)
        sent = send(client, box, b"")
        assert ids(client, box) == sent
        assert request(client, ACK + box, body) == {"error": sentence, "code": 400}
        done(client, box, msg_id=sent[0], mail_address=box)


def test_half_a_character_in_a_name_is_refused(broker: ThreadedServer) -> None:
    """JSON can say what no text can hold."""
    with broker.client() as client:
        box = create(client)
        for subject, body in (
            (LEASE, b'{"group_name": "\\ud800"}'),
            (ACK, b'{"group_name": "\\ud800", "msg_id": 1}'),
            ("$mq9.AI.MAILBOX.LIST.", b'{"dead": "\\ud800"}'),
        ):
            assert request(client, subject + box, body)["code"] == 400
        assert client.fence() == []


@pytest.mark.parametrize("operation", [LEASE, ACK])
def test_a_mailbox_that_is_not_there(broker: ThreadedServer, operation: str) -> None:
    body = {"group_name": "g", "msg_id": 1}
    with broker.client() as client:
        assert request(client, operation + "m-" + "a" * 26, body) == {"error": "no such mailbox", "code": 404}
        assert request(client, operation + "no/name", body)["code"] == 400
        client.send(publish(operation + "nobody", b"{}"))
        assert client.fence() == [f"-ERR 'Permissions Violation for Publish to \"{operation}nobody\"'".encode()]
        other = create(client)
        (msg_id,) = send(client, other, b"")
        box = create(client)
        assert ids(client, box) == []
        assert ack(client, box, msg_id=msg_id) == GONE  # a message of another mailbox
        assert ack(client, box, msg_id=0) == GONE
        assert ack(client, box, "unknown", msg_id=msg_id) == {"error": "no such group", "code": 404}


@pytest.mark.parametrize("queue", ["a*", ">", "x" * 129, "é" * 65])
def test_a_queue_that_can_be_no_group_is_refused(broker: ThreadedServer, queue: str) -> None:
    with broker.client() as client:
        box = create(client)
        join(client, box, queue)
        refusal = f'-ERR \'Permissions Violation for Subscription to "{MESSAGES}{box}.*" using queue "{queue}"\''
        assert client.fence() == [refusal.encode()]


def test_a_mailbox_has_so_many_groups_and_no_more() -> None:
    with ThreadedServer(max_groups=3) as broker, broker.client() as client, broker.client() as member:
        box = create(client)
        (msg_id,) = send(client, box, b"")
        assert ids(client, box, "one") == [msg_id]
        join(member, box, "two", sid=1)
        assert member.frame() is not None
        assert ids(client, box, "three") == [msg_id]
        said = request(client, LEASE + box, wanted("four"))
        assert said == {"error": "a mailbox has at most 3 groups", "code": 429}
        join(member, box, "four", sid=2)
        (refusal,) = member.fence()
        assert refusal.endswith(b'using queue "four"\'')
        assert request(client, LEASE + box, wanted("four", deliver="from_time", from_time=1)) == said
        assert ids(client, box, "one") == []
        assert ids(client, box, "") == [msg_id]
        assert ids(client, create(client), "four") == []


def test_ten_thousand_groups_on_a_mailbox_cost_a_send_nothing() -> None:
    """Who has nothing to do with a message is not even looked at: of all groups only those that wait are told."""
    assert Config().max_groups == 10_000
    with ThreadedServer() as broker, broker.client() as client, broker.client() as waiting:
        box = create(client)
        (first,) = send(client, box, b"")
        client.send(b"SUB a.* 1\r\n")
        for number in range(10_000):
            body = b'{"group_name": "g%d", "config": {"max_wait_ms": 0}}' % number
            client.send(publish(LEASE + box, body, f"a.{number}"))
            if number % 50 == 49:
                assert all(b'"attempt": 1' in (client.frame() or b"") for _ in range(50))
        client.send(b"UNSUB 1\r\n")
        said = request(client, LEASE + box, wanted("one-more"))
        assert said == {"error": "a mailbox has at most 10000 groups", "code": 429}
        begin_lease(waiting, box, "g77")
        server = broker.server

        def told() -> list[bytes]:
            mailbox = server.office.get(box.encode(), server.now())
            assert mailbox is not None
            assert mailbox.groups is not None
            assert len(mailbox.groups.by_name) == 10_000
            return [group.name for group in mailbox.groups.attentive]

        assert broker.call(told) == [b"g77"]
        (second,) = send(client, box, b"")
        assert broker.call(told) == []
        frame = waiting.frame()
        assert frame is not None
        assert b'"msg_id": %d' % second in frame
        broker.outlast(30_000)
        assert ids(client, box, "g77") == [first, second]
        assert request(client, f"$mq9.AI.MAILBOX.REMOVE.{box}") == {"deleted": True}
        assert broker.call(lambda: server.office.groups.groups) == 0


# the table of what becomes of an ACK


@pytest.mark.parametrize("attempt", [False, True])
def test_acks_of_what_is_not_the_workers_any_more(attempt: bool) -> None:
    """Each row, told by the connection that asks, and by the attempt that it names."""

    def said(client: Any, msg_id: int, was: int, **body: Any) -> Any:
        if attempt:
            body["attempt"] = was
        answer = ack(client, box, msg_ids=[msg_id], **body)
        assert answer.pop("msg_ids", [msg_id]) == [msg_id]
        return answer

    with ThreadedServer() as broker, broker.client() as first, broker.client() as second:
        box = create(first, ttl=0)
        ok = {"error": ""}
        # Leased, and leased no more but by nobody else since.
        one, two, three, four, five, six = send(first, box, *[b""] * 6)
        assert leased(first, box) == [(i, 1) for i in (one, two, three, four, five, six)]
        assert said(first, one, 1) == ok
        assert said(first, one, 1) == ok  # done
        done(first, box, msg_id=five, op="nack", delay_ms=1_000_000)
        assert said(first, five, 1, op="extend") == conflict(five, "was given back")
        assert said(first, five, 1) == ok  # given back
        done(first, box, msg_id=six, op="dead")
        assert said(first, six, 1, op="nack") == conflict(six, "is dead")
        assert said(first, six, 1, op="extend") == conflict(six, "is dead")
        assert said(first, six, 1) == ok  # dead
        broker.outlast(30_000)
        assert said(first, two, 1) == ok
        assert said(first, three, 1, op="extend") == ok
        assert leased(second, box) == [(four, 2)]
        # Leased again since.
        leased_again = conflict(four, "was leased again")
        for op in ("ack", "nack", "extend", "dead"):
            assert said(first, four, 1, op=op) == leased_again
        assert said(second, four, 2) == ok
        assert said(second, four, 2) == ok
        assert said(first, four, 1) == leased_again  # finished by then
        for op in ("nack", "extend", "dead", "revive"):
            assert said(first, four, 1, op=op) == conflict(four, "is done")
            assert said(second, four, 2, op=op) == conflict(four, "is done")
        # Given back by the other one: leased again since all the same.
        broker.outlast(30_000)
        assert leased(second, box) == [(three, 2)]
        done(second, box, msg_id=three, op="nack", delay_ms=1_000_000)
        for op in ("ack", "nack", "extend", "dead"):
            assert said(first, three, 1, op=op) == conflict(three, "was leased again")
        done(second, box, msg_id=three, op="dead", reason="enough")
        assert said(first, three, 1) == conflict(three, "was leased again")
        assert dead(second, box) == [(three, 2, "enough")]
        # And leased by the first one once more: now it is its own again.
        done(second, box, msg_id=three, op="revive")
        assert ack(first, box, msg_id=three, op="revive") == conflict(three, "is not dead")
        assert leased(first, box) == [(three, 1)]
        assert said(first, three, 1) == ok
        assert said(first, three, 1) == ok


def test_a_worker_that_gets_its_message_again_may_acknowledge_it_twice() -> None:
    with ThreadedServer() as broker, broker.client() as first, broker.client() as second:
        box = create(first)
        (msg_id,) = send(first, box, b"")
        for number, client in enumerate((first, second, first), 1):
            assert leased(client, box) == [(msg_id, number)]
            broker.outlast(30_000)
        done(first, box, msg_id=msg_id)
        done(first, box, msg_id=msg_id)
        done(first, box, msg_id=msg_id, attempt=3)
        assert ack(second, box, msg_id=msg_id) == conflict(msg_id, "was leased again")
        assert ack(first, box, msg_id=msg_id, attempt=1) == conflict(msg_id, "was leased again")


def test_what_was_never_given_out_is_nobodys_to_settle(broker: ThreadedServer) -> None:
    with broker.client() as client:
        box = create(client)
        first, second = send(client, box, b"", b"")
        assert ids(client, box, count=1) == [first]
        for op in ("ack", "nack", "extend", "dead"):
            assert ack(client, box, msg_id=second, op=op) == conflict(second, "was not handed out")
        assert ids(client, box) == [second]


def test_an_answer_that_nobody_hears_hands_nothing_out(broker: ThreadedServer) -> None:
    with broker.client() as client, broker.client() as deaf:
        box = create(client)
        sent = send(client, box, b"")
        deaf.send(publish(LEASE + box, b'{"group_name": "g"}', "no.such.inbox"))
        assert deaf.fence() == []
        create(client)  # durable behind all that was asked before
        assert ack(client, box, msg_id=sent[0]) == conflict(sent[0], "was not handed out")
        assert leased(client, box) == [(sent[0], 1)]


def test_nobody_extends_the_lease_of_another_worker() -> None:
    with ThreadedServer() as broker, broker.client() as first, broker.client() as second:
        box = create(first)
        (msg_id,) = send(first, box, b"")
        assert ids(first, box) == [msg_id]
        others = conflict(msg_id, "is another worker's")
        assert ack(second, box, msg_id=msg_id, op="extend") == others
        assert ack(second, box, msg_ids=[msg_id], op="extend") == others | {"msg_ids": [msg_id]}
        broker.outlast(30_000)
        assert ack(second, box, msg_id=msg_id, op="extend") == others  # it may still be at it
        done(first, box, msg_id=msg_id, op="extend", lease_ms=10_000)
        broker.pass_time(10_000)
        assert ids(second, box) == []


def test_no_refusal_says_or_logs_the_mail_id(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "mq9"), ThreadedServer(max_groups=1) as broker, broker.client() as client:
        box = create(client)
        (msg_id,) = send(client, box, b"secret payload")
        answers = [
            request(client, LEASE + box, {"group_name": "a b"}),
            request(client, LEASE + box, {"deliver": "from_id"}),
            ack(client, box, msg_id=1),
            ack(client, box, msg_id=1, mail_address="x"),
            ids(client, box) and ack(client, box, msg_ids=[msg_id, 999]),
            ack(client, box, msg_id=msg_id, op="nack"),
            request(client, LEASE + box, wanted("two")),
        ]
        assert all("error" in said and box not in str(said) for said in answers)
        client.send(publish(ACK + box, b"{}"))
        assert len(client.fence()) == 1
    assert caplog.records
    assert box not in caplog.text
    assert "secret" not in caplog.text
