"""Receivers that compete: each message goes to one member of a group, and counts as done when its socket has taken it."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from mq9.protocol import PRIORITIES
from mq9.store.disk_engine import DiskStore
from tests.server.support import ThreadedServer, body_of, create, headers_of, request, until
from tests.server.working import MESSAGES, ack, conflict, ids, join, leased, send, send_at_once
from tests.store.post import MAILBOX, Post
from tests.support.broker import BrokerProcess

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.rawclient import RawClient


def unfinished(broker: ThreadedServer, mail_id: str, group: str = "g") -> int:
    """How many messages a group has given out that are not known to be done."""
    server = broker.server

    def count() -> int:
        mailbox = server.office.get(mail_id.encode(), server.now())
        assert mailbox is not None
        found = server.office.groups.find(mailbox, group.encode())
        return 0 if found is None else len(found.open)

    return broker.call(count)


def take(client: RawClient, count: int) -> list[bytes]:
    """The payloads of the next messages."""
    found = []
    for _ in range(count):
        frame = client.frame()
        assert frame is not None, "the broker hung up"
        found.append(body_of(frame))
    return found


def test_each_message_goes_to_one_member_and_thousands_are_spread_evenly() -> None:
    with ThreadedServer() as broker, broker.client() as client, ExitStack() as stack:
        box = create(client)
        members = [stack.enter_context(broker.client()) for _ in range(10)]
        plain = stack.enter_context(broker.client())
        other = stack.enter_context(broker.client())
        plain.send(f"SUB {MESSAGES}{box} 1\r\n".encode())
        join(other, box, "other")
        for member in members:
            join(member, box)
            assert member.fence() == []
        sent = [b"%d" % number for number in range(3_000)]
        send_at_once(client, box, sent)
        until(lambda: unfinished(broker, box) == 0, "not all was handed over")
        got = [[body_of(frame) for frame in member.fence()] for member in members]
        assert sorted(body for bodies in got for body in bodies) == sorted(sent)
        assert all(200 <= len(bodies) <= 400 for bodies in got), [len(bodies) for bodies in got]
        assert all(bodies == sorted(bodies, key=int) for bodies in got)
        # Others are not affected.
        assert take(plain, 3_000) == sent
        assert take(other, 3_000) == sent


def test_the_order_is_by_priority_and_pending_counts_what_the_group_has() -> None:
    with ThreadedServer() as broker, broker.client() as client, broker.client() as member:
        box = create(client)
        for number in range(100):
            send(client, box, b"", priority=PRIORITIES[number * 7 % 5])
        join(member, box)
        frames = [frame for _ in range(100) if (frame := member.frame()) is not None]
        headers = [headers_of(frame) for frame in frames]
        order = [(PRIORITIES.index(each["mq9-priority"]), int(each["mq9-msg-id"])) for each in headers]
        assert order == sorted(order)
        assert [int(each["mq9-pending"]) for each in headers] == list(range(99, -1, -1))


def test_members_on_one_level_get_that_level_only() -> None:
    with ThreadedServer() as broker, broker.client() as client, broker.client() as high, broker.client() as low:
        box = create(client)
        join(high, box, level="high")
        join(low, box, level="low")
        assert high.fence() == low.fence() == []
        for word in PRIORITIES * 3:
            send(client, box, word.encode(), priority=word)
        assert take(high, 3) == [b"high"] * 3
        assert take(low, 3) == [b"low"] * 3
        until(lambda: unfinished(broker, box) == 0, "not all was handed over")
        assert high.fence() == low.fence() == []
        rest = leased(client, box)
        assert len(rest) == 9


def test_unsub_with_a_maximum_counts_and_leaves_the_rest_to_others() -> None:
    with ThreadedServer() as broker, broker.client() as client, broker.client() as few, broker.client() as rest:
        box = create(client)
        sent = [b"%d" % number for number in range(20)]
        send_at_once(client, box, sent)
        few.send(f"SUB {MESSAGES}{box} g 1\r\nUNSUB 1 3\r\n".encode())
        assert take(few, 3) == sent[:3]
        join(rest, box)
        assert take(rest, 17) == sent[3:]
        assert few.fence() == rest.fence() == []
        few.send(f"SUB {MESSAGES}{box} g 1\r\nUNSUB 1\r\n".encode())
        few.fence()


def test_a_queue_that_is_joined_and_left_all_day_leaves_nothing_behind() -> None:
    with ThreadedServer() as broker, broker.client() as client, broker.client() as member:
        box = create(client)
        for number in range(300):
            send(client, box, b"%d" % number)
            member.send(f"SUB {MESSAGES}{box} g {number}\r\nUNSUB {number} 1\r\n".encode())
            assert take(member, 1) == [b"%d" % number]
        until(lambda: unfinished(broker, box) == 0, "not all was handed over")
        server = broker.server
        mailbox = broker.call(lambda: server.office.get(box.encode(), server.now()))
        assert mailbox is not None
        group = server.office.groups.find(mailbox, b"g")
        assert group is not None
        assert broker.call(lambda: group.members) == []
        assert len(broker.call(lambda: group.stored)) <= 1


# members that go away


@pytest.mark.parametrize("way", ["hang_up", "reset"])
def test_what_a_members_socket_had_not_taken_goes_to_another_and_nothing_is_lost_or_repeated(way: str) -> None:
    """It never read, megabytes were written for it, and it is gone."""
    with ThreadedServer() as broker, broker.client() as client, broker.client() as second:
        box = create(client)
        sent = [b"%d " % number + b"x" * 100_000 for number in range(200)]
        first = broker.client()
        join(first, box)
        assert first.fence() == []
        send_at_once(client, box, sent)
        until(lambda: unfinished(broker, box) > 5, "nothing is on its way")
        settled = unfinished(broker, box)
        time.sleep(0.1)  # until its socket takes no more
        on_its_way = unfinished(broker, box)
        assert 0 < on_its_way <= settled + 200
        handed = []
        if way == "reset":
            getattr(first, way)()
        else:
            # What was in its socket is read; more must not come, for it has said that it is done.
            first.finish()
            handed = [body_of(frame) for frame in rest_of(first)]
            first.hang_up()
        join(second, box)
        got: list[tuple[bytes, bool]] = []
        while not got or not got[-1][1]:
            frame = second.frame()
            assert frame is not None
            got.append((body_of(frame), headers_of(frame)["mq9-pending"] == "0"))
        bodies = [body for body, _ in got]
        assert len(set(bodies)) == len(bodies)
        assert bodies == sorted(bodies, key=lambda body: int(body.split()[0]))
        assert len(bodies) >= 100  # sockets hold 10 MB at most
        assert bodies[-1] == sent[-1]
        if way == "hang_up":
            missing = set(sent) - set(bodies) - set(handed)
            assert not missing, "the socket had taken it, and it was not read"
            assert len(handed) + len(bodies) <= 201  # the last one may have been cut off in the middle
        else:
            assert len(bodies) >= on_its_way


def rest_of(client: RawClient) -> list[bytes]:
    """Whole frames until the broker hangs up, in the middle of one or not."""
    found = []
    try:
        while (frame := client.frame()) is not None:
            found.append(frame)
    except AssertionError:
        pass
    return found


def test_a_slow_member_does_not_hold_up_fast_ones() -> None:
    with ThreadedServer() as broker, broker.client() as client, broker.client() as slow, broker.client() as fast:
        box = create(client)
        join(slow, box)
        join(fast, box)
        assert slow.fence() == fast.fence() == []
        sent = [b"%d " % number + b"x" * 100_000 for number in range(300)]
        for first in range(0, 300, 20):
            send_at_once(client, box, sent[first : first + 20])
        quick = take(fast, 220)  # the slow one's buffers hold 8 MB at most
        late = [body_of(frame) for frame in slow.fence()] + [body_of(frame) for frame in fast.fence()]
        while len(quick) + len(late) < 300:
            late += [body_of(frame) for client_ in (slow, fast) for frame in client_.fence()]
        assert sorted(quick + late) == sorted(sent)


def test_a_message_larger_than_a_flush_is_done_when_it_is_read() -> None:
    """The first one that a member gets, and nothing is written to it afterwards."""
    with ThreadedServer(max_payload=8_000_000) as broker, broker.client() as client:
        box = create(client)
        member = broker.client()
        join(member, box)
        assert member.fence() == []
        send(client, box, b"x" * 3_000_000)
        (body,) = take(member, 1)
        assert len(body) == 3_000_000
        until(lambda: unfinished(broker, box) == 0, "it is not done")
        member.reset()
        assert ids(client, box) == []


def test_the_mailbox_ends_while_a_member_has_not_read() -> None:
    with ThreadedServer() as broker, broker.client() as client, broker.client() as member, broker.client() as other:
        box = create(client)
        join(member, box)
        assert member.fence() == []
        send_at_once(client, box, [b"%d " % number + b"x" * 100_000 for number in range(200)])
        until(lambda: unfinished(broker, box) > 0, "nothing is on its way")
        assert request(client, f"$mq9.AI.MAILBOX.REMOVE.{box}") == {"deleted": True}
        frames = member.fence()  # reads all that was written for it
        assert frames
        assert other.fence() == []
        again = create(client)
        join(member, again, sid=2)
        send(client, again, b"next")
        assert take(member, 1) == [b"next"]


def test_an_ack_of_what_is_on_its_way_to_a_receiver_makes_it_done() -> None:
    with ThreadedServer() as broker, broker.client() as client:
        box = create(client)
        member = broker.client()
        join(member, box)
        assert member.fence() == []
        sent = []
        for number in range(100):
            sent += send(client, box, b"%d " % number + b"x" * 100_000)
        until(lambda: unfinished(broker, box) > 2, "nothing is on its way")
        time.sleep(0.1)
        handed = 100 - len(waiting_for(broker, box))
        last = sent[handed - 1]
        for op in ("nack", "extend", "dead"):
            assert ack(client, box, msg_id=last, op=op) == conflict(last, "is on its way to a receiver")
        assert ack(client, box, msg_ids=[last]) == {"error": ""}
        member.reset()
        until(lambda: unfinished(broker, box) > 0, "nothing came back")
        got: list[int] = []
        while more := ids(client, box):
            got += more
        assert last not in got
        assert got[-1] == sent[-1]
        assert got == sorted(got)


def waiting_for(broker: ThreadedServer, mail_id: str) -> list[int]:
    """The msg_ids that the group `g` has not given to anybody."""
    server = broker.server

    def find() -> list[int]:
        mailbox = server.office.get(mail_id.encode(), server.now())
        assert mailbox is not None
        group = server.office.groups.find(mailbox, b"g")
        assert group is not None
        every = [item[0] for item in mailbox.page(0, 31, 1_000_000, server.now())]
        return [msg_id for msg_id in every if group.state_of(msg_id, 3)[0] == "waiting"]

    return broker.call(find)


def test_a_group_sent_back_does_not_repeat_what_is_on_its_way_to_a_receiver() -> None:
    with ThreadedServer() as broker, broker.client() as client, broker.client() as member:
        box = create(client)
        join(member, box)
        assert member.fence() == []
        sent = [b"%d " % number + b"x" * 100_000 for number in range(100)]
        send_at_once(client, box, sent)
        until(lambda: unfinished(broker, box) > 2, "nothing is on its way")
        time.sleep(0.1)
        first = ids(client, box, count=1, force_deliver=True)
        assert first == [1]
        # It gets what it would have got, and once more what had been handed over to it before the group was sent back.
        counts: Counter[bytes] = Counter()
        while waiting_for(broker, box) or unfinished(broker, box) > 1:
            counts.update(body_of(frame) for frame in member.fence())
        counts.update(body_of(frame) for frame in member.fence())
        counts[sent[0]] += 1  # the one that was leased
        assert set(counts) == set(sent)
        twice = [int(body.split()[0]) for body, count in counts.items() if count == 2]
        assert max(counts.values()) <= 2
        assert twice == list(range(len(twice))), "what is given anew is what had been handed over"
        assert len(twice) < 99


def test_what_was_handed_over_after_the_group_was_sent_back_stays_done(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with ThreadedServer(DiskStore(data)) as broker, broker.client() as client, broker.client() as member:
        box = create(client, ttl=0)
        join(member, box)
        assert member.fence() == []
        send_at_once(client, box, [b"%d " % number + b"x" * 100_000 for number in range(100)])
        until(lambda: unfinished(broker, box) > 2, "nothing is on its way")
        member.send(b"UNSUB 1\r\n")
        until(lambda: members(broker, box) == 0, "it is a member still")
        # The group is sent back behind what is on its way, which is then done while it lies above the cursor.
        first = ids(client, box, count=1, force_deliver=True)
        member.fence()
        until(lambda: list(states(broker, box).values()).count("leased") == 1, "something is on its way still")
        assert ack(client, box, msg_ids=first) == {"error": ""}
        done = [msg_id for msg_id, state in states(broker, box).items() if state == "done"]
        assert len(done) > 2
    again = ThreadedServer(DiskStore(data))
    again.clock.now = broker.clock.now
    with again:
        again.pass_time(10_000)
        found = states(again, box)
        assert [found[msg_id] for msg_id in done] == ["done"] * len(done)
        # What is only kept in mind is nothing to wake up for.
        due = again.call(again.server.office.next_due)
        assert due is None or due > again.clock.now


def states(broker: ThreadedServer, mail_id: str) -> dict[int, str]:
    """By msg_id, what the group `g` says of each message that it keeps in mind."""

    def find() -> dict[int, str]:
        mailbox = broker.server.office.get(mail_id.encode(), broker.server.now())
        assert mailbox is not None
        group = broker.server.office.groups.find(mailbox, b"g")
        assert group is not None
        return {msg_id: group.state_of(msg_id, 3)[0] for msg_id in group.open}

    return broker.call(find)


def members(broker: ThreadedServer, mail_id: str) -> int:
    """How many receivers the group `g` has."""

    def count() -> int:
        mailbox = broker.server.office.get(mail_id.encode(), broker.server.now())
        assert mailbox is not None
        group = broker.server.office.groups.find(mailbox, b"g")
        assert group is not None
        return len(group.members)

    return broker.call(count)


# what a group remembers


def test_progress_outlives_members_and_the_broker(tmp_path: Path) -> None:
    payloads = [b"%d" % number for number in range(30)]
    with ThreadedServer(DiskStore(tmp_path / "data")) as broker, broker.client() as client:
        box = create(client, ttl=0)
        send_at_once(client, box, payloads)
        got = []
        for number in range(5):
            with broker.client() as member:
                member.send(f"SUB {MESSAGES}{box} g 1\r\nUNSUB 1 {number + 1}\r\n".encode())
                got += take(member, number + 1)
                until(lambda: unfinished(broker, box) == 0, "not all was handed over")
        assert got == payloads[:15]
    with ThreadedServer(DiskStore(tmp_path / "data")) as broker, broker.client() as client:
        join(client, box)
        assert take(client, 15) == payloads[15:]
        assert client.fence() == []
        with broker.client() as other:
            join(other, box, "new")
            assert take(other, 30) == payloads


def test_what_a_client_has_read_is_not_handed_over_again_after_a_kill(tmp_path: Path) -> None:
    """Once the broker has answered anything that it asked after reading."""
    with BrokerProcess(tmp_path / "data") as broker:
        seen: list[bytes] = []
        with Post(broker.url) as post:
            post.new(name="box")
            post.send_all("box", [b"%d" % number for number in range(50)])
        for number in range(5):
            with Post(broker.url) as post:
                post.client.send(b"SUB %b.MSG.box g 7\r\nUNSUB 7 10\r\n" % MAILBOX.encode())
                for _ in range(10):
                    frame = post.client.frame()
                    assert frame is not None
                    seen.append(body_of(frame))
                post.client.fence()
                post.new(name=f"fence-{number}")
                post.new(name=f"fence-{number}-again")
                broker.kill()
            broker.start()
        assert seen == [b"%d" % number for number in range(50)]
