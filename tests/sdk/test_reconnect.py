"""Brokers that are killed and come back: nothing handed over comes again, and nothing is missed."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from mq9 import AsyncMailbox, ConnectionFailed, Mailbox, MailboxError, MailboxInfo, Message
from mq9.sdk import operations
from tests.sdk.proxy import Proxy
from tests.sdk.support import READ_AHEAD, eventually, run

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.broker import BrokerProcess


def restart(broker: BrokerProcess, client: Mailbox, meanwhile: Callable[[], object] = lambda: None) -> None:
    """Kill the broker, and start it on the same port once the client knows that it is gone."""
    broker.kill()
    eventually(lambda: is_disconnected(client))
    meanwhile()
    broker.start()


def is_disconnected(client: Mailbox) -> bool:
    """Whether the client knows that its connection is lost."""
    link = client._operations.connection._link
    return link is None or link.lost.is_set()


def wait_for_the_end(box: MailboxInfo) -> None:
    """Wait until the time of a mailbox has passed, by the clock that the broker will look at."""
    eventually(lambda: time.time() > box["expires_at"])


def test_calls_after_a_restart_connect_again(own_broker: BrokerProcess) -> None:
    with Mailbox(own_broker.url) as client:
        box = client.create(ttl=60)
        sent = client.send(box, "before")
        restart(own_broker, client)
        assert [message.msg_id for message in client.fetch(box)] == [sent]
        assert client.send(box, "after") > sent


def test_a_call_while_the_broker_is_away_waits_for_it(own_broker: BrokerProcess) -> None:
    with Mailbox(own_broker.url, timeout=20) as client:
        box = client.create(ttl=60)
        own_broker.kill()
        threading.Timer(0.5, own_broker.start).start()
        assert client.fetch(box) == []


def test_a_call_while_the_broker_stays_away_fails_in_its_time(own_broker: BrokerProcess) -> None:
    with Mailbox(own_broker.url) as client:
        box = client.create(ttl=60)
        own_broker.kill()
        eventually(lambda: is_disconnected(client))
        started = time.monotonic()
        with pytest.raises(ConnectionFailed, match="connection refused"):
            client.send(box, "x", timeout=0.5)
        assert 0.4 < time.monotonic() - started < 3


def test_an_iterator_goes_on_after_a_restart(own_broker: BrokerProcess) -> None:
    with Mailbox(own_broker.url) as client:
        box = client.create(ttl=600)
        sent = [client.send(box, n, priority="high" if n % 3 else "low") for n in range(30)]
        receiver = client.receive(box)
        got = [next(receiver).msg_id for _ in range(10)]
        restart(own_broker, client)
        sent.extend(client.send(box, n) for n in range(30, 40))
        got.extend(next(receiver).msg_id for _ in range(30))
        assert receiver.next(timeout=0.2) is None
        assert len(got) == len(set(got))
        assert sorted(got) == sorted(sent)


def test_a_callback_gets_each_message_once_through_many_restarts(own_broker: BrokerProcess) -> None:
    got: queue.Queue[int] = queue.Queue()
    with Mailbox(own_broker.url, timeout=20) as client:
        box = client.create(ttl=600)
        handle = client.receive(box, lambda message: got.put(message.msg_id))
        sent: list[int] = []
        for n in range(5):
            sent.extend(client.send(box, n) for _ in range(20))
            restart(own_broker, client)
        sent.append(client.send(box, "last"))
        seen = [got.get(timeout=20) for _ in sent]
        assert seen == sent
        assert handle.running
        handle.stop()
        assert got.empty()


def test_what_was_read_ahead_comes_once_although_the_broker_repeats_it(own_broker: BrokerProcess) -> None:
    """More is stored than fits into the read-ahead, and the broker goes away while messages wait and while they do not."""
    with Mailbox(own_broker.url, timeout=20) as client:
        box = client.create(ttl=600)

        async def send(sender: AsyncMailbox, count: int, priority: str) -> list[int]:
            return list(await asyncio.gather(*(sender.send(box, n, priority=priority) for n in range(count))))

        low = run(lambda sender: send(sender, READ_AHEAD + 300, "low"), client)
        high = run(lambda sender: send(sender, READ_AHEAD + 300, "high"), client)
        receiver = client.receive(box)
        got = [next(receiver).msg_id for _ in range(100)]
        restart(own_broker, client)
        got.extend(next(receiver).msg_id for _ in range(READ_AHEAD + 250))
        restart(own_broker, client)
        got.extend(next(receiver).msg_id for _ in range(len(low) + len(high) - len(got)))
        assert receiver.next(timeout=0.2) is None
        assert got == high + low


def test_sending_goes_on_through_restarts_and_stores_everything_once(own_broker: BrokerProcess) -> None:
    sent: list[tuple[int, str]] = []
    stop = threading.Event()
    with Mailbox(own_broker.url, timeout=20) as client:
        box = client.create(ttl=600)

        def send() -> None:
            while not stop.is_set():
                payload = f"{len(sent)}"
                sent.append((client.send(box, payload), payload))

        sender = threading.Thread(target=send)
        sender.start()
        for _ in range(5):
            before = len(sent)
            eventually(lambda before=before: len(sent) > before + 50, 20)  # type: ignore[misc]
            own_broker.kill()
            own_broker.start()
        stop.set()
        sender.join()
        assert [(message.msg_id, message.payload) for message in client.fetch(box, limit=None)] == sent


def test_a_send_whose_answer_was_lost_is_stored_once(broker: BrokerProcess, mailbox: Mailbox) -> None:
    box = mailbox.create(ttl=600)
    with Proxy(broker.url) as proxy, Mailbox(proxy.url, timeout=20) as client:
        client.fetch(box)
        proxy.cut_at(b'"msg_id"')
        first = client.send(box, "x")
        assert (proxy.cuts, first.duplicate) == (1, False)
        proxy.cut_at(b'"msg_id"')
        second = client.send(box, "y", dedup_id="mine")
        assert (proxy.cuts, second.duplicate) == (2, True)
    assert [(message.msg_id, message.payload) for message in mailbox.fetch(box)] == [(first, "x"), (second, "y")]


def test_a_send_is_not_repeated_when_the_broker_may_have_forgotten_the_first(
    broker: BrokerProcess, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "REPEATABLE_S", 0.0)
    box = mailbox.create(ttl=600)
    with Proxy(broker.url) as proxy, Mailbox(proxy.url, timeout=20) as client:
        client.fetch(box)
        proxy.cut_at(b'"msg_id"')
        with pytest.raises(ConnectionFailed, match="whether it was done is not known"):
            client.send(box, "x")
    assert [message.payload for message in mailbox.fetch(box)] == ["x"]


def test_what_cannot_be_repeated_fails_at_once_when_the_connection_is_lost(broker: BrokerProcess) -> None:
    """A second private mailbox would be one that nobody knows of."""
    with Proxy(broker.url) as proxy, Mailbox(proxy.url, timeout=60) as client:
        box = client.create(ttl=600)
        proxy.cut_at(b'"mail_id"')
        with pytest.raises(ConnectionFailed, match="whether it was done is not known"):
            client.create(ttl=600)
        assert client.fetch(box) == []


def test_a_mailbox_that_was_removed_meanwhile_ends_the_iteration(own_broker: BrokerProcess) -> None:
    with Mailbox(own_broker.url, timeout=20) as client, Mailbox(own_broker.url, timeout=20) as other:
        box = client.create(ttl=1)
        receiver = client.receive(box)
        restart(own_broker, client, lambda: wait_for_the_end(box))
        assert list(receiver) == []
        assert receiver.ended in {"gone", "expired"}
        with pytest.raises(MailboxError):
            other.fetch(box)


def test_watching_tells_what_happened_meanwhile(own_broker: BrokerProcess, unique: Callable[[str], str]) -> None:
    prefix = unique("watched")
    told: queue.Queue[tuple[str, str]] = queue.Queue()
    with Mailbox(own_broker.url, timeout=20) as client:
        stays = client.create(600, name=f"{prefix}.stays", public=True)
        ends = client.create(1, name=f"{prefix}.ends", public=True)
        with client.list(lambda event: told.put((event.event, str(event.mailbox))), prefix=prefix):
            assert {told.get(timeout=5), told.get(timeout=5)} == {("created", stays), ("created", ends)}
            restart(own_broker, client, lambda: wait_for_the_end(ends))
            assert told.get(timeout=20) == ("expired", ends)
            new = client.create(600, name=f"{prefix}.new", public=True)
            assert told.get(timeout=5) == ("created", new)
            assert told.empty()


def test_closing_while_the_broker_is_away_does_not_hang(own_broker: BrokerProcess) -> None:
    client = Mailbox(own_broker.url)
    got: list[Any] = []
    box = client.create(ttl=600)
    receiver = client.receive(box)
    handle = client.receive(box, got.append)
    own_broker.kill()
    eventually(lambda: is_disconnected(client))
    started = time.monotonic()
    client.close()
    assert time.monotonic() - started < 3
    assert list(receiver) == []
    assert not handle.running


def test_a_slow_callback_survives_restarts(own_broker: BrokerProcess) -> None:
    go_on = threading.Event()
    got: list[Any] = []

    def on_message(message: Message) -> None:
        got.append(message.payload)
        assert go_on.wait(30)

    with Mailbox(own_broker.url, timeout=20) as client:
        box = client.create(ttl=600)
        handle = client.receive(box, on_message)
        client.send(box, 1)
        eventually(lambda: got == [1])
        client.send(box, 2)
        restart(own_broker, client)
        client.send(box, 3)
        go_on.set()
        eventually(lambda: len(got) == 3, 20)
        handle.stop()
    assert got == [1, 2, 3]
