"""Leased work: each message is done by one worker, whatever that worker does with it."""

from __future__ import annotations

import asyncio
import gc
import logging
import queue
import threading
from typing import TYPE_CHECKING, Any

import pytest

from mq9 import AsyncMailbox, AsyncMessage, BadRequest, Conflict, Forbidden, Mailbox, Message, NotFound
from mq9.sdk import work
from tests.sdk.support import eventually, eventually_async, run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.support.broker import BrokerProcess

NOBODYS = "m-" + "a" * 26
FOREVER = 3600.0  # a lease that never runs out within a test


@pytest.fixture
def other(broker: BrokerProcess) -> Iterator[Mailbox]:
    """A second worker, over a connection of its own."""
    with Mailbox(broker.url) as client:
        yield client


def states(client: Mailbox, box: str, msg_ids: Sequence[int], group: str = "g") -> list[tuple[str, int]]:
    """What the group says of each message."""
    told = [client.status(box, msg_id).groups[group] for msg_id in msg_ids]
    return [(each.state, each.attempts) for each in told]


def next_of(client: Mailbox, box: str, timeout: float = 5.0, **options: Any) -> Message:
    """The next message of the group "g", which a worker that settles nothing by itself holds."""
    message = client.receive(box, resume="g", auto_ack=False, **options).next(timeout=timeout)
    assert message is not None, "there is no message to be had"
    return message


def test_each_message_is_done_once_whoever_does_it(mailbox: Mailbox, other: Mailbox) -> None:
    box = mailbox.create(ttl=600)
    sent = [mailbox.send(box, n) for n in range(60)]
    done: queue.Queue[int] = queue.Queue()
    workers = [
        client.receive(box, lambda message: done.put(message.msg_id), resume="g", concurrency=2)
        for client in (mailbox, other, other)
    ]
    got = [done.get(timeout=10) for _ in sent]
    for worker in workers:
        worker.stop()
    assert sorted(got) == sent
    assert states(mailbox, box, sent) == [("done", 1)] * 60
    assert mailbox.receive(box, resume="g").next(timeout=0.1) is None


def test_groups_do_not_affect_each_other_nor_those_who_only_read(mailbox: Mailbox) -> None:
    box = mailbox.create(ttl=600)
    sent = [mailbox.send(box, n) for n in range(5)]
    for group in ("one", "two"):
        with mailbox.receive(box, resume=group) as messages:
            assert [next(messages).msg_id for _ in sent] == sent
    with mailbox.receive(box) as everything:
        assert [next(everything).msg_id for _ in sent] == sent


def test_the_most_urgent_message_is_chosen_when_it_is_asked_for(mailbox: Mailbox) -> None:
    box = mailbox.create(ttl=600)
    mailbox.send(box, "low", priority="low")
    mailbox.send(box, "normal 1")
    mailbox.send(box, "normal 2")
    with mailbox.receive(box, resume="g") as messages:
        assert next(messages).payload == "normal 1"
        mailbox.send(box, "high", priority="high")
        assert [next(messages).payload for _ in range(3)] == ["high", "normal 2", "low"]


def test_a_leased_message_has_everything_that_was_sent(mailbox: Mailbox) -> None:
    box, answers = mailbox.create(ttl=600), mailbox.create(ttl=600)
    headers = {"x-colour": "blau ünd grün"}
    for payload in ({"a": [1]}, "ünïcödé", b"\x00\xff", b""):
        mailbox.send(
            box, payload, priority="high", headers=headers, reply_to=answers.drop_id, correlation_id="c-1", tags=["t"]
        )
        [fetched] = mailbox.fetch(box)
        leased = next_of(mailbox, box)
        assert (leased.payload, leased.data, leased.size) == (payload, fetched.data, fetched.size)
        assert type(leased.payload) is type(payload)
        assert leased.headers == fetched.headers
        assert (leased.msg_id, leased.priority, leased.correlation_id) == (fetched.msg_id, "high", "c-1")
        assert leased.time is not None
        assert (leased.attempt, leased.pending) == (1, None)
        leased.reply("thanks")
        leased.ack()
        mailbox.delete(box, leased.msg_id)
    assert [answer.correlation_id for answer in mailbox.fetch(answers)] == ["c-1"] * 4


