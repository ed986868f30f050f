"""When things end: the test sets the clock, so that nothing here waits for it."""

from __future__ import annotations

import json

from mq9.server.clock import SteadyClock
from tests.server.support import START_MS, ThreadedServer, body_of, create, publish, request


def test_a_mailbox_ends_to_the_millisecond_and_its_name_is_free() -> None:
    with ThreadedServer() as broker, broker.client() as client:
        name = create(client, name="short", ttl=10)
        assert request(client, f"$mq9.AI.MAILBOX.MSG.{name}", b"hello")["msg_id"] == 1
        broker.clock.now = START_MS + 9_999
        assert len(request(client, f"$mq9.AI.MAILBOX.LIST.{name}")["messages"]) == 1
        broker.clock.now = START_MS + 10_000  # no timer has fired: what is over is over all the same
        assert request(client, f"$mq9.AI.MAILBOX.LIST.{name}")["code"] == 404
        assert request(client, f"$mq9.AI.MAILBOX.MSG.{name}", b"late")["code"] == 404
        again = request(client, "$mq9.AI.MAILBOX.CREATE", {"name": "short", "ttl": 5})
        assert again["is_new"] is True
        assert again["expires_at"] == START_MS // 1_000 + 15
        assert request(client, f"$mq9.AI.MAILBOX.LIST.{name}")["messages"] == []
        broker.pass_time(1)
        assert broker.server.office.messages == 0
        assert request(client, f"$mq9.AI.MAILBOX.MSG.{name}", b"new")["msg_id"] == 2


def test_an_expired_mailbox_gives_everything_back() -> None:
    with ThreadedServer() as broker, broker.client() as client:
        for _ in range(50):
            name = create(client, ttl=1)
            request(client, f"$mq9.AI.MAILBOX.MSG.{name}", b"x" * 1_000)
        broker.pass_time(1_004)
        office = broker.server.office
        assert (len(office.mailboxes), office.messages, office.message_bytes, office.timers.count) == (0, 0, 0, 0)
        client.fence()
        create(client)  # a commit, with which empty blocks are dropped
        client.fence()
        assert office.blocks.blocks == 0
        assert office.expired_mailboxes == 50


