"""Workers, brokers and connections that go away in the middle of leased work, and workers that stop as they should."""

from __future__ import annotations

import asyncio
import logging
import queue
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from mq9 import AsyncMailbox, AsyncMessage, Mailbox, Message
from tests.sdk.proxy import Proxy
from tests.sdk.support import eventually, run
from tests.sdk.test_lifecycle import program
from tests.sdk.test_reconnect import restart
from tests.sdk.test_work import FOREVER, next_of, states
from tests.support.broker import BrokerProcess, clean_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

WORKER = """
import sys, time
from mq9 import Mailbox
def on_message(message):
    sys.stdout.write(f"{message.msg_id}\\n")  # in one piece: there are two threads
    sys.stdout.flush()
    time.sleep(3600)
with Mailbox(sys.argv[1]) as mb:
    mb.receive(sys.argv[2], on_message, resume="g", concurrency=2, lease=1.5).wait()
"""


class Held:
    """A callback that stays in its first message until it is told to go on."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.count = 0
        self.may_end = threading.Event()
        self.done: queue.Queue[tuple[int, int | None]] = queue.Queue()

    def __call__(self, message: Message) -> None:
        """Wait, and note the message."""
        self.count += 1
        self.begun.set()
        assert self.may_end.wait(30)
        self.done.put((message.msg_id, message.attempt))


@pytest.fixture
def other(broker: BrokerProcess) -> Iterator[Mailbox]:
    """A second worker, over a connection of its own."""
    with Mailbox(broker.url) as client:
        yield client


def test_the_messages_of_a_worker_that_is_killed_come_to_another(mailbox: Mailbox) -> None:
    box = mailbox.create(ttl=600)
    sent = [mailbox.send(box, n) for n in range(3)]
    url = f"nats://{mailbox._operations.connection.address}"
    command = [sys.executable, "-c", WORKER, url, str(box)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=clean_environment()) as worker:
        assert worker.stdout is not None
        try:
            taken = [int(worker.stdout.readline()) for _ in range(2)]
        finally:
            worker.kill()
    assert sorted(taken) == sent[:2]
    with mailbox.receive(box, resume="g") as messages:
        got = [next(messages) for _ in range(3)]
        assert messages.next(timeout=0.1) is None
    assert sorted(message.msg_id for message in got) == sent
    assert {message.msg_id: message.attempt for message in got} == {sent[0]: 2, sent[1]: 2, sent[2]: 1}
    assert states(mailbox, box, sent) == [("done", 2), ("done", 2), ("done", 1)]


def test_work_goes_on_after_the_broker_was_killed_in_the_middle_of_it(own_broker: BrokerProcess) -> None:
    held = Held()
    with Mailbox(own_broker.url, timeout=20) as client, Mailbox(own_broker.url, timeout=20) as second:
        box = client.create(ttl=600)
        sent = [client.send(box, n) for n in range(4)]
        handle = client.receive(box, held, resume="g", lease=2.0)
        assert held.begun.wait(10)
        restart(own_broker, client)
        with second.receive(box, resume="g") as messages:
            assert next(messages).msg_id == sent[1]
        held.may_end.set()
        assert [held.done.get(timeout=20) for _ in range(3)] == [(sent[0], 1), (sent[2], 1), (sent[3], 1)]
        eventually(lambda: states(client, box, sent) == [("done", 1)] * 4)
        restart(own_broker, client)
        sent.append(client.send(box, "after"))
        assert held.done.get(timeout=20) == (sent[4], 1)
        eventually(lambda: states(client, box, sent)[4] == ("done", 1))
        assert handle.running
        handle.stop()


def test_a_callback_that_ends_while_the_broker_is_away_is_acked_later(own_broker: BrokerProcess) -> None:
    held = Held()
    with Mailbox(own_broker.url, timeout=0.5) as client, Mailbox(own_broker.url, timeout=20) as second:
        box = client.create(ttl=600)
        sent = client.send(box, "x")
        with client.receive(box, held, resume="g", lease=60.0):
            assert held.begun.wait(10)
            own_broker.kill()
            held.may_end.set()
            held.done.get(timeout=10)
            threading.Event().wait(1.2)  # longer than one attempt to ack may take
            own_broker.start()
            eventually(lambda: states(second, box, [sent]) == [("done", 1)])


def test_an_ack_whose_answer_was_lost_is_repeated(broker: BrokerProcess, mailbox: Mailbox) -> None:
    box = mailbox.create(ttl=600)
    sent = [mailbox.send(box, n) for n in range(2)]
    with Proxy(broker.url) as proxy, Mailbox(proxy.url, timeout=20) as client:
        with client.receive(box, resume="g", lease=FOREVER) as messages:
            assert next(messages).msg_id == sent[0]
            proxy.cut_at(b'{"error": ""}')
            assert next(messages).msg_id == sent[1]
            assert proxy.cuts == 1
            assert messages.next(timeout=0.1) is None
        by_hand = client.receive(box, resume="h", auto_ack=False, lease=FOREVER)
        message = next(by_hand)
        proxy.cut_at(b'{"error": ""}')
        message.ack()
        assert proxy.cuts == 2
        by_hand.stop()
    assert states(mailbox, box, sent) == [("done", 1), ("done", 1)]
    assert states(mailbox, box, sent[:1], "h") == [("done", 1)]


def test_a_message_that_was_lost_on_its_way_to_the_worker_comes_again(broker: BrokerProcess, mailbox: Mailbox) -> None:
    box = mailbox.create(ttl=600)
    sent = mailbox.send(box, "x")
    with Proxy(broker.url) as proxy, Mailbox(proxy.url, timeout=20) as client:
        proxy.cut_at(b'"attempt"')
        with client.receive(box, resume="g", lease=0.5) as messages:
            message = next(messages)
        assert (message.msg_id, message.attempt, proxy.cuts) == (sent, 2, 1)


def test_a_lease_that_was_lost_is_not_acked(
    broker: BrokerProcess, mailbox: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    held = Held()
    box = mailbox.create(ttl=600)
    sent = [mailbox.send(box, n) for n in range(2)]
    with Proxy(broker.url) as proxy, Mailbox(proxy.url) as client, caplog.at_level(logging.WARNING, "mq9"):
        handle = client.receive(box, held, resume="g", lease=0.4)
        assert held.begun.wait(10)
        proxy.hold()
        with mailbox.receive(box, resume="g", auto_ack=False, concurrency=2, lease=FOREVER) as messages:
            mine = [next(messages), next(messages)]
            assert {(message.msg_id, message.attempt) for message in mine} == {(sent[0], 2), (sent[1], 1)}
            proxy.go_on()
            eventually(lambda: f"message {sent[0]} is no longer leased to this worker" in caplog.text)
            held.may_end.set()
            assert held.done.get(timeout=10) == (sent[0], 1)
            assert states(mailbox, box, sent) == [("leased", 2), ("leased", 1)]
            for message in mine:
                message.ack()
        handle.stop()
    assert states(mailbox, box, sent) == [("done", 2), ("done", 1)]


def test_stopping_takes_back_what_was_asked_for(mailbox: Mailbox, other: Mailbox) -> None:
    box = mailbox.create(ttl=600)
    handles = [mailbox.receive(box, lambda _: None, resume="g", concurrency=5, lease=FOREVER) for _ in range(3)]
    first = mailbox.send(box, "x")
    eventually(lambda: states(mailbox, box, [first]) == [("done", 1)])
    for handle in handles:
        handle.stop()
    sent = [mailbox.send(box, n) for n in range(20)]
    with other.receive(box, resume="g") as messages:
        assert [(message.msg_id, message.attempt) for message in (next(messages) for _ in sent)] == [
            (msg_id, 1) for msg_id in sent
        ]


def test_stopping_while_messages_come_loses_none_of_them(mailbox: Mailbox, other: Mailbox) -> None:
    """Workers come and go all the time, with leases that would not run out: whatever they leave lying is never done."""
    box = mailbox.create(ttl=600)
    done: list[int] = []
    sent: list[int] = []

    def send() -> None:
        sent.extend(mailbox.send(box, n) for n in range(200))

    sender = threading.Thread(target=send)
    sender.start()
    while sender.is_alive():
        with other.receive(box, lambda m: done.append(m.msg_id), resume="g", concurrency=4, lease=FOREVER):
            threading.Event().wait(0.01)
    sender.join()
    with other.receive(box, lambda m: done.append(m.msg_id), resume="g", concurrency=4, lease=FOREVER):
        eventually(lambda: len(done) >= 200)
    assert sorted(done) == sent
    assert {state for state, _ in states(mailbox, box, sent)} == {"done"}


def test_stopping_waits_for_the_callbacks_and_acks_their_messages(mailbox: Mailbox) -> None:
    held = Held()
    box = mailbox.create(ttl=600)
    sent = [mailbox.send(box, n) for n in range(3)]
    handle = mailbox.receive(box, held, resume="g", concurrency=2, lease=FOREVER)
    eventually(lambda: held.count == 2)
    stopping = threading.Thread(target=handle.stop)
    stopping.start()
    eventually(lambda: not handle.running)
    held.may_end.set()
    stopping.join(10)
    assert states(mailbox, box, sent) == [("done", 1), ("done", 1), ("waiting", 0)]


def test_stopping_from_a_callback_acks_its_message(mailbox: Mailbox) -> None:
    box = mailbox.create(ttl=600)
    sent = [mailbox.send(box, n) for n in range(2)]
    stopped = threading.Event()

    def on_message(_message: Message) -> None:
        handle.stop()
        stopped.set()

    handle = mailbox.receive(box, on_message, resume="g", lease=FOREVER)
    assert stopped.wait(10)
    handle.wait()
    eventually(lambda: states(mailbox, box, sent) == [("done", 1), ("waiting", 0)])


@pytest.mark.parametrize("auto_ack", [True, False])
def test_closing_gives_back_at_once_what_is_not_settled(
    mailbox: Mailbox, broker: BrokerProcess, auto_ack: bool
) -> None:
    box = mailbox.create(ttl=600)
    sent = [mailbox.send(box, n) for n in range(3)]
    client = Mailbox(broker.url)
    handle = client.receive(box, resume="g", lease=FOREVER, auto_ack=auto_ack, concurrency=2)
    held = [next(handle), next(handle)]
    client.close()
    left = [("done", 1), ("waiting", 1)] if auto_ack else [("waiting", 1)] * 2
    assert states(mailbox, box, sent) == [*left, ("waiting", 0)]
    assert [message.msg_id for message in held] == sent[:2]


def test_closing_waits_for_the_callbacks(mailbox: Mailbox, broker: BrokerProcess) -> None:
    held = Held()
    box = mailbox.create(ttl=600)
    sent = [mailbox.send(box, n) for n in range(2)]
    client = Mailbox(broker.url)
    handle = client.receive(box, held, resume="g", lease=FOREVER)
    assert held.begun.wait(10)
    closing = threading.Thread(target=client.close)
    closing.start()
    eventually(lambda: not handle.running)
    held.may_end.set()
    closing.join(10)
    assert states(mailbox, box, sent) == [("done", 1), ("waiting", 0)]


def test_asynchronous_closing_gives_back_what_takes_too_long(mailbox: Mailbox, broker: BrokerProcess) -> None:
    box = mailbox.create(ttl=600)
    sent = mailbox.send(box, "x")

    async def main() -> None:
        begun = asyncio.Event()

        async def on_message(_message: AsyncMessage) -> None:
            begun.set()
            await asyncio.Event().wait()

        client = AsyncMailbox(broker.url)
        await client.receive(box, on_message, resume="g", lease=FOREVER)
        await begun.wait()
        await client.close(timeout=0.05)

    asyncio.run(main())
    assert states(mailbox, box, [sent]) == [("waiting", 1)]
    assert next_of(mailbox, box).attempt == 2


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_callback_that_ends_its_thread_gives_back(mailbox: Mailbox, other: Mailbox) -> None:
    box = mailbox.create(ttl=600)
    mailbox.send(box, "x")
    handle = mailbox.receive(box, lambda _: sys.exit(), resume="g", lease=FOREVER)
    eventually(lambda: not handle._deliveries[0].is_alive())
    assert next_of(other, box).attempt == 2


@pytest.mark.parametrize(
    "code",
    [
        "mb.receive(box, resume='g')",
        "mb.receive(box, print, resume='g', concurrency=3)",
        "mb.send(box, 1); m = mb.receive(box, resume='g', auto_ack=False).next()",
        "mb.send(box, 1)\nfor m in mb.receive(box, resume='g'): break",
        "h = mb.receive(box, resume='g'); h.next(timeout=0.01); del mb",
    ],
)
def test_a_program_that_forgets_to_close_ends_quietly(broker: BrokerProcess, code: str) -> None:
    program(f"from mq9 import Mailbox\nmb = Mailbox(URL)\nbox = mb.create()\n{code}", broker.url)


@pytest.mark.parametrize(
    "code",
    [
        "mb.receive(box, print, resume='g', concurrency=3)",
        "h = await mb.receive(box, resume='g'); await h.next(timeout=0.01)",
        "async for m in mb.receive(box, resume='g'): break",
        "m = await mb.receive(box, resume='g', auto_ack=False, lease=0.2).next(); await asyncio.sleep(0.3); await m.ack()",
    ],
)
def test_an_asynchronous_program_that_forgets_to_close_ends_quietly(broker: BrokerProcess, code: str) -> None:
    program(
        "import asyncio\nfrom mq9 import AsyncMailbox\nasync def main():\n    mb = AsyncMailbox(URL)\n"
        f"    box = await mb.create()\n    await mb.send(box, 1)\n    {code}\nasyncio.run(main())",
        broker.url,
    )


def test_what_is_begun_when_a_program_ends_is_finished(broker: BrokerProcess, mailbox: Mailbox) -> None:
    box = mailbox.create(ttl=600)
    sent = mailbox.send(box, "x")
    said = program(
        "import threading, time\nfrom mq9 import Mailbox\nmb = Mailbox(URL)\nbegun = threading.Event()\n"
        "def on_message(m):\n    begun.set()\n    time.sleep(0.2)\n    print(m.payload)\n"
        f"mb.receive({str(box)!r}, on_message, resume='g')\nbegun.wait()",
        broker.url,
    )
    assert said == "x\n"
    assert states(mailbox, box, [sent]) == [("done", 1)]


def test_two_event_loops_share_the_work(mailbox: Mailbox) -> None:
    box = mailbox.create(ttl=600)
    sent = [mailbox.send(box, n) for n in range(20)]
    got: list[Any] = []

    async def use(client: AsyncMailbox) -> None:
        async with client.receive(box, resume="g") as messages:
            for _ in range(10):
                message = await messages.__anext__()
                got.append(message.msg_id)

    threads = [threading.Thread(target=run, args=(use, mailbox)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(got) == sent