def test_no_more_is_leased_than_can_be_begun(mailbox: Mailbox, other: Mailbox) -> None:
    box = mailbox.create(ttl=600)
    sent = [mailbox.send(box, n) for n in range(10)]
    begun: queue.Queue[int] = queue.Queue()
    may_end = threading.Event()

    def on_message(message: Message) -> None:
        begun.put(message.msg_id)
        assert may_end.wait(20)

    handle = mailbox.receive(box, on_message, resume="g", concurrency=3, lease=FOREVER)
    first = sorted(begun.get(timeout=10) for _ in range(3))
    assert first == sent[:3]
    assert mailbox.fetch(box)  # the connection is idle by now
    assert [state for state, _ in states(mailbox, box, sent)] == ["leased"] * 3 + ["waiting"] * 7
    with other.receive(box, resume="g") as messages:
        assert [next(messages).msg_id for _ in range(7)] == sent[3:]
    may_end.set()
    eventually(lambda: states(mailbox, box, sent) == [("done", 1)] * 10)
    handle.stop()


def test_a_callback_that_raises_gets_the_message_again_later_and_later(
    mailbox: Mailbox, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "DELAY_FIRST_S", 0.01)
    box = mailbox.create(ttl=600)
    sent = mailbox.send(box, "x")
    attempts: queue.Queue[int | None] = queue.Queue()

    def on_message(message: Message) -> None:
        attempts.put(message.attempt)
        if message.attempt != 4:
            raise RuntimeError(f"not yet, {box}")

    with caplog.at_level(logging.WARNING, "mq9"), mailbox.receive(box, on_message, resume="g"):
        assert [attempts.get(timeout=10) for _ in range(4)] == [1, 2, 3, 4]
        eventually(lambda: states(mailbox, box, [sent]) == [("done", 4)])
    said = [record.getMessage() for record in caplog.records if "comes again" in record.getMessage()]
    assert [line.rpartition(" after ")[2] for line in said] == ["0.01 s", "0.02 s", "0.04 s"]


def test_the_delay_is_five_minutes_at_most(mailbox: Mailbox, caplog: pytest.LogCaptureFixture) -> None:
    box = mailbox.create(ttl=600)
    mailbox.send(box, "x")
    for _ in range(12):
        next_of(mailbox, box).nack()
    failed = threading.Event()

    def on_message(_message: Message) -> None:
        failed.set()
        raise RuntimeError

    with caplog.at_level(logging.WARNING, "mq9"), mailbox.receive(box, on_message, resume="g"):
        assert failed.wait(10)
        eventually(lambda: "message" in caplog.text and "after 300 s" in caplog.text)


def test_a_message_that_nobody_can_do_is_dead_and_can_be_revived(
    mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "DELAY_FIRST_S", 0.0)
    box = mailbox.create(ttl=600)
    sent = mailbox.send(box, {"poison": True})
    attempts: list[int | None] = []

    def on_message(message: Message) -> None:
        attempts.append(message.attempt)
        raise ValueError(f"cannot read {box}")

    with mailbox.receive(box, on_message, resume="g"):
        eventually(lambda: mailbox.dead(box, "g"))
    assert attempts == list(range(1, 17))
    [dead] = mailbox.dead(box, "g")
    assert (dead.msg_id, dead["poison"], dead.attempts, dead.attempt) == (sent, True, 16, None)
    assert dead.reason is not None
    assert dead.reason.startswith("ValueError: cannot read m-")
    assert str(box) not in dead.reason
    assert states(mailbox, box, [sent]) == [("dead", 16)]
    [bare] = mailbox.dead(box, "g", payload=False)
    assert (bare.data, bare.size) == (b"", dead.size)
    assert mailbox.dead(box, "g", after=sent) == []
    mailbox.revive(box, "g", sent)
    assert mailbox.dead(box, "g") == []
    assert next_of(mailbox, box).attempt == 1
    with pytest.raises(Conflict):
        mailbox.revive(box, "g", sent)
    with pytest.raises(NotFound):
        mailbox.dead(box, "nobody")


