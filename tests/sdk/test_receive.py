"""Receiving: everything that is stored and then what comes, in both faces, against a real broker."""

from __future__ import annotations

import asyncio
import gc
import logging
import queue
import threading
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from mq9 import AsyncMailbox, AsyncMessage, Mailbox, Message, NotFound
from tests.sdk.support import READ_AHEAD, eventually, eventually_async, run

if TYPE_CHECKING:
    from collections.abc import Callable

NOBODYS = "m-" + "a" * 26


def send_many(mailbox: Mailbox, box: str, payloads: list[Any], priority: str | None = None) -> list[int]:
    """Send all `payloads` at once, in their order, and return the msg_ids."""

    async def use(client: AsyncMailbox) -> list[int]:
        return [
            msg_id
            for start in range(0, len(payloads), 500)
            for msg_id in await asyncio.gather(
                *(client.send(box, payload, priority=priority) for payload in payloads[start : start + 500])
            )
        ]

    return run(use, mailbox)


def test_iterating_gives_what_is_stored_and_then_what_comes(mailbox: Mailbox) -> None:
    box = mailbox.create(ttl=60)
    mailbox.send(box, "stored")
    receiver = mailbox.receive(box)
    assert next(receiver).payload == "stored"
    mailbox.send(box, "live")
    assert next(receiver).payload == "live"
    assert receiver.next(timeout=0.05) is None
    assert receiver.running
    receiver.stop()
    assert not receiver.running
    assert list(receiver) == []


def test_messages_come_highest_priority_first_each_level_in_order(mailbox: Mailbox) -> None:
    box = mailbox.create(ttl=60)
    for priority in ("low", "normal", "critical", "high", "urgent"):
        for n in (1, 2):
            mailbox.send(box, f"{priority} {n}", priority=priority)
    with mailbox.receive(box) as receiver:
        got = [next(receiver).payload for _ in range(10)]
    assert got == [f"{priority} {n}" for priority in ("critical", "urgent", "high", "normal", "low") for n in (1, 2)]


def test_pending_counts_down_to_0(mailbox: Mailbox) -> None:
    box = mailbox.create(ttl=60)
    for n in range(20):
        mailbox.send(box, n, priority="high" if n % 2 else "low")
    with mailbox.receive(box) as receiver:
        pending = [next(receiver).pending for _ in range(20)]
    assert pending[-1] == 0
    assert all(left is not None and left > 0 for left in pending[:-1])


def test_one_level_only(mailbox: Mailbox) -> None:
    box = mailbox.create(ttl=60)
    mailbox.send(box, "high", priority="high")
    mailbox.send(box, "normal")
    with mailbox.receive(box, priority="normal") as receiver:
        mailbox.send(box, "low", priority="low")
        mailbox.send(box, "normal again", priority="normal")
        assert [next(receiver).payload, next(receiver).payload] == ["normal", "normal again"]
        assert receiver.next(timeout=0.05) is None


def test_receiving_consumes_nothing(mailbox: Mailbox) -> None:
    box = mailbox.create(ttl=60)
    mailbox.send(box, "x")
    for _ in range(2):
        with mailbox.receive(box) as receiver:
            assert next(receiver).payload == "x"
    assert len(mailbox.fetch(box)) == 1


def test_several_receivers_each_get_everything(mailbox: Mailbox) -> None:
    box = mailbox.create(ttl=60)
    sent = send_many(mailbox, box, list(range(50)))
    with mailbox.receive(box) as one, mailbox.receive(box) as other:
        assert [next(one).msg_id for _ in sent] == [next(other).msg_id for _ in sent] == sent


def test_a_callback_is_called_with_each_message_on_a_thread_of_its_own(mailbox: Mailbox) -> None:
    box, answers = mailbox.create(ttl=60), mailbox.create(ttl=60)
    got: queue.Queue[tuple[Message, str]] = queue.Queue()

    def on_message(message: Message) -> None:
        message.reply("thanks")  # the callback may use the mailbox
        got.put((message, threading.current_thread().name))

    mailbox.send(box, "stored", reply_to=answers)
    handle = mailbox.receive(box, on_message)
    mailbox.send(box, "live", reply_to=answers)
    messages = [got.get(timeout=5) for _ in range(2)]
    assert [message.payload for message, _ in messages] == ["stored", "live"]
    assert {name for _, name in messages} == {"mq9 receive"}
    assert [answer.payload for answer in mailbox.fetch(answers)] == ["thanks", "thanks"]
    handle.stop()
    mailbox.send(box, "after the stop")
    assert got.empty()


