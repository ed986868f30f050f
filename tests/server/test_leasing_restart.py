"""A broker that is started again over its data: every message is for every group what it was before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mq9.store.contract import StoreFailedError
from mq9.store.disk_engine import DiskStore
from tests.server.support import TICK_MS, ThreadedServer, create, request, until
from tests.server.working import GONE, LEASE, MESSAGES, ack, conflict, dead, done, ids, join, leased, send, wanted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mq9.store.contract import Commit


def again(broker: ThreadedServer, data: Path) -> ThreadedServer:
    """A broker over the same data whose clock goes on where this one's stands."""
    following = ThreadedServer(DiskStore(data))
    following.clock.now = broker.clock.now
    return following


@pytest.mark.parametrize("restarts", [1, 3])
def test_every_state_outlives_a_restart(tmp_path: Path, restarts: int) -> None:
    data = tmp_path / "data"
    with ThreadedServer(DiskStore(data)) as broker, broker.client() as client, broker.client() as other:
        box = create(client, ttl=0)
        kinds = ("held", "long", "lapsed", "nacked", "later", "buried", "worn", "finished", "handed", "new")
        sent = dict(zip(kinds, send(client, box, *[kind.encode() for kind in kinds]), strict=True))
        assert ids(client, box, count=8, lease_ms=1_000) == [sent[kind] for kind in kinds[:8]]
        done(client, box, msg_id=sent["held"], op="extend", lease_ms=60_000)
        done(client, box, msg_id=sent["long"], op="extend", lease_ms=86_400_000)
        done(client, box, msg_id=sent["nacked"], op="nack", reason="not now")
        done(client, box, msg_id=sent["later"], op="nack", delay_ms=90_000)
        done(client, box, msg_id=sent["buried"], op="dead", reason="no such customer: é")
        done(client, box, msg_ids=[sent["finished"]])
        for attempt in range(2, 17):
            done(client, box, msg_id=sent["worn"], op="nack", delay_ms=1)
            done(client, box, msg_id=sent["lapsed"], op="extend", lease_ms=1_000)
            done(client, box, msg_id=sent["nacked"], op="nack", delay_ms=1_000_000)
            broker.pass_time(4)
            assert leased(client, box, count=1) == [(sent["worn"], attempt)]
        done(client, box, msg_id=sent["worn"], op="nack", reason="")
        broker.pass_time(1_000)
        done(client, box, msg_id=sent["nacked"], op="nack")
        other.send(f"SUB {MESSAGES}{box} g 1\r\nUNSUB 1 3\r\n".encode())
        for kind in ("lapsed", "nacked", "handed"):
            frame = other.frame()
            assert frame is not None
            assert frame.endswith(kind.encode())
        done(client, box, msg_ids=[sent["finished"]])
        assert ids(client, box, "empty", deliver="from_id", from_id=1_000_000) == []
        assert ids(client, box, "latest", deliver="latest") == [sent["new"]]
    for _ in range(restarts):
        with again(broker, data) as broker, broker.client() as client:
            assert leased(client, box) == ([(sent["new"], 1)] if _ == 0 else [])
            assert dead(client, box) == [
                (sent["buried"], 1, "no such customer: é"),
                (sent["worn"], 16, "given back too often"),
            ]
            for kind in ("finished", "lapsed", "nacked", "handed"):
                assert ack(client, box, msg_id=sent[kind], op="nack") == conflict(sent[kind], "is done")
            assert ack(client, box, msg_id=sent["later"], op="extend") == conflict(sent["later"], "was given back")
            assert ids(client, box, "empty") == []
            assert ids(client, box, "latest") == []
    with again(broker, data) as broker, broker.client() as client:
        broker.pass_time(57_000)
        got = dict(leased(client, box))
        broker.pass_time(40_000)
        got |= dict(leased(client, box))
        assert got == {sent["held"]: 2, sent["later"]: 2, sent["new"]: 3}
        done(client, box, msg_ids=[sent["long"]])  # whoever it was, it is leased still
        done(client, box, msg_id=sent["worn"], op="revive")
        assert leased(client, box) == [(sent["worn"], 1)]