def test_renewing_moves_the_end_and_only_renewing_does() -> None:
    with ThreadedServer() as broker, broker.client() as client:
        name = create(client, name="heart", ttl=10)
        broker.pass_time(8_000)
        assert request(client, "$mq9.AI.MAILBOX.CREATE", {"name": name, "ttl": 99})["ttl"] == 10
        assert request(client, "$mq9.AI.MAILBOX.CREATE", {"name": name, "renew": True})["is_new"] is False
        broker.pass_time(9_999)
        assert request(client, f"$mq9.AI.MAILBOX.LIST.{name}")["messages"] == []
        renewed = request(client, "$mq9.AI.MAILBOX.CREATE", {"name": name, "renew": True, "ttl": 3})
        assert (renewed["ttl"], renewed["expires_at"]) == (3, broker.clock.now // 1_000 + 3)
        broker.pass_time(3_000)
        assert request(client, f"$mq9.AI.MAILBOX.LIST.{name}")["code"] == 404


def test_a_heartbeat_for_ever_leaves_no_timers_behind() -> None:
    with ThreadedServer() as broker, broker.client() as client:
        name = create(client, name="heart", ttl=60)
        for _ in range(1_000):
            broker.pass_time(1_000)
            request(client, "$mq9.AI.MAILBOX.CREATE", {"name": name, "renew": True})
        assert broker.server.office.timers.count == 1


def test_deleting_what_would_expire_leaves_no_timers_behind() -> None:
    with ThreadedServer() as broker, broker.client() as client:
        name = create(client, ttl=0)
        for _ in range(1_000):
            sent = request(client, f"$mq9.AI.MAILBOX.MSG.{name}", b"x", {"mq9-ttl": "86400"})
            request(client, f"$mq9.AI.MAILBOX.DELETE.{name}.{sent['msg_id']}")
        broker.pass_time(0)
        assert broker.server.office.expiries.count < 200


def test_a_message_ends_by_its_own_ttl_and_never_outlives_its_mailbox() -> None:
    with ThreadedServer() as broker, broker.client() as client:
        name = create(client, ttl=60)
        subject = f"$mq9.AI.MAILBOX.MSG.{name}"
        request(client, subject, b"brief", {"mq9-ttl": "5"})
        request(client, subject, b"long", {"mq9-ttl": "600"})
        request(client, subject, b"no end of its own", {"mq9-ttl": "0"})
        listed = request(client, f"$mq9.AI.MAILBOX.LIST.{name}")["messages"]
        assert [item["expires_at"] - START_MS // 1_000 for item in listed] == [5, 60, 60]
        broker.clock.now += 5_000
        with broker.client() as receiver:
            receiver.send(f"SUB {subject} 1\r\n".encode())
            assert [body_of(receiver.frame() or b"") for _ in range(2)] == [b"long", b"no end of its own"]
            assert receiver.fence() == []
        broker.pass_time(4)
        assert broker.server.office.messages == 2
        assert broker.server.office.expired_messages == 1


def test_a_receiver_that_is_behind_is_told_zero_pending_by_the_last_message_that_comes() -> None:
    """`mq9-pending` counts what is still to come: what has expired does not."""
    with ThreadedServer() as broker, broker.client() as client:
        name = create(client, ttl=60)
        subject = f"$mq9.AI.MAILBOX.MSG.{name}"
        request(client, subject, b"stays")
        for _ in range(3):
            request(client, subject, b"goes", {"mq9-ttl": "1"})
        broker.clock.now += 1_000
        client.send(f"SUB {subject} 1\r\n".encode())
        frame = client.frame()
        assert frame is not None
        assert b"mq9-pending: 0\r\n" in frame


def test_who_watches_a_mailbox_is_told_of_its_end_and_then_no_more() -> None:
    with ThreadedServer() as broker, broker.client() as client, broker.client() as watcher:
        name = create(client, name="watched", ttl=10, public=True)
        watcher.send(f"SUB $mq9.AI.MAILBOX.EVENTS.{name} 1\r\nSUB $mq9.AI.PUBLIC.LIST 2\r\n".encode())
        assert json.loads(body_of(watcher.fence()[0]))["event"] == "created"
        request(client, "$mq9.AI.MAILBOX.CREATE", {"name": name, "renew": True})
        assert [json.loads(body_of(frame))["event"] for frame in watcher.fence()] == ["renewed", "renewed"]
        broker.pass_time(10_004)
        assert [json.loads(body_of(frame))["event"] for frame in watcher.fence()] == ["expired", "expired"]
        create(client, name="watched", ttl=10)
        assert watcher.fence() == []  # unlisted now, and the subscription to its events ended with the first


def test_the_end_is_told_when_it_has_come_though_nobody_asks_for_anything() -> None:
    broker = ThreadedServer()
    broker.clock = SteadyClock()  # type: ignore[assignment] # the one thing that a clock of the test's own cannot show
    with broker, broker.client() as client:
        name = create(client, ttl=1)
        client.send(f"SUB $mq9.AI.MAILBOX.EVENTS.{name} 1\r\n".encode())
        assert json.loads(body_of(client.frame() or b""))["event"] == "expired"


def test_removal_and_expiry_end_receiving() -> None:
    with ThreadedServer() as broker, broker.client() as client, broker.client() as receiver:
        name = create(client, name="gone", ttl=10)
        receiver.send(f"SUB $mq9.AI.MAILBOX.MSG.{name} 1\r\n".encode())
        receiver.fence()
        assert request(client, f"$mq9.AI.MAILBOX.REMOVE.{name}") == {"deleted": True}
        create(client, name="gone", ttl=10)
        client.send(publish(f"$mq9.AI.MAILBOX.MSG.{name}", b"for the new one"))
        client.fence()
        assert receiver.fence() == []
        receiver.send(f"SUB $mq9.AI.MAILBOX.MSG.{name} 1\r\n".encode())
        assert body_of(receiver.frame() or b"") == b"for the new one"


def test_a_hundred_thousand_timers_of_one_second_fire_in_slices() -> None:
    with ThreadedServer() as broker, broker.client() as client:
        name = create(client, ttl=0)
        office = broker.server.office

        def fill() -> None:
            mailbox = office.get(name.encode(), broker.clock.now)
            assert mailbox is not None
            for number in range(100_000):
                office.put(mailbox, number % 5, b"", broker.clock.now + 500_000 + number % 1_000, broker.clock.now)

        broker.call(fill)
        client.fence()
        while request(client, f"$mq9.AI.MAILBOX.LIST.{name}", {"after": 99_999, "limit": 1})["next"] is not None:
            pass
        broker.clock.now += 501_000
        slices = broker.call(lambda: sum(1 for _ in iter(broker.server.tick, False)))
        assert slices >= 100_000 // 4_096
        assert office.expired_messages == 100_000
        assert request(client, f"$mq9.AI.MAILBOX.LIST.{name}")["messages"] == []