def test_settling_by_hand(mailbox: Mailbox, other: Mailbox) -> None:
    box = mailbox.create(ttl=600)
    acked, nacked, given_up = (mailbox.send(box, word) for word in ("ack", "nack", "dead"))
    held = {message.msg_id: message for message in (next_of(mailbox, box, lease=FOREVER) for _ in range(3))}
    held[acked].extend()
    held[acked].ack()
    held[acked].ack()
    held[nacked].nack()
    held[given_up].dead("hopeless")
    assert [(message.msg_id, message.reason) for message in mailbox.dead(box, "g")] == [(given_up, "hopeless")]
    again = next_of(other, box)
    assert (again.msg_id, again.attempt) == (nacked, 2)
    for refused in (held[acked].nack, held[nacked].ack, held[nacked].extend, held[given_up].ack):
        with pytest.raises(Conflict, match=r"message \d+ has been"):
            refused()
    again.nack(delay=3600.0, reason="tomorrow")
    assert other.receive(box, resume="g").next(timeout=0.1) is None
    assert states(mailbox, box, [acked, nacked, given_up]) == [("done", 1), ("waiting", 2), ("dead", 1)]


def test_a_message_that_is_not_leased_cannot_be_settled(mailbox: Mailbox) -> None:
    box = mailbox.create(ttl=600)
    mailbox.send(box, "x")
    received = mailbox.receive(box).next(timeout=5)
    assert received is not None
    for message in (received, *mailbox.fetch(box)):
        assert message.attempt is None
        for refused in (message.ack, message.nack, message.dead, message.extend):
            with pytest.raises(BadRequest, match="resume"):
                refused()


@pytest.mark.parametrize("delay", [-1, 604_801, "soon", float("nan"), True])
def test_a_delay_that_cannot_be_is_refused(mailbox: Mailbox, delay: Any) -> None:
    box = mailbox.create(ttl=600)
    mailbox.send(box, "x")
    message = next_of(mailbox, box)
    with pytest.raises(BadRequest, match="delay"):
        message.nack(delay)
    message.ack()


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"resume": ""}, "group_name"),
        ({"resume": "a b"}, "group_name"),
        ({"resume": "a*"}, "group_name"),
        ({"resume": "a.>"}, "group_name"),
        ({"resume": "x" * 129}, "group_name"),
        ({"resume": "\ud800"}, "group_name"),
        ({"resume": 7}, "group"),
        ({"resume": "g", "concurrency": 0}, "concurrency"),
        ({"resume": "g", "concurrency": 1.5}, "concurrency"),
        ({"resume": "g", "concurrency": 1001}, "concurrency"),
        ({"resume": "g", "lease": 0}, "lease"),
        ({"resume": "g", "lease": 86_401}, "lease"),
        ({"resume": "g", "lease": "long"}, "lease"),
        ({"resume": "g", "priority": "high"}, "priority"),
        ({"concurrency": 2}, "resume"),
        ({"auto_ack": False}, "resume"),
        ({"lease": 5.0}, "resume"),
    ],
)
def test_what_makes_no_sense_for_work_is_refused(mailbox: Mailbox, arguments: dict[str, Any], names: str) -> None:
    box = mailbox.create(ttl=600)
    with pytest.raises(BadRequest, match=names):
        mailbox.receive(box, **arguments)


def test_work_of_a_mailbox_that_is_not_there_or_not_to_be_read(mailbox: Mailbox) -> None:
    with pytest.raises(NotFound):
        mailbox.receive(NOBODYS, resume="g")
    drop_id = mailbox.create(ttl=600).drop_id
    with pytest.raises(Forbidden, match="drop_id"):
        mailbox.receive(drop_id, resume="g")


def test_an_iteration_acks_when_the_next_message_is_asked_for(mailbox: Mailbox) -> None:
    box = mailbox.create(ttl=600)
    first, second = mailbox.send(box, 1), mailbox.send(box, 2)
    with mailbox.receive(box, resume="g") as messages:
        next(messages)
        assert states(mailbox, box, [first, second]) == [("leased", 1), ("waiting", 0)]
        next(messages)
        assert states(mailbox, box, [first, second]) == [("done", 1), ("leased", 1)]
        assert messages.next(timeout=0.05) is None
        assert states(mailbox, box, [first, second]) == [("done", 1), ("done", 1)]


