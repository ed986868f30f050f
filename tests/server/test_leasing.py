"""Leased work: who gets what, until when, in which order, and what an ACK does to it (docs/protocol.md §4)."""

from __future__ import annotations

import base64
import json
import random
from typing import TYPE_CHECKING, Any

import pytest

from mq9.protocol import PRIORITIES
from mq9.store.disk_engine import DiskStore
from tests.server.support import START_MS, TICK_MS, ThreadedServer, body_of, create, publish, request
from tests.server.working import (
    ACK,
    GONE,
    LEASE,
    MESSAGES,
    ack,
    answer,
    begin_lease,
    conflict,
    dead,
    done,
    ids,
    join,
    lease,
    leased,
    payloads_of,
    send,
    send_at_once,
    wanted,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LEASE_MS = 30_000


@pytest.fixture(params=["memory", "lmdb"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ThreadedServer]:
    """A broker of either kind, with a clock that stands still."""
    with ThreadedServer(None if request.param == "memory" else DiskStore(tmp_path / "data")) as running:
        yield running


# what FETCH gives


def test_a_message_is_shown_as_it_was_sent(broker: ThreadedServer) -> None:
    with broker.client() as client:
        box = create(client, ttl=0)
        (first,) = send(client, box, b"\xff\0", priority="high")
        headers = {"X-Any": "one", "mq9-tags": "a,b"}
        second = request(client, MESSAGES + box, b"with headers", headers)["msg_id"]
        block = list(b"NATS/1.0\r\nX-Any: one\r\nmq9-tags: a,b\r\n\r\n")
        assert lease(client, box) == [
            {
                "msg_id": first,
                "priority": "high",
                "payload": base64.b64encode(b"\xff\0").decode(),
                "create_time": START_MS // 1_000,
                "header": None,
                "headers": {},
                "attempt": 1,
            },
            {
                "msg_id": second,
                "priority": "normal",
                "payload": base64.b64encode(b"with headers").decode(),
                "create_time": START_MS // 1_000,
                "header": block,
                "headers": {"X-Any": ["one"], "mq9-tags": ["a,b"]},
                "attempt": 1,
            },
        ]


def test_the_order_is_by_priority_and_then_by_msg_id_whatever_was_acknowledged_meanwhile(
    broker: ThreadedServer,
) -> None:
    """Acknowledging a high message never skips or repeats a normal one."""
    chance = random.Random(3)
    with broker.client() as client:
        box = create(client, ttl=0)
        waiting: list[tuple[int, int]] = []
        held: list[int] = []
        finished: list[int] = []
        for _ in range(60):
            for _ in range(chance.randrange(5)):
                rank = chance.randrange(5)
                waiting += [(rank, msg_id) for msg_id in send(client, box, b"", priority=PRIORITIES[rank])]
            count = chance.randrange(1, 5)
            expected = sorted(waiting)[:count]
            waiting = sorted(waiting)[count:]
            assert ids(client, box, count=count) == [msg_id for _, msg_id in expected]
            held += [msg_id for _, msg_id in expected]
            if held and chance.random() < 0.7:
                finished.append(held.pop(chance.randrange(len(held))))
                done(client, box, msg_ids=[finished[-1]])
        assert ids(client, box) == [msg_id for _, msg_id in sorted(waiting)]
        assert ids(client, box) == []
        assert len(set(finished)) == len(finished) > 20


def test_a_reply_holds_what_max_payload_takes_but_always_one_message_whole() -> None:
    """Headers are shown twice, and as numbers: what does not fit goes to whoever asks next, and is its first attempt."""
    with ThreadedServer(max_payload=20_000) as broker, broker.client() as client:
        box = create(client, ttl=0)
        sent = send(client, box, b"x" * 19_900)
        block = {f"X-{number}": "v" * 100 for number in range(10)}
        sent += [request(client, MESSAGES + box, b"y" * 500, block)["msg_id"] for _ in range(12)]
        sent += send(client, box, *[b"z" * 6_000] * 5)
        for group in ("g", ""):
            got: list[int] = []
            while len(got) < len(sent):
                more: dict[str, Any] = {}
                if not group:
                    more = {"deliver": "from_id", "from_id": max(got, default=0) + 1}
                client.send(b"SUB a 8\r\nUNSUB 8 1\r\n")
                frame = request_frame(client, LEASE + box, wanted(group, **more))
                items = payload_items(frame)
                assert len(body_of(frame)) <= 20_000 or len(items) == 1
                assert items, "nothing fits, ever"
                got += [item["msg_id"] for item in items]
                assert {item["attempt"] for item in items} == {1 if group else 0}
            assert got == sent


def request_frame(client: Any, subject: str, body: dict[str, Any]) -> bytes:
    """The whole frame of an answer."""
    client.send(publish(subject, json.dumps(body).encode(), "a"))
    frame = client.frame()
    assert frame is not None
    return bytes(frame)


def payload_items(frame: bytes) -> list[dict[str, Any]]:
    """The messages in the frame of an answer."""
    items: list[dict[str, Any]] = json.loads(body_of(frame))["messages"]
    return items


def test_a_message_that_ends_before_the_answer_does_not_confuse_what_is_given_back() -> None:
    """Of a handout of which one message is gone and the last ones do not fit, exactly those that were not sent come again."""
    with ThreadedServer(max_payload=20_000) as broker, broker.client() as client, broker.client() as other:
        box = create(client, ttl=0)
        block = {f"X-{number}": "v" * 100 for number in range(10)}
        sent = [request(client, MESSAGES + box, b"%d" % at, block)["msg_id"] for at in range(12)]
        frames = b"SUB gone 7\r\n" + publish(f"$mq9.AI.MAILBOX.DELETE.{box}.{sent[0]}", b"", "gone")
        frames += b"SUB got 8\r\n"
        # Both in one turn: the lease is chosen before the deletion is in force, and answered after it.
        client.send(frames + publish(LEASE + box, json.dumps(wanted()).encode(), "got"))
        answers = [answer(client), answer(client)]
        (got,) = [[item["msg_id"] for item in said["messages"]] for said in answers if "messages" in said]
        rest: list[int] = []
        while more := ids(other, box):
            rest += more
        assert sorted(set(got) - {sent[0]}) + rest == sent[1:]


# leases


def test_a_lease_holds_to_the_millisecond_and_no_longer(broker: ThreadedServer) -> None:
    with broker.client() as client, broker.client() as other:
        box = create(client, ttl=0)
        (msg_id,) = send(client, box, b"")
        for lease_ms in (1, 4, 999, 86_400_000):
            attempts = [attempt for _, attempt in leased(client, box, lease_ms=lease_ms)]
            broker.pass_time(lease_ms)
            assert leased(other, box) == []  # it began up to a millisecond after the one that the clock showed
            broker.pass_time(1)
            broker.pass_time(-broker.clock.now % TICK_MS)
            ((again, attempt),) = leased(other, box, lease_ms=1)
            assert (again, attempt) == (msg_id, attempts[0] + 1)
            broker.outlast(1)


def test_extend_begins_the_lease_anew(broker: ThreadedServer) -> None:
    with broker.client() as client, broker.client() as other:
        box = create(client, ttl=0)
        (msg_id,) = send(client, box, b"")
        assert leased(client, box, lease_ms=1_000) == [(msg_id, 1)]
        for _ in range(30):  # more often than there are attempts
            broker.pass_time(900)
            done(client, box, msg_id=msg_id, op="extend", lease_ms=1_000)
        assert ids(other, box) == []
        done(client, box, msg_id=msg_id, op="extend", lease_ms=100)  # a shorter one counts, too
        broker.outlast(100)
        assert leased(other, box) == [(msg_id, 2)]


def test_what_was_given_back_comes_again_at_once_or_after_its_delay(broker: ThreadedServer) -> None:
    with broker.client() as client, broker.client() as other:
        box = create(client, ttl=0)
        first, second = send(client, box, b"", b"")
        assert ids(client, box) == [first, second]
        done(client, box, msg_id=second, op="nack")
        assert leased(other, box) == [(second, 2)]
        done(client, box, msg_id=first, op="nack", delay_ms=5_000)
        done(other, box, msg_id=second, op="nack", delay_ms=604_800_000)
        broker.pass_time(5_000)
        assert ids(other, box) == []
        broker.outlast(0)
        assert leased(other, box) == [(first, 2)]
        broker.pass_time(604_800_000 - 5_000)
        assert leased(other, box, count=1) == [(first, 3)]  # its lease ran out meanwhile, and it comes first
        assert leased(other, box) == [(second, 3)]


def test_a_delay_can_be_taken_back_by_giving_back_again(broker: ThreadedServer) -> None:
    with broker.client() as client:
        box = create(client, ttl=0)
        (msg_id,) = send(client, box, b"")
        assert ids(client, box) == [msg_id]
        done(client, box, msg_id=msg_id, op="nack", delay_ms=60_000)
        done(client, box, msg_id=msg_id, op="nack", delay_ms=0)
        assert ids(client, box) == [msg_id]
        done(client, box, msg_id=msg_id, op="nack")
        done(client, box, msg_id=msg_id, op="nack", delay_ms=1_000)
        assert ids(client, box) == []
        broker.outlast(1_000)
        assert ids(client, box) == [msg_id]


def test_what_is_gone_is_not_given_again_and_its_lease_can_be_acknowledged_until_it_runs_out(
    broker: ThreadedServer,
) -> None:
    with broker.client() as client:
        box = create(client, ttl=0)
        deleted = send(client, box, b"")[0]
        expired = request(client, MESSAGES + box, b"", {"mq9-ttl": "1"})["msg_id"]
        for way in ("ack", "nack", "extend", "dead", "run out"):
            group = f"group-{way.replace(' ', '-')}"
            assert ids(client, box, group, lease_ms=60_000) == [deleted, expired]
        request(client, f"$mq9.AI.MAILBOX.DELETE.{box}.{deleted}")
        broker.outlast(2_000)
        for msg_id in (deleted, expired):
            done(client, box, "group-ack", msg_ids=[msg_id])
            assert ack(client, box, "group-ack", msg_id=msg_id) == GONE
            for op in ("nack", "extend", "dead", "revive"):
                assert ack(client, box, f"group-{op}" if op != "revive" else "group-dead", msg_id=msg_id, op=op) == GONE
        broker.outlast(60_000)
        for way in ("ack", "nack", "extend", "dead", "run-out"):
            assert ids(client, box, f"group-{way}") == []
            assert ack(client, box, f"group-{way}", msg_id=expired) == GONE
            assert dead(client, box, f"group-{way}") == []


# ACK of a single msg_id


def test_the_ack_of_one_confirms_what_was_listed_before_it_in_its_reply(broker: ThreadedServer) -> None:
    with broker.client() as client, broker.client() as other:
        box = create(client, ttl=0)
        normal = send(client, box, *[b""] * 4)
        high = send(client, box, *[b""] * 2, priority="high")
        assert ids(client, box, count=4) == [*high, *normal[:2]]
        assert ids(client, box, count=1) == [normal[2]]  # another reply
        done(client, box, msg_id=normal[0])
        broker.outlast(LEASE_MS)
        assert leased(other, box) == [(normal[1], 2), (normal[2], 2), (normal[3], 1)]
        for msg_id in (*high, normal[0]):
            assert ack(client, box, msg_id=msg_id, op="nack") == conflict(msg_id, "is done")


def test_the_ack_of_one_leaves_alone_what_is_elsewhere_by_now(broker: ThreadedServer) -> None:
    """What was given back, was buried, or was leased to somebody else is not confirmed by an ack of what came after it."""
    with broker.client() as client, broker.client() as other:
        box = create(client, ttl=0)
        given_back, buried, extended, elsewhere, confirmed, last = send(client, box, *[b""] * 6)
        assert len(ids(client, box, lease_ms=1_000)) == 6
        for msg_id in (buried, extended, confirmed, last):
            done(client, box, msg_id=msg_id, op="extend", lease_ms=100_000)
        done(client, box, msg_id=buried, op="dead", reason="no such customer")
        broker.outlast(1_000)
        assert ids(other, box) == [given_back, elsewhere]
        done(other, box, msg_id=given_back, op="nack", delay_ms=40)
        done(client, box, msg_id=last)
        broker.outlast(40)
        assert leased(client, box) == [(given_back, 3)]
        assert dead(client, box) == [(buried, 1, "no such customer")]
        done(other, box, msg_id=elsewhere, op="nack")
        assert leased(client, box) == [(elsewhere, 3)]
        for msg_id in (extended, confirmed, last):
            assert ack(client, box, msg_id=msg_id, op="nack") == conflict(msg_id, "is done")


def test_a_list_confirms_exactly_those_that_it_names(broker: ThreadedServer) -> None:
    with broker.client() as client:
        box = create(client, ttl=0)
        sent = send(client, box, *[b""] * 6)
        assert ids(client, box) == sent
        done(client, box, msg_ids=[sent[4], sent[1], sent[4]])
        broker.outlast(LEASE_MS)
        assert ids(client, box) == [sent[0], sent[2], sent[3], sent[5]]


def test_of_a_list_what_can_be_done_is_done(broker: ThreadedServer) -> None:
    with broker.client() as client:
        box = create(client, ttl=0)
        sent = send(client, box, *[b""] * 4)
        assert ids(client, box, count=3) == sent[:3]
        said = ack(client, box, msg_ids=[sent[0], sent[3], 999_999, sent[1]])
        assert said == conflict(sent[3], "was not handed out") | {"msg_ids": [sent[3], 999_999]}
        assert ack(client, box, msg_ids=[999_999, sent[3]]) == GONE | {"msg_ids": [999_999, sent[3]]}
        assert ack(client, box, msg_ids=[999_999]) == GONE | {"msg_ids": [999_999]}
        broker.outlast(LEASE_MS)
        assert ids(client, box) == [sent[2], sent[3]]


def test_a_thousand_are_acknowledged_at_once(broker: ThreadedServer) -> None:
    with broker.client() as client:
        box = create(client, ttl=0)
        send_at_once(client, box, [b"%d" % number for number in range(2_000)])
        first, second = ids(client, box, count=1_000), ids(client, box, count=5_000)
        assert len(first) == len(second) == 1_000  # more than 1,000 is taken as 1,000
        done(client, box, msg_ids=first[::-1])
        done(client, box, msg_id=second[-1])
        broker.outlast(LEASE_MS)
        assert ids(client, box) == []
        assert group_size(broker, box) == 0


def group_size(broker: ThreadedServer, mail_id: str, group: str = "g") -> int:
    """How many messages a group has in mind."""
    server = broker.server

    def count() -> int:
        mailbox = server.office.get(mail_id.encode(), server.now())
        assert mailbox is not None
        found = server.office.groups.find(mailbox, group.encode())
        assert found is not None
        return len(found.open)

    return broker.call(count)


# dead ones


@pytest.mark.parametrize("way", ["nack", "lease"])
def test_a_message_is_dead_after_its_sixteenth_attempt(broker: ThreadedServer, way: str) -> None:
    with broker.client() as client:
        box = create(client, ttl=0)
        bad, good = send(client, box, b"bad", b"good")
        other = send(client, box, b"later")[0]
        done_with = [good, other]
        for attempt in range(1, 17):
            got = leased(client, box, lease_ms=1_000)
            assert (bad, attempt) in got
            if done_with:
                done(client, box, msg_ids=done_with)
                done_with = []
            assert dead(client, box) == []
            if way == "nack":
                done(client, box, msg_id=bad, op="nack", reason=f"failed for the {attempt}. time")
            else:
                broker.outlast(1_000)
        assert dead(client, box) == [(bad, 16, "failed for the 16. time" if way == "nack" else "the lease ran out")]
        broker.outlast(100_000)
        assert ids(client, box) == []
        done(client, box, msg_id=bad, op="revive")
        assert dead(client, box) == []
        assert leased(client, box) == [(bad, 1)]


def test_dead_ones_are_listed_page_by_page_until_they_end(broker: ThreadedServer) -> None:
    with broker.client() as client:
        box = create(client, ttl=100)
        sent = send(client, box, *[b"%d" % number for number in range(7)])
        short = request(client, MESSAGES + box, b"short", {"mq9-ttl": "10"})["msg_id"]
        assert len(ids(client, box, lease_ms=1_000_000)) == 8
        for msg_id in (*sent[1:], short):
            done(client, box, msg_id=msg_id, op="dead", reason=f"because of {msg_id}")
        done(client, box, msg_id=sent[2], op="dead", reason="again")  # says nothing new
        subject = f"$mq9.AI.MAILBOX.LIST.{box}"
        page = request(client, subject, {"dead": "g", "limit": 4})
        assert [item["msg_id"] for item in page["messages"]] == sent[1:5]
        assert page["messages"][0] == {
            "msg_id": sent[1],
            "priority": "normal",
            "ts": START_MS // 1_000,
            "create_time": START_MS // 1_000,
            "size": 1,
            "headers": {},
            "tags": [],
            "key": None,
            "expires_at": START_MS // 1_000 + 100,
            "payload": "1",
            "encoding": "utf-8",
            "attempts": 1,
            "reason": f"because of {sent[1]}",
        }
        page = request(client, subject, {"dead": "g", "limit": 4, "after": page["next"]})
        assert [item["msg_id"] for item in page["messages"]] == [*sent[5:], short]
        assert page["next"] is None
        assert "attempts" not in request(client, subject, {"limit": 1})["messages"][0]
        broker.pass_time(10_000)
        request(client, f"$mq9.AI.MAILBOX.DELETE.{box}.{sent[1]}")
        done(client, box, msg_id=sent[2])  # an ack of a dead one counts
        done(client, box, msg_id=sent[3], op="revive")
        assert [msg_id for msg_id, *_ in dead(client, box)] == sent[4:]
        assert request(client, subject, {"dead": "unknown"}) == {"error": "no such group", "code": 404}


# where a group begins


@pytest.mark.parametrize("force", [False, True])
def test_deliver_says_where_a_group_begins(broker: ThreadedServer, force: bool) -> None:
    with broker.client() as client:
        box = create(client, ttl=0)
        sent = []
        for _ in range(5):
            sent += send(client, box, b"")
            broker.pass_time(1_000)
        begin = START_MS // 1_000
        policies: list[tuple[dict[str, Any], list[int]]] = [
            ({}, sent),
            ({"deliver": "earliest"}, sent),
            ({"deliver": "latest"}, sent[4:]),
            ({"deliver": "from_id", "from_id": sent[1]}, sent[1:]),
            ({"deliver": "from_id", "from_id": 0}, sent),
            ({"deliver": "from_id", "from_id": sent[4] + 1}, []),
            ({"deliver": "from_time", "from_time": begin + 2}, sent[2:]),
            ({"deliver": "from_time", "from_time": begin + 1.001}, sent[2:]),
            ({"deliver": "from_time", "from_time": 0}, sent),
            ({"deliver": "from_time", "from_time": begin + 99}, []),
            ({"deliver": "earliest", "from_id": sent[3], "from_time": begin + 3}, sent),
        ]
        for number, (request_body, expected) in enumerate(policies):
            group = f"g{number}"
            if force:  # it is there already, and has done everything
                done(client, box, group, msg_id=ids(client, box, group)[-1])
                assert ids(client, box, group, **request_body) == []  # says nothing to a group that is there
            assert ids(client, box, group, force_deliver=force, **request_body) == expected, request_body
            assert ids(client, box, "", **request_body) == expected, request_body
            assert ids(client, box, "", force_deliver=force, **request_body) == expected
        later = send(client, box, b"")
        assert ids(client, box, "g2") == ids(client, box, "g5") == later


def test_latest_on_an_empty_mailbox_begins_with_what_comes(broker: ThreadedServer) -> None:
    with broker.client() as client:
        box = create(client, ttl=0)
        assert ids(client, box, deliver="latest") == []
        assert ids(client, box, deliver="latest", force_deliver=True) == []
        assert ids(client, box, deliver="earliest", force_deliver=True) == []
        sent = send(client, box, b"")
        assert ids(client, box) == sent


def test_a_group_that_is_sent_back_repeats_what_is_done_but_not_what_somebody_has(broker: ThreadedServer) -> None:
    with broker.client() as client, broker.client() as other:
        box = create(client, ttl=0)
        finished, held, returned, buried, late = send(client, box, *[b""] * 5)
        assert len(ids(client, box, lease_ms=60_000)) == 5
        done(client, box, msg_ids=[finished])
        done(client, box, msg_id=returned, op="nack")
        done(client, box, msg_id=buried, op="dead")
        done(client, box, msg_id=late, op="nack", delay_ms=1_000)
        assert leased(other, box, force_deliver=True) == [(finished, 1), (returned, 2)]
        # What is held is done when its worker says so, though the group was sent back behind it.
        done(client, box, msg_ids=[held])
        done(client, box, msg_ids=[held])
        assert ack(client, box, msg_ids=[held], op="nack")["error"] == f"message {held} is done"
        assert ids(other, box) == []
        broker.outlast(1_000)
        assert leased(other, box) == [(late, 2)]
        done(client, box, msg_id=buried, op="revive")
        assert leased(other, box) == [(buried, 1)]


def test_what_is_acknowledged_after_the_group_was_sent_back_stays_done(broker: ThreadedServer) -> None:
    with broker.client() as client, broker.client() as other:
        box = create(client, ttl=0)
        first, second, third = send(client, box, *[b""] * 3)
        assert len(ids(client, box, lease_ms=60_000)) == 3
        assert ids(other, box, force_deliver=True) == []
        done(client, box, msg_id=second)
        assert ids(other, box) == []
        done(client, box, msg_id=first)  # again
        new = send(client, box, b"")
        assert ids(other, box) == new
        broker.outlast(60_000)
        assert leased(other, box) == [(third, 2), (new[0], 2)]
        done(other, box, msg_ids=[third, *new])
        assert ids(other, box, force_deliver=True) == [first, second, third, *new]


def test_sent_forward_a_group_takes_what_lies_before_for_done(broker: ThreadedServer) -> None:
    with broker.client() as client:
        box = create(client, ttl=0)
        held, returned, late, unseen, wanted_ = send(client, box, *[b""] * 5)
        assert ids(client, box, count=3, lease_ms=60_000) == [held, returned, late]
        done(client, box, msg_id=returned, op="nack")
        done(client, box, msg_id=late, op="nack", delay_ms=1_000)
        assert ids(client, box, deliver="from_id", from_id=wanted_, force_deliver=True) == [wanted_]
        broker.outlast(1_000)
        assert ids(client, box) == []
        for msg_id in (returned, late, unseen):
            assert ack(client, box, msg_id=msg_id, op="nack") == conflict(msg_id, "is done")
        done(client, box, msg_id=wanted_)
        broker.outlast(59_000)
        assert leased(client, box) == [(held, 2)]  # nobody has said that it is done


# without a group


def test_without_a_group_fetch_reads_and_remembers_nothing(broker: ThreadedServer) -> None:
    with broker.client() as client:
        box = create(client, ttl=0)
        low, high = send(client, box, b"low", priority="low")[0], send(client, box, b"high", priority="high")[0]
        for group in ("", None):
            for _ in range(2):
                said = request(client, LEASE + box, wanted(group))["messages"]
                assert [(item["msg_id"], item["attempt"]) for item in said] == [(high, 0), (low, 0)]
                assert payloads_of(said) == [b"high", b"low"]
        assert ids(client, box, "", count=1) == [high]
        assert ids(client, box, "", deliver="latest") == [high]
        assert ack(client, box, "", msg_id=high) == {"error": "group_name is needed", "code": 400}
        begin_lease(client, box, "", deliver="from_id", from_id=high + 1)
        assert client.fence() == []
        new = send_and_hear(client, box)
        assert new == [high + 1]
        begin_lease(client, box, "", deliver="from_id", from_id=high + 2, wait=700, inbox="soon")
        broker.pass_time(699)
        assert client.fence() == []
        broker.pass_time(1)
        assert answer(client) == {"error": "", "messages": []}


def send_and_hear(client: Any, mail_id: str) -> list[int]:
    """Send a message for which this client waits itself; the msg_ids that it is given."""
    client.send(publish(MESSAGES + mail_id, b"new"))
    return [item["msg_id"] for item in answer(client)["messages"]]


def test_an_ack_without_a_reply_subject_is_carried_out_or_refused(broker: ThreadedServer) -> None:
    with broker.client() as client:
        box = create(client, ttl=0)
        sent = send(client, box, b"", b"")
        assert ids(client, box) == sent
        client.send(publish(ACK + box, b'{"group_name": "g", "msg_id": %d}' % sent[0]))
        assert client.fence() == []
        broker.outlast(LEASE_MS)
        assert ids(client, box) == sent[1:]
        client.send(publish(ACK + box, b'{"group_name": "g", "msg_id": 999999}'))
        assert client.frame() == f"-ERR 'Permissions Violation for Publish to \"{ACK}{box}\"'".encode()
        client.send(publish(LEASE + box, b'{"group_name": "nobody-hears"}'))
        assert client.fence() == []
        assert ack(client, box, "nobody-hears", msg_id=1)["error"] == "no such group"


def test_receivers_and_leases_of_one_name_are_one_group(broker: ThreadedServer) -> None:
    with broker.client() as client, broker.client() as member:
        box = create(client, ttl=0)
        first, second = send(client, box, b"first", b"second")
        assert ids(client, box, count=1) == [first]
        join(member, box)
        frame = member.frame()
        assert frame is not None
        assert body_of(frame) == b"second"
        assert member.fence() == []
        assert ids(client, box) == []
        assert ack(client, box, msg_id=second, op="nack") == conflict(second, "is done")
        done(client, box, msg_id=first, op="nack")
        frame = member.frame()
        assert frame is not None
        assert body_of(frame) == b"first"
        # Whoever leased it hears that somebody else has had it since.
        assert ack(client, box, msg_id=first) == conflict(first, "was leased again")
