"""FETCHes that wait: what wakes them, how what comes is shared, and what is left of those whose client is gone."""

from __future__ import annotations

import asyncio
import gc
import json
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from mq9.store.disk_engine import DiskStore
from tests.server.support import ThreadedServer, create, publish, request, until
from tests.server.working import (
    LEASE,
    MESSAGES,
    ack,
    answer,
    begin_lease,
    conflict,
    done,
    ids,
    join,
    lease,
    leased,
    send,
    send_at_once,
    wanted,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.rawclient import RawClient

EMPTY = {"error": "", "messages": []}


def told(client: RawClient) -> list[tuple[int, int]]:
    """(msg_id, attempt) of what a FETCH that waited is answered."""
    said = answer(client)
    assert said.get("error") == "", said
    return [(item["msg_id"], item["attempt"]) for item in said["messages"]]


def waiting(broker: ThreadedServer, mail_id: str) -> int:
    """How many FETCHes wait for something to come to a mailbox, as far as the broker knows."""
    server = broker.server

    def count() -> int:
        mailbox = server.office.get(mail_id.encode(), server.now())
        assert mailbox is not None
        return 0 if mailbox.groups is None else mailbox.groups.waiting

    return broker.call(count)


def test_it_is_woken_by_an_arrival_and_by_whatever_else_there_is_to_give() -> None:
    with ThreadedServer() as broker, broker.client() as client, broker.client() as worker:
        box = create(client, ttl=0)
        begin_lease(client, box)
        (msg_id,) = send(worker, box, b"")
        assert told(client) == [(msg_id, 1)]
        client.send(b"UNSUB later\r\n")

        def say(op: str) -> None:
            with broker.client() as somebody:
                done(somebody, box, msg_id=msg_id, op=op)

        def give_back() -> None:
            say("nack")

        def let_the_lease_run_out() -> None:
            broker.outlast(30_000)

        def revive() -> None:
            say("dead")
            assert worker.fence() == []
            say("revive")

        def send_back() -> None:
            say("ack")
            assert ids(client, box, count=1, deliver="from_id", from_id=msg_id + 1, force_deliver=True) == []
            assert worker.fence() == []
            begin_lease(client, box, deliver="earliest", force_deliver=True, inbox="behind", wait=100)

        attempt = 1
        for wake in (give_back, let_the_lease_run_out, revive):
            begin_lease(worker, box, inbox=f"in.{attempt}")
            wake()
            attempt = 1 if wake is revive else attempt + 1
            assert told(worker) == [(msg_id, attempt)]
        begin_lease(worker, box, inbox="last")
        send_back()
        assert told(worker) == [(msg_id, 1)]  # whoever waits already comes first
        broker.outlast(100)
        assert told(client) == []


def test_a_delay_that_is_over_wakes_it() -> None:
    with ThreadedServer() as broker, broker.client() as client:
        box = create(client)
        (msg_id,) = send(client, box, b"")
        assert ids(client, box) == [msg_id]
        done(client, box, msg_id=msg_id, op="nack", delay_ms=400)
        begin_lease(client, box)
        broker.pass_time(400)
        assert client.fence() == []
        broker.outlast(0)
        assert told(client) == [(msg_id, 2)]


def test_its_time_is_up() -> None:
    with ThreadedServer() as broker, broker.client() as client:
        box = create(client)
        begin_lease(client, box, wait=600)
        broker.pass_time(599)
        assert client.fence() == []
        broker.pass_time(1)
        assert answer(client) == EMPTY
        assert waiting(broker, box) == 0
        sent = send(client, box, b"")
        assert client.fence() == []
        assert leased(client, box) == [(sent[0], 1)]
        begin_lease(client, box, inbox="default", config=None)
        broker.pass_time(500)
        assert answer(client) == EMPTY


@pytest.mark.parametrize("group", ["g", ""])
def test_the_mailbox_ends_while_it_waits(group: str) -> None:
    with ThreadedServer() as broker, broker.client() as client, broker.client() as other:
        for end in ("REMOVE", "time"):
            box = create(client, ttl=100)
            begin_lease(other, box, group, inbox=end)
            if end == "time":
                broker.pass_time(100_000)
            else:
                assert request(client, f"$mq9.AI.MAILBOX.REMOVE.{box}") == {"deleted": True}
            assert answer(other) == {"error": "no such mailbox", "code": 404}
            assert other.fence() == []


def test_a_client_has_sixty_four_of_them_that_wait_and_no_more() -> None:
    with ThreadedServer() as broker, broker.client() as client:
        box = create(client)
        body = json.dumps(wanted(wait=3_600_000)).encode()
        client.send(b"SUB in.* 1\r\n")
        for number in range(64):
            client.send(publish(LEASE + box, body, f"in.{number}"))
        assert client.fence() == []
        too_many = {"error": "at most 64 FETCHes of one client may be under way", "code": 429}
        assert request(client, LEASE + box, wanted("other")) == too_many
        assert request(client, LEASE + box, wanted("")) == too_many
        assert request(client, LEASE + box, wanted("other", deliver="from_time", from_time=1)) == too_many
        client.send(b"UNSUB 1\r\n")  # taken back, all of them
        assert ids(client, box, "other") == []
        assert waiting(broker, box) == 0
        for number in range(200):
            begin_lease(client, box, inbox=f"own.{number}")
            client.send(f"UNSUB own.{number}\r\n".encode())
        (msg_id,) = send(client, box, b"")
        assert leased(client, box) == [(msg_id, 1)]


def test_many_that_look_for_a_time_at_once_count_too() -> None:
    with ThreadedServer() as broker, broker.client() as client:
        box = create(client)
        send_at_once(client, box, [b"x"] * 500)
        body = json.dumps(wanted("", count=1, deliver="from_time", from_time=9e9)).encode()
        client.send(b"SUB in.* 1\r\n" + b"".join(publish(LEASE + box, body, f"in.{number}") for number in range(300)))
        said = Counter(answer(client)["error"] for _ in range(300))
        assert set(said) <= {"", "at most 64 FETCHes of one client may be under way"}
        assert said[""] >= 64
        assert len(said) == 2, "three hundred were under way at once"


def hang_up(client: RawClient) -> None:
    """The client says goodbye."""
    client.hang_up()


def reset(client: RawClient) -> None:
    """The client crashes."""
    client.reset()


def take_back(client: RawClient) -> None:
    """The client stays, and wants no answer any more."""
    client.send(b"UNSUB later\r\n")
    assert client.fence() == []


@pytest.mark.parametrize("leave", [hang_up, reset, take_back])
def test_who_leaves_while_waiting_is_given_nothing(leave: Callable[[RawClient], None]) -> None:
    with ThreadedServer() as broker, broker.client() as client:
        box = create(client)
        leaver = broker.client()
        begin_lease(leaver, box)
        begin_lease(client, box)
        leave(leaver)
        (msg_id,) = send_elsewhere(broker, box)
        assert told(client) == [(msg_id, 1)]
        done(client, box, msg_id=msg_id)
        if leave is take_back:
            leaver.hang_up()
        else:
            assert broker.call(lambda: broker.server.leasing._under_way) == {}


def send_elsewhere(broker: ThreadedServer, mail_id: str) -> list[int]:
    """Send a message from a client of its own."""
    with broker.client() as client:
        return send(client, mail_id, b"")


def test_who_leaves_just_before_the_answer_gives_back_what_was_chosen() -> None:
    """In the very turn in which it asked, and no attempt is counted."""
    with ThreadedServer() as broker, broker.client() as client:
        box = create(client)
        sent = send(client, box, b"", b"")
        body = json.dumps(wanted()).encode()
        for _ in range(20):  # more often than a message has attempts
            leaver = broker.client()
            leaver.send(b"SUB gone 1\r\n" + publish(LEASE + box, body, "gone") + b"UNSUB 1\r\n")
            assert leaver.fence() == []
            leaver.hang_up()
        create(client)  # durable behind all that was asked before
        for msg_id in sent:
            assert ack(client, box, msg_id=msg_id) == conflict(msg_id, "was not handed out")
        assert leased(client, box) == [(sent[0], 1), (sent[1], 1)]
        broker.outlast(30_000)
        leaver = broker.client()
        leaver.send(b"SUB gone 1\r\n" + publish(LEASE + box, body, "gone") + b"UNSUB 1\r\n")
        assert leaver.fence() == []
        create(client)
        leaver.hang_up()
        done(client, box, msg_id=sent[0])  # the lease that ran out: nobody has really had it since
        assert leased(client, box) == [(sent[1], 2)]


def test_nothing_is_left_of_clients_that_came_and_went() -> None:
    with ThreadedServer() as broker, broker.client() as client:
        box = create(client, ttl=0)
        server = broker.server

        def fetches() -> int:
            gc.collect()
            return sum(1 for thing in gc.get_objects() if type(thing).__name__ in {"_Lease", "_Reading"})

        for _ in range(100):
            with broker.client() as guest:
                begin_lease(guest, box)
                begin_lease(guest, box, "", inbox="reads")
                begin_lease(guest, box, "other", inbox="works")
                join(guest, box, "queue")
                assert guest.fence() == []
        client.fence()
        broker.call(lambda: None)
        while broker.call(lambda: len(server.hub.sessions)) > 1:
            pass
        assert waiting(broker, box) == 0
        assert broker.call(lambda: server.leasing._under_way) == {}
        broker.pass_time(1)
        assert broker.call(fetches) <= 128  # of 300: some timers that have lost their cause wait to be swept out
        assert broker.call(lambda: server.office.timers.count) <= 128


def test_nothing_is_left_of_a_broker_that_has_stopped() -> None:
    """Its mailboxes, groups and timers refer to each other, and not all of them can be seen by the garbage collector."""

    def kept() -> Counter[str]:
        gc.collect()
        kinds = Counter(type(thing).__name__ for thing in gc.get_objects())
        return Counter({kind: kinds[kind] for kind in ("PostOffice", "Group", "Handout", "_Lease")})

    before = kept()
    with ThreadedServer() as broker, broker.client() as client:
        box = create(client, ttl=0)
        send(client, box, b"leased")
        assert len(ids(client, box)) == 1
        begin_lease(client, box)
        join(client, box, "queue")
        assert waiting(broker, box) == 1
    del broker
    assert kept() == before


def test_a_loop_of_fetches_on_an_empty_mailbox_leaves_nothing() -> None:
    with ThreadedServer() as broker, broker.client() as client:
        box = create(client, ttl=0)
        for number in range(1_000):
            begin_lease(client, box, wait=3_600_000 - number)
            client.send(publish(MESSAGES + box, b""))
            ((msg_id, _),) = told(client)
            client.send(b"UNSUB later\r\n")
            done(client, box, msg_id=msg_id)
            request(client, f"$mq9.AI.MAILBOX.DELETE.{box}.{msg_id}")
            broker.pass_time(1)
        assert broker.call(lambda: broker.server.office.timers.count) < 300


# sharing


def test_ten_that_wait_and_ten_messages_in_one_commit_are_one_each() -> None:
    with ThreadedServer() as broker, broker.client() as client, ExitStack() as stack:
        box = create(client)
        workers = [stack.enter_context(broker.client()) for _ in range(10)]
        for worker in workers:
            begin_lease(worker, box)
        client.send(b"".join(publish(MESSAGES + box, b"%d" % number) for number in range(10)))
        got = [told(worker) for worker in workers]
        assert sorted(len(messages) for messages in got) == [1] * 10
        assert len({messages[0] for messages in got}) == 10


def test_an_idle_one_gets_the_next_message_at_once_and_takes_turns() -> None:
    with ThreadedServer() as broker, broker.client() as client, ExitStack() as stack:
        box = create(client)
        workers = [stack.enter_context(broker.client()) for _ in range(10)]
        for worker in workers:
            begin_lease(worker, box)
        for worker in workers * 3:  # who waits longest comes first
            (msg_id,) = send(client, box, b"")
            assert told(worker) == [(msg_id, 1)]
            worker.send(b"UNSUB later\r\n")
            begin_lease(worker, box)


def test_a_backlog_is_shared_by_those_who_come_for_it() -> None:
    """Who waits when thousands arrive gets a share of them, not all; nobody who keeps asking starves."""
    with ThreadedServer() as broker, broker.client() as client, ExitStack() as stack:
        box = create(client)
        workers = [stack.enter_context(broker.client()) for _ in range(10)]
        for worker in workers:
            begin_lease(worker, box, count=50)
        send_at_once(client, box, [b"x"] * 2_000)
        counts: Counter[int] = Counter()
        seen: set[int] = set()
        while len(seen) < 2_000:
            for number, worker in enumerate(workers):
                got = leased(worker, box, count=50) if counts[number] else told(worker)
                counts[number] += len(got)
                assert not seen & {msg_id for msg_id, _ in got}
                seen |= {msg_id for msg_id, _ in got}
        assert min(counts.values()) >= 150, counts


def test_who_fetches_and_who_receives_in_one_group_both_get_work() -> None:
    with ThreadedServer() as broker, broker.client() as client, broker.client() as member, broker.client() as worker:
        box = create(client)
        join(member, box)
        assert member.fence() == []
        shares: Counter[str] = Counter()
        for _ in range(40):
            begin_lease(worker, box, count=1)
            send(client, box, b"")
            frames = member.fence()
            shares["member"] += len(frames)
            mine = worker.fence()
            shares["worker"] += len(mine)
            assert len(frames) + len(mine) == 1
            worker.send(b"UNSUB later\r\n")
        assert shares["member"] >= 10, shares
        assert shares["worker"] >= 10, shares
        assert lease(client, box) == []


class SlowReads(DiskStore):
    """The real engine on a disk whose reads wait until they are let go."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.let_go = asyncio.Event()
        self.let_go.set()

    async def read_block(self, number: int) -> bytes:
        await self.let_go.wait()
        return await super().read_block(number)


def test_what_was_leased_to_another_while_it_was_read_is_not_in_the_answer(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with ThreadedServer(DiskStore(data)) as broker, broker.client() as client:
        box = create(client, ttl=0)
        sent = send(client, box, b"", b"")
    store = SlowReads(data)
    with ThreadedServer(store) as broker, broker.client() as first, broker.client() as second:
        broker.call(store.let_go.clear)
        begin_lease(first, box, count=1, lease_ms=1_000)
        broker.outlast(1_000)
        begin_lease(second, box, count=2)
        broker.call(store.let_go.set)
        assert told(second) == [(sent[0], 2), (sent[1], 1)]
        assert told(first) == []


@pytest.mark.parametrize("group", ["g", None])
def test_it_goes_on_waiting_when_all_that_was_chosen_for_it_has_ended(tmp_path: Path, group: str | None) -> None:
    data = tmp_path / "data"
    with ThreadedServer(DiskStore(data)) as broker, broker.client() as client:
        box = create(client, ttl=0)
        for _ in range(2):
            request(client, MESSAGES + box, b"", {"mq9-ttl": "10"})
    store = SlowReads(data)
    with ThreadedServer(store) as broker, broker.client() as client, broker.client() as other:
        broker.call(store.let_go.clear)
        begin_lease(client, box, group, wait=60_000)
        broker.pass_time(10_000)
        broker.call(store.let_go.set)
        assert client.fence() == []
        until(lambda: waiting(broker, box) == 1, "it does not wait")
        (msg_id,) = send(other, box, b"")
        assert [given for given, _ in told(client)] == [msg_id]
        if group is None:  # what there is, is given to it again
            assert ids(client, box, group) == [msg_id]
            return
        begin_lease(client, box, group, wait=50_000, inbox="another")
        broker.pass_time(50_000)
        assert told(client) == []


def test_at_its_end_it_is_answered_though_what_was_chosen_for_it_has_ended(tmp_path: Path) -> None:
    """Not before something that is there, and comes after that, is given to it."""
    with ThreadedServer() as broker, broker.client() as client:
        box = create(client, ttl=0)
        ended, there = send(client, box, b"", b"")
        for expected in ([there], []):
            frames = b"SUB gone 7\r\n" + publish(f"$mq9.AI.MAILBOX.DELETE.{box}.{ended}", b"", "gone")
            # Both in one turn: the lease is chosen before the deletion is in force, and answered after it.
            client.send(frames + b"SUB got 8\r\n" + publish(LEASE + box, json.dumps(wanted(count=1)).encode(), "got"))
            answers = [answer(client), answer(client)]
            (got,) = [[item["msg_id"] for item in said["messages"]] for said in answers if "messages" in said]
            assert got == expected
            client.send(b"UNSUB 7\r\nUNSUB 8\r\n")
            ended = there
            done(client, box, msg_ids=expected, op="nack") if expected else None