def test_what_runs_out_while_the_broker_is_down_has_run_out_when_it_is_back(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with ThreadedServer(DiskStore(data)) as broker, broker.client() as client:
        box = create(client, ttl=0)
        first, second, third = send(client, box, b"", b"", b"")
        gone = request(client, MESSAGES + box, b"", {"mq9-ttl": "5"})["msg_id"]
        assert ids(client, box) == [first, second, third, gone]
        for _ in range(15):
            done(client, box, msg_id=third, op="nack")
            assert ids(client, box) == [third]
        done(client, box, msg_id=second, op="nack", delay_ms=20_000)
    broker.clock.now += 30_000 + TICK_MS
    with again(broker, data) as broker, broker.client() as client:
        assert leased(client, box) == [(first, 2), (second, 2)]
        assert dead(client, box) == [(third, 16, "the lease ran out")]
        assert ack(client, box, msg_id=gone) == GONE


def test_a_worker_that_has_lost_its_connection_extends_its_lease_over_another(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with ThreadedServer(DiskStore(data)) as broker, broker.client() as second:
        box = create(second, ttl=0)
        one, two = send(second, box, b"", b"")
        with broker.client() as first:
            assert ids(first, box, lease_ms=1_000) == [one, two]
            done(second, box, msg_id=two, op="extend", attempt=1)
            assert ack(first, box, msg_id=two, op="extend") == conflict(two, "is another worker's")
        until(lambda: len(broker.server.hub.sessions) == 1, "the first one does not go")
        done(second, box, msg_id=one, op="extend", lease_ms=60_000)
        broker.outlast(30_000)
        with broker.client() as third:
            assert ids(third, box, count=1) == [two]
    with again(broker, data) as broker, broker.client() as client:
        done(client, box, msg_id=one, op="extend")  # nobody knows who had it before the restart


def test_groups_of_a_mailbox_that_ended_are_not_there_after_a_restart(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with ThreadedServer(DiskStore(data)) as broker, broker.client() as client:
        create(client, name="box", ttl=10)
        sent = send(client, "box", b"")
        assert ids(client, "box") == sent
    broker.clock.now += 10_000
    with again(broker, data) as broker, broker.client() as client:
        create(client, name="box", ttl=10)
        assert ack(client, "box", msg_id=1)["error"] == "no such group"
        assert broker.call(lambda: broker.server.office.groups.groups) == 0
        assert request(client, "$mq9.AI.MAILBOX.REMOVE.box") == {"deleted": True}
    with again(broker, data) as broker, broker.client() as client:
        assert broker.call(lambda: broker.server.office.groups.groups) == 0


class FailingStore(DiskStore):
    """The real engine on a disk that can be made to fail."""

    fails: Callable[[Commit], bool] = staticmethod(lambda commit: False)

    async def commit(self, commit: Commit) -> None:
        if self.fails(commit):
            raise StoreFailedError("the disk is gone")
        await super().commit(commit)


def test_an_ack_that_was_refused_and_said_again_is_durable(tmp_path: Path) -> None:
    """The first time the commit failed: whatever the broker made of it, the second answer is a promise."""
    data = tmp_path / "data"
    store = FailingStore(data)
    with ThreadedServer(store) as broker, broker.client() as client:
        box = create(client, ttl=0)
        sent = send(client, box, b"", b"", b"")
        assert ids(client, box) == sent
        store.fails = lambda commit: True
        said: list[Any] = [ack(client, box, msg_ids=[sent[0]]), ack(client, box, msg_id=sent[1], op="nack")]
        said.append(request(client, LEASE + box, wanted()))
        assert [each["code"] for each in said] == [503] * 3
        store.fails = lambda commit: False
        done(client, box, msg_ids=[sent[0]])
        assert leased(client, box)[0][0] == sent[1]
        done(client, box, msg_ids=sent[:2])
    broker.clock.now += 100_000
    with again(broker, data) as broker, broker.client() as client:
        assert leased(client, box) == [(sent[2], 2)]


def test_that_a_message_is_done_is_not_told_before_it_is_durable(tmp_path: Path) -> None:
    """Should the commit fail, or the broker end before it, the message may be given out again after all."""
    data = tmp_path / "data"
    store = FailingStore(data)
    with ThreadedServer(store) as broker, broker.client() as client, broker.client() as other:
        box = create(client, ttl=0)
        (msg_id,) = send(client, box, b"")
        assert ids(client, box) == [msg_id]
        store.fails = lambda commit: True
        assert ack(client, box, msg_id=msg_id)["code"] == 503
        assert ack(other, box, msg_id=msg_id, op="nack")["code"] == 503
        store.fails = lambda commit: False
        assert ack(other, box, msg_id=msg_id, op="nack") == conflict(msg_id, "is done")
    with again(broker, data) as broker, broker.client() as client:
        assert ack(client, box, msg_id=msg_id, op="nack") == conflict(msg_id, "is done")


def test_a_lease_whose_commit_fails_is_nobodys(tmp_path: Path) -> None:
    store = FailingStore(tmp_path / "data")
    with ThreadedServer(store) as broker, broker.client() as client, broker.client() as other:
        box = create(client, ttl=0)
        sent = send(client, box, b"", b"")
        store.fails = lambda commit: True
        for _ in range(20):  # more often than a message has attempts
            assert request(client, LEASE + box, wanted())["code"] == 503
        join(other, box)
        other.fence()
        store.fails = lambda commit: False
        frames = other.fence()
        got = leased(client, box)
        assert len(frames) + len(got) <= 2
        assert {attempt for _, attempt in got} <= {1}
        assert {msg_id for msg_id, _ in got} <= set(sent)
