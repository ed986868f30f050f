"""Request and reply through mailboxes: the parties need not be online together."""

from __future__ import annotations

import asyncio
import queue
import threading
from typing import TYPE_CHECKING

import pytest

from mq9 import AsyncMailbox, Mailbox, Message, NotFound, Timeout
from tests.sdk.proxy import Proxy
from tests.sdk.support import eventually, run
from tests.sdk.test_reconnect import restart

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.broker import BrokerProcess


@pytest.fixture
def other(broker: BrokerProcess) -> Iterator[Mailbox]:
    """The other party, over a connection of its own."""
    with Mailbox(broker.url) as client:
        yield client


def ask(client: Mailbox, box: str, answers: queue.Queue[Message], **options: object) -> threading.Thread:
    """Request something of `box` in a thread; the answer goes to `answers`."""

    def run() -> None:
        answers.put(client.request(box, {"question": 1}, timeout=30, **options))  # type: ignore[arg-type]

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def question(client: Mailbox, box: str) -> Message:
    """The one message of the mailbox, when it has come."""
    eventually(lambda: client.fetch(box))
    [found] = client.fetch(box)
    return found


def test_a_request_gets_its_answer_and_leaves_nothing(mailbox: Mailbox, other: Mailbox) -> None:
    box = mailbox.create(ttl=600)
    with other.receive(box, lambda message: message.reply({"twice": 2 * message["n"]}), resume="g"):
        answer = mailbox.request(box, {"n": 21}, timeout=10)
    assert (answer["twice"], answer.correlation_id is not None) == (42, True)
    [asked] = mailbox.fetch(box)
    assert asked.reply_to is not None
    assert asked.reply_to.startswith("d-")
    assert asked.correlation_id == answer.correlation_id
    with pytest.raises(NotFound):
        asked.reply("too late")


def test_whoever_answers_may_come_later(mailbox: Mailbox, other: Mailbox) -> None:
    box = mailbox.create(ttl=600)
    answers: queue.Queue[Message] = queue.Queue()
    asking = ask(mailbox, box, answers, priority="high", tags=["t"], correlation_id="mine")
    asked = question(other, box)
    assert (asked.priority, asked.correlation_id) == ("high", "mine")
    assert asked.reply_to is not None
    other.send(asked.reply_to, "for somebody else", correlation_id="another")
    other.send(asked.reply_to, "by hand")
    assert answers.get(timeout=10).payload == "by hand"
    asking.join(10)


def test_an_answer_that_comes_after_a_restart_of_the_broker(own_broker: BrokerProcess) -> None:
    answers: queue.Queue[Message] = queue.Queue()
    with Mailbox(own_broker.url, timeout=20) as client, Mailbox(own_broker.url, timeout=20) as other:
        box = client.create(ttl=600)
        asking = ask(client, box, answers)
        asked = question(other, box)
        restart(own_broker, client)
        asked.reply("after all")
        assert answers.get(timeout=20).payload == "after all"
        asking.join(10)


def test_an_answer_that_comes_while_the_connection_is_lost(broker: BrokerProcess, other: Mailbox) -> None:
    box = other.create(ttl=600)
    answers: queue.Queue[Message] = queue.Queue()
    with Proxy(broker.url) as proxy, Mailbox(proxy.url, timeout=20) as client:
        asking = ask(client, box, answers)
        asked = question(other, box)
        proxy.cut_at(b"answered once")
        asked.reply("answered once")
        assert answers.get(timeout=20).payload == "answered once"
        assert proxy.cuts == 1
        asking.join(10)
    assert len(other.fetch(box)) == 1


@pytest.mark.parametrize("lost", [b'"mail_id"', b'"msg_id"'])
def test_a_request_that_loses_its_connection_is_made_once(broker: BrokerProcess, other: Mailbox, lost: bytes) -> None:
    box = other.create(ttl=600)
    answers: queue.Queue[Message] = queue.Queue()
    with Proxy(broker.url) as proxy, Mailbox(proxy.url, timeout=20) as client:
        client.fetch(box)
        proxy.cut_at(lost)
        asking = ask(client, box, answers)
        question(other, box).reply("yes")
        assert answers.get(timeout=20).payload == "yes"
        assert proxy.cuts == 1
        asking.join(10)
    assert len(other.fetch(box)) == 1


def test_a_request_that_nobody_answers(mailbox: Mailbox) -> None:
    box = mailbox.create(ttl=600)
    with pytest.raises(Timeout, match=r"message \d+ was not answered within 0.3 s"):
        mailbox.request(box, "x", timeout=0.3)
    [asked] = mailbox.fetch(box)
    with pytest.raises(NotFound):
        asked.reply("too late")


def test_a_request_to_a_mailbox_that_is_not_there(mailbox: Mailbox) -> None:
    with pytest.raises(NotFound):
        mailbox.request("m-" + "a" * 26, "x", timeout=5)


def test_many_requests_at_once_get_each_its_own_answer(mailbox: Mailbox) -> None:
    async def use(client: AsyncMailbox) -> None:
        box = await client.create(600)
        async with client.receive(box, lambda message: message.reply(message["n"] * 2), resume="g", concurrency=8):
            answers = await asyncio.gather(*(client.request(box, {"n": n}, timeout=20) for n in range(40)))
        assert [answer.payload for answer in answers] == [2 * n for n in range(40)]

    run(use, mailbox)


def test_a_request_that_is_cancelled_removes_its_mailbox(mailbox: Mailbox) -> None:
    box = mailbox.create(ttl=600)

    async def use(client: AsyncMailbox) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await client.request(box, "x", timeout=30)

    run(use, mailbox)
    with pytest.raises(NotFound):
        question(mailbox, box).reply("too late")
