"""Many messages at once: all stored once and in order, or it is said of each of them whether it is."""

from __future__ import annotations

import threading
from itertools import count, islice
from typing import TYPE_CHECKING, Any

import pytest

from mq9 import AsyncMailbox, BadRequest, Mailbox, NotFound, Sent, Timeout, TooLarge
from mq9.sdk import operations
from tests.sdk.proxy import Proxy
from tests.sdk.support import eventually, run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.broker import BrokerProcess

LOT = 50


@pytest.fixture
def short_lots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Payloads are taken fewer at a time, so that a test has several lots."""
    monkeypatch.setattr(operations, "LOT", LOT)


def test_all_are_stored_in_their_order(mailbox: Mailbox, short_lots: None) -> None:
    box = mailbox.create(ttl=60)
    payloads: list[Any] = [f"text {n}" if n % 3 else {"n": n} for n in range(3 * LOT + 7)]
    sent = mailbox.send_many(box.drop_id, iter(payloads), priority="high", tags=["a"], headers={"x": "y"})
    assert all(isinstance(message, Sent) for message in sent)
    stored = mailbox.fetch(box, limit=None)
    assert [message.msg_id for message in stored] == sent
    assert sorted(sent) == sent
    assert [message.payload for message in stored] == payloads
    assert {message.priority for message in stored} == {"high"}
    assert {message.headers["x"] for message in stored} == {"y"}
    assert len(mailbox.fetch(box, limit=None, tags=["a"])) == len(payloads)
    assert mailbox.send_many(box, []) == []


def test_the_asynchronous_client_does_the_same(mailbox: Mailbox) -> None:
    async def use(client: AsyncMailbox) -> None:
        box = await client.create(ttl=60)
        sent = await client.send_many(box, (b"%d" % n for n in range(100)), ttl=30)
        assert [message.data for message in await client.fetch(box, limit=None)] == [b"%d" % n for n in range(100)]
        assert sent[-1].pending == 100

    run(use, mailbox)


@pytest.mark.parametrize("payloads", ["text", b"bytes", {"a": 1}, 7, None])
def test_one_payload_is_not_many(mailbox: Mailbox, payloads: Any) -> None:
    with pytest.raises(BadRequest, match="payloads must be several"):
        mailbox.send_many("any", payloads)


def test_one_dedup_id_for_all_is_refused(mailbox: Mailbox) -> None:
    with pytest.raises(BadRequest, match="only one message would be stored"):
        mailbox.send_many("any", ["x"], headers={"Nats-Msg-Id": "1"})


def test_what_is_refused_says_so_of_each(mailbox: Mailbox, short_lots: None) -> None:
    taken = 0

    def payloads() -> Iterator[str]:
        nonlocal taken
        for n in count():
            taken += 1
            if n == LOT + 10:
                mailbox.remove(box)
            yield str(n)

    box = mailbox.create(ttl=60)
    with pytest.raises(NotFound) as refused:
        mailbox.send_many(box, payloads())
    assert taken == 2 * LOT
    assert [message is not None for message in refused.value.sent] == [True] * LOT + [False] * LOT


def test_a_payload_that_is_too_large_stops_its_lot(mailbox: Mailbox, short_lots: None) -> None:
    box = mailbox.create(ttl=60)
    with pytest.raises(TooLarge) as refused:
        mailbox.send_many(box, [*["small"] * LOT, "x" * 2_000_000])
    assert [message is not None for message in refused.value.sent] == [True] * LOT + [False]
    assert len(mailbox.fetch(box, limit=None)) == LOT


def test_a_payload_that_cannot_be_sent_stops_its_lot(mailbox: Mailbox, short_lots: None) -> None:
    box = mailbox.create(ttl=60)
    with pytest.raises(BadRequest, match="bytes, str or JSON") as refused:
        mailbox.send_many(box, [*range(LOT), "good", object(), "never taken"])
    assert [message is not None for message in refused.value.sent] == [True] * LOT + [False] * 2
    assert len(mailbox.fetch(box, limit=None)) == LOT


@pytest.mark.parametrize("payload", [bytes(500_000), "x" * 500_000, ["x" * 500_000]], ids=["bytes", "text", "JSON"])
def test_large_payloads_are_not_held_by_the_thousand(mailbox: Mailbox, payload: Any) -> None:
    stored: list[int] = []

    def payloads() -> Iterator[Any]:
        for _ in range(72):
            stored.append(len(mailbox.fetch(box, limit=None, payload=False)))
            yield payload

    box = mailbox.create(ttl=60)
    mailbox.send_many(box, payloads())
    assert max(taken - there for taken, there in enumerate(stored)) * 500_000 <= operations.LOT_BYTES
    assert stored[-1] > 0


def test_an_error_of_the_users_own_leaves_what_was_sent(mailbox: Mailbox, short_lots: None) -> None:
    def payloads() -> Iterator[str]:
        yield from ("x" for _ in range(LOT))
        raise KeyError("of the user's own")

    box = mailbox.create(ttl=60)
    with pytest.raises(KeyError, match="own"):
        mailbox.send_many(box, payloads())
    assert len(mailbox.fetch(box, limit=None)) == LOT


def test_a_broker_that_does_not_answer_is_waited_for_so_long(own_broker: BrokerProcess) -> None:
    with Proxy(own_broker.url) as proxy, Mailbox(proxy.url) as client:
        box = client.create(ttl=60)
        proxy.hold()
        with pytest.raises(Timeout, match=r"did not answer within 0.3 s") as late:
            client.send_many(box, ["x"] * 10, timeout=0.3)
        assert late.value.sent == [None] * 10


@pytest.mark.parametrize("cuts", [1, 3])
def test_lost_answers_are_asked_for_again_and_nothing_is_stored_twice(
    own_broker: BrokerProcess, short_lots: None, cuts: int
) -> None:
    with Proxy(own_broker.url) as proxy, Mailbox(proxy.url, timeout=20) as client:
        box = client.create(ttl=600)
        total = 1_000

        def payloads() -> Iterator[str]:
            for n in range(total):
                if n and n % (total // (cuts + 1)) == 0:
                    proxy.cut_at(b'"msg_id"')
                yield str(n)

        sent = client.send_many(box, payloads())
        assert proxy.cuts == cuts
        with Mailbox(own_broker.url) as other:
            stored = other.fetch(box, limit=None)
        assert len(stored) == len(set(sent)) == total
        by_id = {message.msg_id: message.payload for message in stored}
        assert [by_id[int(message)] for message in sent] == [str(n) for n in range(total)]
        assert not any(message.duplicate for message in sent)


def test_a_broker_that_is_killed_meanwhile_has_everything_once(own_broker: BrokerProcess) -> None:
    with Mailbox(own_broker.url, timeout=20) as client:
        box = client.create(ttl=600)
        begun = threading.Event()

        def payloads() -> Iterator[str]:
            for n in islice(count(), 6_000):
                if n == 3_000:
                    begun.set()
                yield str(n)

        def kill() -> None:
            assert begun.wait(20)
            own_broker.kill()
            own_broker.start()

        killing = threading.Thread(target=kill)
        killing.start()
        sent = client.send_many(box, payloads())
        killing.join()
        eventually(lambda: len(client.fetch(box, limit=None)) == 6_000)
        by_id = {message.msg_id: message.payload for message in client.fetch(box, limit=None)}
        assert [by_id[int(message)] for message in sent] == [str(n) for n in range(6_000)]