def test_leaving_the_block_without_an_exception_acks(mailbox: Mailbox) -> None:
    box = mailbox.create(ttl=600)
    sent = [mailbox.send(box, n) for n in range(3)]
    with mailbox.receive(box, resume="g") as messages:
        for message in messages:
            if message.payload == 1:
                break
    assert states(mailbox, box, sent) == [("done", 1), ("done", 1), ("waiting", 0)]


def test_leaving_the_block_by_an_exception_gives_back_at_once(mailbox: Mailbox, other: Mailbox) -> None:
    box = mailbox.create(ttl=600)
    mailbox.send(box, "x")

    def fail() -> None:
        with mailbox.receive(box, resume="g", lease=FOREVER) as messages:
            next(messages)
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        fail()
    again = next_of(other, box)
    assert again.attempt == 2
    again.dead()
    assert [message.msg_id for message in mailbox.dead(box, "g")] == [again.msg_id]


@pytest.mark.parametrize("auto_ack", [True, False])
def test_stopping_gives_back_what_was_handed_over(mailbox: Mailbox, other: Mailbox, auto_ack: bool) -> None:
    box = mailbox.create(ttl=600)
    mailbox.send(box, "x")
    handle = mailbox.receive(box, resume="g", lease=FOREVER, auto_ack=auto_ack)
    held = next(handle)
    handle.stop()
    assert next_of(other, box).attempt == 2
    with pytest.raises(Conflict, match="given back"):
        held.ack()
    assert list(handle) == []


def test_an_iteration_that_is_let_go_of_gives_back(mailbox: Mailbox, other: Mailbox) -> None:
    box = mailbox.create(ttl=600)
    mailbox.send(box, "x")
    for _ in mailbox.receive(box, resume="g", lease=FOREVER):
        break
    gc.collect()
    assert next_of(other, box).attempt == 2


def test_a_message_held_by_hand_outlives_its_receiver(mailbox: Mailbox, other: Mailbox) -> None:
    box = mailbox.create(ttl=600)
    sent = mailbox.send(box, "x")
    message = next_of(mailbox, box, lease=0.4)
    gc.collect()
    assert other.receive(box, resume="g").next(timeout=1.0) is None
    message.ack()
    assert states(mailbox, box, [sent]) == [("done", 1)]


