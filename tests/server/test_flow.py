"""Who does not read, who sends too fast, who says nothing: each costs the broker little and the others nothing."""

from __future__ import annotations

import asyncio
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from tests.server.support import ThreadedServer, body_of, create, headers_of, publish, request
from tests.server.test_receiving import SlowStore
from tests.support.broker import BrokerProcess
from tests.support.rawclient import RawClient

if TYPE_CHECKING:
    from mq9.store.contract import Commit


def resident_bytes(pid: int, kind: str = "RssAnon") -> int:
    """What a process holds in memory of its own, the page cache not counted."""
    found = re.search(rf"{kind}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def test_a_core_subscriber_that_does_not_read_is_cut_off_and_the_others_go_on() -> None:
    with (
        ThreadedServer(max_pending=1 << 20) as broker,
        broker.client() as publisher,
        broker.client() as lazy,
        broker.client() as good,
    ):
        lazy.send(b"SUB news 1\r\n")
        good.send(b"SUB news 1\r\n")
        lazy.fence()
        good.fence()
        for number in range(300):
            publisher.send(publish("news", b"%d" % number + b" " * 100_000))
            assert int(body_of(good.frame() or b"")) == number
        assert broker.server.hub.slow_consumers == 1
        assert lazy.bytes_until_hung_up() < 20 << 20


def test_a_mailbox_receiver_that_does_not_read_is_never_cut_off() -> None:
    with ThreadedServer(max_pending=1 << 20) as broker, broker.client() as client, broker.client() as lazy:
        name = create(client)
        subject = f"$mq9.AI.MAILBOX.MSG.{name}"
        lazy.send(f"SUB {subject} 1\r\n".encode())
        lazy.fence()
        for number in range(300):
            client.send(publish(subject, b"%d" % number + b" " * 100_000))
        client.fence()
        request(client, subject, b"300")
        assert [int(body_of(lazy.frame() or b"")) for _ in range(301)] == list(range(301))
        assert broker.server.hub.slow_consumers == 0


def test_replies_to_a_client_that_does_not_read_do_not_pile_up() -> None:
    with ThreadedServer(max_pending=4 << 20) as broker, broker.client() as client:
        name = create(client)
        for _ in range(9):
            request(client, f"$mq9.AI.MAILBOX.MSG.{name}", b"x" * 100_000)
        with broker.client() as lazy:
            lazy.send(b"SUB in 1\r\n")
            for _ in range(400):
                lazy.send(publish(f"$mq9.AI.MAILBOX.LIST.{name}", b"", "in"))
            # Others are answered meanwhile, and this one when it reads: what it asked for too much is refused.
            assert request(client, f"$mq9.AI.MAILBOX.LIST.{name}")["next"] is None
            most = broker.call(lambda: max(session.state().pending for session in broker.server.hub.sessions.values()))
            assert most < 4 << 20
            answers = [lazy.frame() or b"" for _ in range(400)]
            refused = [answer for answer in answers if b"Nats-Service-Error-Code: 429" in answer]
            assert len(refused) >= 200
            assert len({len(answer) for answer in answers if answer not in refused}) == 1
            assert lazy.fence() == []
        assert broker.server.hub.slow_consumers == 0
        assert request(client, f"$mq9.AI.MAILBOX.LIST.{name}")["next"] is None


class StuckStore(SlowStore):
    """The real engine behind a door that the test opens."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.open_door = threading.Event()

    async def commit(self, commit: Commit) -> None:
        await asyncio.to_thread(self.open_door.wait)
        await super().commit(commit)


def test_a_sender_that_outruns_the_disk_is_made_to_wait(tmp_path: Path) -> None:
    store = StuckStore(tmp_path / "data")
    store.open_door.set()
    with ThreadedServer(store, max_backlog=1 << 20) as broker, broker.client() as client:
        name = create(client)
        store.open_door.clear()
        flood = publish(f"$mq9.AI.MAILBOX.MSG.{name}", b"x" * 1_000) * 1_000
        sent = threading.Thread(target=client.send, args=(flood * 40,))
        sent.start()
        with broker.client() as other:
            while broker.server.office.backlog <= 1 << 20:
                other.fence()
            for _ in range(200):
                assert other.fence() == []  # others are served while the sender waits
            # One read of the socket may go past the limit, no more.
            assert broker.server.office.backlog < (1 << 20) + (1 << 19)
            assert broker.call(lambda: len(broker.server.hub.throttled)) == 1
        store.open_door.set()
        sent.join(30)
        assert not sent.is_alive()
        client.fence()
        last = request(client, f"$mq9.AI.MAILBOX.MSG.{name}", b"last")["msg_id"]
        assert last == 40_001
        assert broker.server.office.messages == 40_001
        assert broker.call(lambda: len(broker.server.hub.throttled)) == 0


def test_a_client_that_asks_for_more_than_the_disk_can_do_is_made_to_wait(tmp_path: Path) -> None:
    """What is no message waits for the disk, too: creations, deletions, acks."""
    store = StuckStore(tmp_path / "data")
    store.open_door.set()
    with ThreadedServer(store, max_backlog=1 << 18) as broker, broker.client() as client, broker.client() as other:
        fence = create(client)
        store.open_door.clear()
        flood = b"SUB in.1 1\r\n" + publish("$mq9.AI.MAILBOX.CREATE", b"{}", "in.1") * 40_000
        sent = threading.Thread(target=client.send, args=(flood,))
        sent.start()
        while broker.server.office.backlog <= 1 << 18:
            other.fence()
        for _ in range(200):
            assert other.fence() == []  # others are served while the client waits
        assert (
            request(other, f"$mq9.AI.MAILBOX.LIST.{fence}")["messages"] == []
        )  # who asks for nothing to be stored least of all
        assert other.fence() == []
        # One read of the socket may go past the limit, no more: 5,500 requests of 48 bytes.
        assert broker.server.office.backlog < (1 << 18) + 5_500 * 512
        assert broker.call(lambda: len(broker.server.hub.throttled)) == 1
        assert broker.server.hub.reached["max_backlog"] == 1
        store.open_door.set()
        for _ in range(40_000):
            assert client.frame() is not None
        sent.join(30)
        assert not sent.is_alive()
        assert len(broker.server.office.mailboxes) == 40_001
        assert "msg_id" in request(other, f"$mq9.AI.MAILBOX.MSG.{fence}", b"x")
        assert broker.call(lambda: broker.server.office.backlog) == 0


def test_a_silent_client_is_asked_and_then_given_up() -> None:
    with ThreadedServer() as broker, broker.client() as silent, broker.client() as busy:
        silent.answers_pings = False
        hub, loop = broker.server.hub, broker.loop

        def pass_minutes(minutes: float) -> None:
            for session in list(hub.sessions.values()):
                session.check_alive(loop.time() + 60 * minutes, 120.0, 2)

        broker.call(lambda: pass_minutes(0))  # both were active until now
        # One PING measures the round trip; who does not answer it is not yet taken for dead.
        broker.call(lambda: pass_minutes(1.9))
        for minutes in (2.1, 4.1):
            busy.fence()
            broker.call(lambda minutes=minutes: pass_minutes(minutes))  # type: ignore[misc]
        broker.call(lambda: pass_minutes(6.1))
        assert silent.rest() == [b"-ERR 'Stale Connection'"]
        assert silent.pings == 3
        assert busy.fence() == []


def test_one_connection_too_many_is_told_so() -> None:
    with ThreadedServer(max_connections=2) as broker, broker.client(), broker.client() as second:
        third = RawClient(broker.server.port)
        third.opened()
        assert third.rest() == [b"-ERR 'maximum connections exceeded'"]
        third.hang_up()
        second.hang_up()
        connect_when_there_is_room(broker).hang_up()


def connect_when_there_is_room(broker: ThreadedServer) -> RawClient:
    """A connection as soon as the broker has seen that one is free."""
    while True:
        client = RawClient(broker.server.port)
        client.opened()
        client.send(b"PING\r\n")
        if client.frame() == b"PONG":
            return client
        client.hang_up()


def test_ten_thousand_subscriptions_and_not_one_more() -> None:
    with ThreadedServer(max_subscriptions=10_000) as broker, broker.client() as client, broker.client() as other:
        client.send(b"".join(b"SUB many.%d.* %d\r\n" % (n, n) for n in range(10_001)))
        assert client.fence() == [b"-ERR 'maximum subscriptions exceeded'"]
        other.send(publish("many.9999.x", b"hello"))
        assert body_of(client.frame() or b"") == b"hello"
        client.hang_up()
        while broker.call(lambda: broker.server.hub.router.count):
            other.fence()


def test_an_unfinished_frame_costs_what_was_sent_of_it() -> None:
    with BrokerProcess(None) as process:
        port = urlsplit(process.url).port
        assert port is not None
        clients = [RawClient(port).connect() for _ in range(200)]
        before = resident_bytes(process.pid)
        for client in clients:
            client.send(b"PUB somewhere 1048576\r\nonly this")
        with RawClient(port).connect() as other:
            for _ in range(20):
                other.fence()
        assert resident_bytes(process.pid) - before < 8 << 20
        for client in clients:
            client.hang_up()


@pytest.mark.slow
def test_a_million_messages_wait_for_a_receiver_that_stopped_reading(tmp_path: Path) -> None:
    """The receiver costs nothing while it sleeps, and then gets all of them, the highest priority first."""
    total, batch = 1_000_000, 1_000
    words = ("low", "normal", "high")
    with BrokerProcess(tmp_path / "data") as process:
        port = urlsplit(process.url).port
        assert port is not None
        with RawClient(port, patience_s=60).connect() as client, RawClient(port, patience_s=60).connect() as sleeper:
            name = create(client, ttl=0)
            subject = f"$mq9.AI.MAILBOX.MSG.{name}"
            sleeper.send(f"SUB {subject} 1\r\n".encode())
            sleeper.fence()
            before = resident_bytes(process.pid)
            for start in range(0, total, batch):
                word = words[start // batch % 3]
                client.send(b"".join(publish(f"{subject}.{word}", b"%064d" % n) for n in range(start, start + batch)))
            client.fence()
            assert request(client, subject, b"%064d" % total)["msg_id"] == total + 1
            grown = resident_bytes(process.pid) - before
            # 40 bytes of index for a message; 32 MB of blocks kept, up to 64 MB of backlog, up to 64 MB that the allocator keeps of
            # it. A copy of each message as it is written, of some 260 bytes, would be 250 MB more.
            assert grown < total * 40 + (160 << 20), f"{grown >> 20} MB"
            seen: dict[str, int] = dict.fromkeys(words, 0)
            order: list[str] = []
            last: dict[str, Any] = dict.fromkeys(words, -1)
            for _ in range(total + 1):
                frame = sleeper.frame()
                assert frame is not None
                headers = headers_of(frame)
                word, number = headers["mq9-priority"], int(body_of(frame))
                assert number > last[word]
                last[word] = number
                seen[word] += 1
                if not order or order[-1] != word:
                    order.append(word)
            assert sum(seen.values()) == total + 1
            # What was in the sockets before is in the order of sending; from then on it is one run for each priority.
            assert order[-3:] == ["high", "normal", "low"]
            assert headers["mq9-pending"] == "0"
    assert sum(path.stat().st_size for path in (tmp_path / "data" / "journal").iterdir()) > total * 64