def test_a_callback_that_raises_is_logged_and_gets_the_next_message(
    mailbox: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    box = mailbox.create(ttl=60)
    got: queue.Queue[Any] = queue.Queue()

    def on_message(message: Message) -> None:
        got.put(message.payload)
        raise RuntimeError("no good")

    with caplog.at_level(logging.ERROR, "mq9"), mailbox.receive(box, on_message):
        mailbox.send(box, "one")
        mailbox.send(box, "two")
        assert [got.get(timeout=5), got.get(timeout=5)] == ["one", "two"]
        eventually(lambda: len(caplog.records) == 2)
    assert "no good" in caplog.text
    assert str(box) not in caplog.text


def test_messages_that_wait_for_a_busy_callback_are_taken_highest_first(mailbox: Mailbox) -> None:
    box = mailbox.create(ttl=60)
    got: list[Any] = []
    busy, go_on = threading.Event(), threading.Event()

    def on_message(message: Message) -> None:
        got.append(message.payload)
        busy.set()
        assert go_on.wait(10)

    with mailbox.receive(box, on_message) as receiver:
        mailbox.send(box, "first")
        assert busy.wait(5)
        for priority in ("low", "normal", "high", "critical"):
            mailbox.send(box, priority, priority=priority)
        eventually(lambda: receiver._feed._ahead.pending == 4)  # type: ignore[attr-defined]
        go_on.set()
        eventually(lambda: len(got) == 5)
    assert got == ["first", "critical", "high", "normal", "low"]


def test_an_urgent_message_overtakes_a_backlog_larger_than_the_read_ahead(mailbox: Mailbox) -> None:
    box = mailbox.create(ttl=60)
    count = 4 * READ_AHEAD
    sent = send_many(mailbox, box, list(range(count)), "low")
    with mailbox.receive(box) as receiver:
        first = next(receiver)
        urgent = mailbox.send(box, "now", priority="urgent")
        got = [first.msg_id]
        while urgent not in got:
            got.append(next(receiver).msg_id)
        # What the broker had written before it had the urgent message cannot be overtaken any more, but that is read
        # ahead at once; the urgent one is taken as soon as it arrives.
        assert len(got) < count
        got.extend(next(receiver).msg_id for _ in range(count + 1 - len(got)))
        assert receiver.next(timeout=0.05) is None
    got.remove(urgent)
    assert got == sent


def test_a_backlog_larger_than_the_read_ahead_comes_whole_and_in_order(mailbox: Mailbox) -> None:
    box = mailbox.create(ttl=60)
    low = send_many(mailbox, box, list(range(2 * READ_AHEAD + 7)), "low")
    high = send_many(mailbox, box, list(range(3 * READ_AHEAD)), "high")
    with mailbox.receive(box) as receiver:
        messages = [next(receiver) for _ in high + low]
        assert receiver.next(timeout=0.05) is None
    assert [message.msg_id for message in messages] == high + low
    assert [message.payload for message in messages[:3]] == [0, 1, 2]
    assert messages[-1].pending == 0
    assert all(message.pending for message in messages[:-1])


def test_a_receiver_that_is_not_read_stays_small(mailbox: Mailbox) -> None:
    box = mailbox.create(ttl=60)
    with mailbox.receive(box) as receiver:
        sent = send_many(mailbox, box, [bytes(1000)] * 5000)
        ahead = receiver._feed._ahead  # type: ignore[attr-defined]
        eventually(lambda: ahead.pending == 5000)
        assert len(ahead) == READ_AHEAD
        assert [next(receiver).msg_id for _ in sent] == sent


def test_deleted_messages_do_not_hold_up_the_rest(mailbox: Mailbox) -> None:
    box = mailbox.create(ttl=60)
    sent = send_many(mailbox, box, list(range(READ_AHEAD + 50)), "high")
    last = mailbox.send(box, "last", priority="low")
    with mailbox.receive(box) as receiver:
        eventually(lambda: receiver._feed._ahead.pending == len(sent) + 1)  # type: ignore[attr-defined]
        for msg_id in sent[READ_AHEAD:]:
            mailbox.delete(box, msg_id)
        got = [next(receiver).msg_id for _ in range(READ_AHEAD + 1)]
    assert got == [*sent[:READ_AHEAD], last]


def test_the_iteration_ends_with_the_mailbox(mailbox: Mailbox) -> None:
    box = mailbox.create(ttl=60)
    mailbox.send(box, "x")
    receiver = mailbox.receive(box)
    assert next(receiver).payload == "x"
    mailbox.remove(box)
    assert list(receiver) == []
    assert receiver.ended == "removed"
    assert not receiver.running


def test_the_iteration_ends_when_the_mailbox_expires(mailbox: Mailbox) -> None:
    box = mailbox.create(ttl=1)
    mailbox.send(box, "x")
    receiver = mailbox.receive(box)
    assert [message.payload for message in receiver] == ["x"]
    assert receiver.ended == "expired"


def test_waiting_for_a_handle_ends_with_the_mailbox(mailbox: Mailbox) -> None:
    box = mailbox.create(ttl=60)
    handle = mailbox.receive(box, lambda _: None)
    assert handle.wait(timeout=0.05) is False
    mailbox.remove(box)
    assert handle.wait(timeout=5) is True
    assert handle.ended == "removed"


def test_what_had_arrived_is_handed_over_although_the_mailbox_has_ended(mailbox: Mailbox) -> None:
    box = mailbox.create(ttl=60)
    sent = send_many(mailbox, box, list(range(10)))
    receiver = mailbox.receive(box)
    eventually(lambda: receiver._feed._ahead.pending == 10)  # type: ignore[attr-defined]
    mailbox.remove(box)
    assert [message.msg_id for message in receiver] == sent


def test_leaving_the_loop_and_dropping_the_iterator_ends_the_subscription(mailbox: Mailbox) -> None:
    box = mailbox.create(ttl=60)
    mailbox.send(box, "x")
    for message in mailbox.receive(box):
        assert message.payload == "x"
        break
    gc.collect()
    eventually(lambda: not list(mailbox._its_engine.handles))


def test_a_running_iterator_keeps_its_mailbox_alive(mailbox: Mailbox) -> None:
    box = mailbox.create(ttl=60)
    mailbox.send(box, "x")
    for message in Mailbox(f"nats://{mailbox._operations.connection.address}").receive(box):
        gc.collect()
        assert message.payload == "x"
        break


def test_stopping_twice_and_from_the_callback_is_fine(mailbox: Mailbox) -> None:
    box = mailbox.create(ttl=60)
    done = threading.Event()

    def on_message(_message: Message) -> None:
        handle.stop()
        done.set()

    handle = mailbox.receive(box, on_message)
    mailbox.send(box, "x")
    assert done.wait(5)
    assert handle.wait(5)
    handle.stop()
    handle.stop()


def test_asynchronous_iteration(mailbox: Mailbox) -> None:
    async def use(client: AsyncMailbox) -> None:
        box = await client.create(60)
        await client.send(box, "stored")
        got = []
        async for message in client.receive(box):
            assert isinstance(message, AsyncMessage)
            got.append(message.payload)
            if len(got) == 2:
                break
            await client.send(box, "live")
        assert got == ["stored", "live"]

    run(use, mailbox)


@pytest.mark.parametrize("awaited", [True, False])
@pytest.mark.parametrize("plain", [True, False])
def test_asynchronous_callbacks_may_be_plain_or_coroutine_functions(
    mailbox: Mailbox, awaited: bool, plain: bool
) -> None:
    async def use(client: AsyncMailbox) -> None:
        box = await client.create(60)
        got: asyncio.Queue[Any] = asyncio.Queue()

        async def on_message(message: AsyncMessage) -> None:
            await asyncio.sleep(0)
            got.put_nowait(message.payload)

        handle = client.receive(box, (lambda message: got.put_nowait(message.payload)) if plain else on_message)
        if awaited:
            assert await handle is handle
        await client.send(box, "one")
        await client.send(box, "two")
        async with asyncio.timeout(5):
            assert [await got.get(), await got.get()] == ["one", "two"]
        await handle.stop()
        assert not handle.running

    run(use, mailbox)


def test_an_asynchronous_receiver_of_nothing_says_so_when_it_is_awaited_or_iterated(mailbox: Mailbox) -> None:
    async def use(client: AsyncMailbox) -> None:
        with pytest.raises(NotFound):
            await client.receive(NOBODYS)
        with pytest.raises(NotFound):
            await client.receive(NOBODYS, print)
        with pytest.raises(NotFound):
            await client.receive(NOBODYS).next()
        with pytest.raises(NotFound):
            async with client.receive(NOBODYS):
                pass
        with pytest.raises(NotFound):
            async for _ in client.receive(NOBODYS):
                pass

    run(use, mailbox)


def test_a_callback_nobody_waits_for_says_so_in_the_log(mailbox: Mailbox, caplog: pytest.LogCaptureFixture) -> None:
    async def use(client: AsyncMailbox) -> None:
        handle = client.receive(NOBODYS, print)
        await eventually_async(lambda: handle._feed.over)

    with caplog.at_level(logging.ERROR, "mq9"):
        run(use, mailbox)
    assert "nothing is received any more" in caplog.text
    assert NOBODYS not in caplog.text


def test_a_receiver_that_always_has_something_lets_other_tasks_run(mailbox: Mailbox) -> None:
    async def use(client: AsyncMailbox) -> None:
        box = await client.create(60)
        await asyncio.gather(*(client.send(box, n) for n in range(500)))
        receiver = await client.receive(box)
        await eventually_async(lambda: receiver._feed._ahead.pending == 500)  # type: ignore[attr-defined]
        others = 0

        async def other() -> None:
            nonlocal others
            while True:
                others += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        for _ in range(500):
            await anext(receiver)
        task.cancel()
        assert others >= 5

    run(use, mailbox)


def test_cancelling_a_waiting_iterator_loses_nothing(mailbox: Mailbox) -> None:
    async def use(client: AsyncMailbox) -> None:
        box = await client.create(60)
        async with client.receive(box) as receiver:
            for n in range(50):
                waiting = asyncio.create_task(anext(receiver))
                await asyncio.sleep(0)
                waiting.cancel()
                await client.send(box, n)
                await asyncio.wait([waiting])
                message = waiting.result() if not waiting.cancelled() else await anext(receiver)
                assert message.payload == n

    run(use, mailbox)


def test_a_receiver_does_not_keep_what_was_handed_over(mailbox: Mailbox) -> None:
    box = mailbox.create(ttl=60)
    mailbox.send(box, b"x")
    with mailbox.receive(box) as receiver:
        reference = weakref.ref(receiver)
        next(receiver)
        assert len(receiver._feed._ahead) == 0  # type: ignore[attr-defined]
    del receiver
    gc.collect()
    assert reference() is None


def test_listing_with_a_callback_tells_what_is_there_and_then_what_happens(
    mailbox: Mailbox, unique: Callable[[str], str]
) -> None:
    prefix = unique("watched")
    there = mailbox.create(60, name=f"{prefix}.there", public=True, desc="d")
    mailbox.create(60, name=unique("other"), public=True)
    told: queue.Queue[tuple[str, str, str]] = queue.Queue()
    with mailbox.list(lambda event: told.put((event.event, str(event.mailbox), event.mailbox.desc)), prefix=prefix):
        assert told.get(timeout=5) == ("created", there, "d")
        new = mailbox.create(1, name=f"{prefix}.new", public=True)
        assert told.get(timeout=5)[:2] == ("created", new)
        mailbox.create(600, name=there, renew=True)
        assert told.get(timeout=5)[:2] == ("renewed", there)
        mailbox.remove(there)
        assert told.get(timeout=5)[:2] == ("removed", there)
        assert told.get(timeout=10)[:2] == ("expired", new)
    mailbox.create(60, name=f"{prefix}.later", public=True)
    assert told.empty()


def test_listing_with_an_asynchronous_callback(mailbox: Mailbox, unique: Callable[[str], str]) -> None:
    prefix = unique("watched")

    async def use(client: AsyncMailbox) -> None:
        told: asyncio.Queue[str] = asyncio.Queue()

        async def on_event(event: Any) -> None:
            await told.put(event.event)

        async with await client.list(on_event, prefix=prefix):
            await client.create(60, name=f"{prefix}.one", public=True)
            async with asyncio.timeout(5):
                assert await told.get() == "created"

    run(use, mailbox)