def test_a_message_that_is_forgotten_comes_to_another_worker(
    mailbox: Mailbox, other: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    box = mailbox.create(ttl=600)
    mailbox.send(box, "x")
    with mailbox.receive(box, resume="g", auto_ack=False, lease=0.4) as messages:
        with caplog.at_level(logging.WARNING, "mq9"):
            next(messages)
            eventually(lambda: "let go of without ack()" in caplog.text)
        assert next_of(other, box).attempt == 2


def test_one_more_is_leased_only_when_one_is_settled(
    mailbox: Mailbox, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "NOT_SETTLED_S", 0.05)
    box = mailbox.create(ttl=600)
    sent = [mailbox.send(box, n) for n in range(4)]
    with mailbox.receive(box, resume="g", auto_ack=False, concurrency=2) as messages:
        held = [next(messages), next(messages)]
        with caplog.at_level(logging.WARNING, "mq9"):
            assert messages.next(timeout=0.3) is None
        assert "until one of the 2 that are held is settled" in caplog.text
        assert [state for state, _ in states(mailbox, box, sent)] == ["leased", "leased", "waiting", "waiting"]
        threading.Timer(0.2, held.pop().ack).start()
        third = messages.next(timeout=10)
        assert third is not None
        assert third.msg_id == sent[2]


def test_a_callback_may_leave_the_settling_to_others(mailbox: Mailbox) -> None:
    box = mailbox.create(ttl=600)
    sent = [mailbox.send(box, n) for n in range(3)]
    waiting: queue.Queue[Message] = queue.Queue()
    with mailbox.receive(box, waiting.put, resume="g", auto_ack=False, concurrency=3):
        held = [waiting.get(timeout=10) for _ in range(3)]
        held[0].ack()
        held[1].dead()
        assert states(mailbox, box, sent) == [("done", 1), ("dead", 1), ("leased", 1)]
    assert states(mailbox, box, sent)[2] == ("waiting", 1)


def test_a_callback_that_outlasts_its_lease_keeps_it(mailbox: Mailbox, other: Mailbox) -> None:
    box = mailbox.create(ttl=600)
    sent = mailbox.send(box, "x")
    begun, may_end = threading.Event(), threading.Event()

    def on_message(_message: Message) -> None:
        begun.set()
        assert may_end.wait(20)

    with mailbox.receive(box, on_message, resume="g", lease=0.4):
        assert begun.wait(10)
        assert other.receive(box, resume="g").next(timeout=1.6) is None
        assert states(mailbox, box, [sent]) == [("leased", 1)]
        may_end.set()
        eventually(lambda: states(mailbox, box, [sent]) == [("done", 1)])


def test_asking_for_a_while_leaves_nothing_leased(mailbox: Mailbox, other: Mailbox) -> None:
    box = mailbox.create(ttl=600)
    handle = mailbox.receive(box, resume="g", lease=FOREVER)
    for _ in range(100):
        assert handle.next(timeout=0.001) is None
    mailbox.send(box, "x")
    message = next_of(other, box)
    assert message.attempt == 1
    message.ack()
    assert handle.running


def test_work_ends_with_its_mailbox(mailbox: Mailbox) -> None:
    box = mailbox.create(ttl=600)
    sent = [mailbox.send(box, n) for n in range(2)]
    with mailbox.receive(box, resume="g") as messages:
        assert next(messages).msg_id == sent[0]
        mailbox.remove(box)
        assert list(messages) == []
        assert messages.ended == "removed"
    short = mailbox.create(ttl=1)
    handle = mailbox.receive(short, lambda _: None, resume="g", concurrency=3)
    assert handle.wait(timeout=10)
    assert handle.ended == "expired"


def test_a_message_that_is_deleted_while_it_is_worked_on(mailbox: Mailbox, caplog: pytest.LogCaptureFixture) -> None:
    box = mailbox.create(ttl=600)
    first, second = mailbox.send(box, 1), mailbox.send(box, 2)
    with caplog.at_level(logging.WARNING, "mq9"), mailbox.receive(box, resume="g") as messages:
        assert next(messages).msg_id == first
        mailbox.delete(box, first)
        assert next(messages).msg_id == second
    assert caplog.text == ""


def test_more_workers_than_may_wait_over_one_connection(mailbox: Mailbox) -> None:
    boxes = [mailbox.create(ttl=600) for _ in range(70)]
    got: queue.Queue[str] = queue.Queue()
    handles = [mailbox.receive(box, lambda m: got.put(m.payload), resume="g") for box in boxes]
    for box in boxes:
        mailbox.send(box, str(box))
    assert {got.get(timeout=20) for _ in boxes} == set(map(str, boxes))
    for handle in handles:
        handle.stop()


def test_the_asynchronous_face_works_alike(mailbox: Mailbox) -> None:
    async def use(client: AsyncMailbox) -> None:
        box = await client.create(600)
        sent = [await client.send(box, n) for n in range(8)]
        at_once, most = 0, 0
        done: list[int] = []

        async def on_message(message: AsyncMessage) -> None:
            nonlocal at_once, most
            at_once += 1
            most = max(most, at_once)
            await asyncio.sleep(0.02)
            at_once -= 1
            done.append(message.msg_id)

        async with client.receive(box, on_message, resume="a", concurrency=4):
            await eventually_async(lambda: len(done) == 8)
        assert (sorted(done), most) == (sent, 4)
        async with client.receive(box, resume="b") as messages:
            async for message in messages:
                if message.msg_id == sent[1]:
                    break
        manual = await client.receive(box, resume="c", auto_ack=False, concurrency=2)
        first, second = await manual.__anext__(), await manual.__anext__()
        await first.ack()
        await second.nack(delay=60, reason="later")
        await manual.stop()
        told = (await client.status(box, sent[1])).groups
        assert {name: (each.state, each.attempts) for name, each in told.items()} == {
            "a": ("done", 1),
            "b": ("done", 1),
            "c": ("waiting", 1),
        }

    run(use, mailbox)


def test_waiting_that_is_cancelled_leaves_nothing_leased(mailbox: Mailbox) -> None:
    async def use(client: AsyncMailbox) -> None:
        box = await client.create(600)
        handle = await client.receive(box, resume="g", lease=FOREVER)
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await handle.__anext__()
        await client.send(box, "x")
        again = await client.receive(box, resume="g").next(timeout=5)
        assert again is not None

    run(use, mailbox)
