"""Beginnings and ends: closing, forgetting to, leaving by an exception, forking, and several event loops."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from mq9 import AsyncMailbox, ConnectionFailed, Mailbox, Message, NotFound
from tests.sdk.support import eventually, eventually_async, run
from tests.support.broker import BrokerProcess, clean_environment

if TYPE_CHECKING:
    from pathlib import Path


def loop_threads() -> list[threading.Thread]:
    """The loop threads of this process."""
    return [thread for thread in threading.enumerate() if thread.name == "mq9 loop"]


def program(code: str, url: str, *, code_expected: int = 0) -> str:
    """What a program says that runs `code` with the broker at URL, with every warning and asyncio's checks on."""
    ran = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", f"URL = {url!r}\n{code}"],
        capture_output=True,
        text=True,
        timeout=30,
        env=clean_environment(),
    )
    assert ran.returncode == code_expected, ran
    noise = [line for line in ran.stderr.splitlines() if "took" not in line]
    assert noise == [] or code_expected, ran.stderr
    return ran.stdout


def test_a_client_that_does_nothing_connects_to_nothing() -> None:
    with Mailbox("nats://127.0.0.1:1"):
        assert loop_threads() == []


def test_closing_ends_the_thread_and_everything_else(broker: BrokerProcess) -> None:
    client = Mailbox(broker.url)
    box = client.create(ttl=60)
    receiver = client.receive(box)
    handle = client.receive(box, lambda _: None)
    assert len(loop_threads()) == 1
    client.close()
    client.close()
    assert loop_threads() == []
    assert list(receiver) == []
    assert not handle.running
    for call in (lambda: client.create(), lambda: client.receive(box), lambda: client.list()):
        with pytest.raises(ConnectionFailed, match="closed"):
            call()


def test_closing_hands_over_what_has_arrived(broker: BrokerProcess) -> None:
    got: list[Any] = []
    may_go = threading.Event()

    def on_message(message: Message) -> None:
        assert may_go.wait(10)
        got.append(message.payload)

    client = Mailbox(broker.url)
    box = client.create(ttl=60)
    for n in range(10):
        client.send(box, n)
    handle = client.receive(box, on_message)
    eventually(lambda: handle._feed._ahead.pending == 9)  # type: ignore[attr-defined]
    closing = threading.Thread(target=client.close)
    closing.start()
    eventually(lambda: not handle.running)
    may_go.set()
    closing.join()
    assert got == list(range(10))


def test_closing_waits_no_longer_than_it_was_told(broker: BrokerProcess) -> None:
    may_go = threading.Event()
    client = Mailbox(broker.url)
    box = client.create(ttl=60)
    handle = client.receive(box, lambda _: may_go.wait(20))
    client.send(box, 1)
    client.send(box, 2)
    eventually(lambda: handle._feed._ahead.pending == 1)  # type: ignore[attr-defined]
    started = time.monotonic()
    client.close(timeout=0.2)
    assert time.monotonic() - started < 5
    may_go.set()
    eventually(lambda: not handle._deliveries[0].is_alive())


def test_closing_ends_an_iteration_in_another_thread(broker: BrokerProcess) -> None:
    client = Mailbox(broker.url)
    receiver = client.receive(client.create(ttl=60))
    got: list[Any] = [None]

    def iterate() -> None:
        got[0] = list(receiver)

    thread = threading.Thread(target=iterate)
    thread.start()
    client.close()
    thread.join(10)
    assert got == [[]]


def test_many_threads_may_share_a_client(broker: BrokerProcess) -> None:
    with Mailbox(broker.url) as client:
        box = client.create(ttl=60)
        threads = [threading.Thread(target=lambda: [client.send(box, "x") for _ in range(50)]) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(client.fetch(box, limit=None)) == 400


def test_closing_from_a_callback_is_fine(broker: BrokerProcess) -> None:
    client = Mailbox(broker.url)
    box = client.create(ttl=60)
    closed = threading.Event()

    def on_message(_message: Message) -> None:
        client.close()
        closed.set()

    client.receive(box, on_message)
    client.send(box, "x")
    assert closed.wait(10)


def test_an_exception_in_the_block_closes_too(broker: BrokerProcess) -> None:
    def use() -> None:
        with Mailbox(broker.url) as client:
            client.create(ttl=60)
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        use()
    assert loop_threads() == []


def test_a_client_that_is_forgotten_is_collected_with_its_thread(broker: BrokerProcess) -> None:
    client = Mailbox(broker.url)
    box = client.create(ttl=60)
    client.send(box, "x")
    assert [message.payload for message in client.fetch(box)] == ["x"]
    reference = weakref.ref(client)
    del client
    gc.collect()
    assert reference() is None
    eventually(lambda: not loop_threads())


def test_a_forgotten_client_whose_callback_still_runs_stays_alive(broker: BrokerProcess) -> None:
    got: list[Any] = []
    box = run(lambda client: client.create(60), broker.url)
    handle = Mailbox(broker.url).receive(box, lambda message: got.append(message.payload))
    gc.collect()
    run(lambda client: client.send(box, "x"), broker.url)
    eventually(lambda: got == ["x"])
    handle._mailbox.close()


@pytest.mark.parametrize(
    "code",
    [
        "mb.create()",
        "box = mb.create(); mb.receive(box)",
        "box = mb.create(); receiver = mb.receive(box)",
        "box = mb.create(); mb.receive(box, print)",
        "mb.list(print)",
        "mb.create(); del mb",
    ],
)
def test_a_program_that_forgets_to_close_ends_quietly(broker: BrokerProcess, code: str) -> None:
    program(f"from mq9 import Mailbox\nmb = Mailbox(URL)\n{code}", broker.url)


@pytest.mark.parametrize(
    "code",
    [
        "await mb.create()",
        "receiver = await mb.receive(await mb.create())",
        "mb.receive(await mb.create(), print)",
        "box = await mb.create(); await mb.send(box, 1)\n    async for _ in mb.receive(box): break",
        "await mb.list(print)",
        "await mb.create(); del mb; import gc; gc.collect(); await asyncio.sleep(0.05)",
    ],
)
def test_an_asynchronous_program_that_forgets_to_close_ends_quietly(broker: BrokerProcess, code: str) -> None:
    program(
        f"import asyncio\nfrom mq9 import AsyncMailbox\nasync def main():\n    mb = AsyncMailbox(URL)\n    {code}\n"
        "asyncio.run(main())",
        broker.url,
    )


def test_what_has_arrived_is_handed_over_when_a_program_ends(broker: BrokerProcess) -> None:
    said = program(
        "from mq9 import Mailbox\nmb = Mailbox(URL)\nbox = mb.create()\n"
        "for n in range(5): mb.send(box, n)\n"
        "mb.receive(box, lambda message: print(message.payload))\nmb.fetch(box)\nmb.fetch(box)",
        broker.url,
    )
    assert said.split() == ["0", "1", "2", "3", "4"]


def test_an_interrupted_program_ends_with_its_interrupt(broker: BrokerProcess, tmp_path: Path) -> None:
    import signal

    code = (
        f"from mq9 import Mailbox\nmb = Mailbox({broker.url!r})\nbox = mb.create()\n"
        "print('ready', flush=True)\nfor message in mb.receive(box): pass\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=10)
    assert b"KeyboardInterrupt" in said
    assert b"Exception ignored" not in said


def test_a_call_that_a_signal_ends_leaves_nothing_behind(broker: BrokerProcess) -> None:
    said = program(
        """
import asyncio, signal
from mq9 import Mailbox

def ring(*_):
    raise RuntimeError("enough")

signal.signal(signal.SIGALRM, ring)
mb = Mailbox(URL)
box = mb.create()
receiver = mb.receive(box)
loop = mb._engine.thread._loop
mb.fetch(box)
before = len(asyncio.all_tasks(loop))
try:
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    receiver.next()
except RuntimeError as error:
    print(error)
mb.fetch(box)
print(len(asyncio.all_tasks(loop)) - before)
mb.send(box, "after")
print(receiver.next().payload)
mb.close()
""",
        broker.url,
    )
    assert said.splitlines() == ["enough", "0", "after"]


def test_a_child_after_fork_has_a_connection_of_its_own(broker: BrokerProcess) -> None:
    said = program(
        """
import os, warnings
from mq9 import Mailbox
warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of any fork of a process with threads
mb = Mailbox(URL)
box = mb.create()
receiver = mb.receive(box)
child = os.fork()
if child == 0:
    mb.send(box, "from the child")
    mb.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print(next(receiver).payload)
mb.send(box, "from the parent")
print(next(receiver).payload)
mb.close()
""",
        broker.url,
    )
    assert said.splitlines() == ["from the child", "from the parent"]


def test_an_asynchronous_client_may_be_used_in_one_event_loop_after_another(broker: BrokerProcess) -> None:
    client = AsyncMailbox(broker.url)

    async def use() -> int:
        box = await client.create(60)
        number = await client.send(box, "x")
        await client._operations.connection._link.close()  # type: ignore[union-attr]  # what the end of a loop does
        return number

    assert asyncio.run(use()) < asyncio.run(use())


def test_an_asynchronous_client_in_two_event_loops_at_once_says_so(broker: BrokerProcess) -> None:
    async def use(client: AsyncMailbox) -> None:
        await client.create(60)

        def elsewhere() -> None:
            with pytest.raises(RuntimeError, match="event loop"):
                asyncio.run(client.create(60))

        await asyncio.to_thread(elsewhere)

    run(use, broker.url)


def test_asynchronous_closing_hands_over_what_has_arrived(broker: BrokerProcess) -> None:
    async def main() -> list[Any]:
        got: list[Any] = []

        async def on_message(message: Any) -> None:
            await asyncio.sleep(0.01)
            got.append(message.payload)

        client = AsyncMailbox(broker.url)
        box = await client.create(60)
        for n in range(10):
            await client.send(box, n)
        handle = await client.receive(box, on_message)
        await eventually_async(lambda: handle._feed._ahead.pending == 9)  # type: ignore[attr-defined]
        await client.close()
        assert not handle.running
        with pytest.raises(ConnectionFailed, match="closed"):
            await client.create()
        await client.close()
        return got

    assert asyncio.run(main()) == list(range(10))


def test_asynchronous_closing_cancels_callbacks_that_take_too_long(broker: BrokerProcess) -> None:
    async def main() -> None:
        started = asyncio.Event()

        async def on_message(_message: Any) -> None:
            started.set()
            await asyncio.Event().wait()

        client = AsyncMailbox(broker.url)
        box = await client.create(60)
        await client.receive(box, on_message)
        await client.send(box, 1)
        await started.wait()
        await client.close(timeout=0.05)

    asyncio.run(main())


def test_closing_waits_for_the_answers_under_way(broker: BrokerProcess) -> None:
    async def main() -> None:
        client = AsyncMailbox(broker.url)
        box = await client.create(60)
        sends = [asyncio.create_task(client.send(box, n)) for n in range(100)]
        await asyncio.sleep(0)
        await client.close()
        assert len({await send for send in sends}) == 100

    asyncio.run(main())


def test_the_embedded_broker_serves_a_client(tmp_path: Path) -> None:
    from mq9 import Broker

    with Broker(tmp_path / "data") as broker, Mailbox(broker.url) as client:
        box = client.create(ttl=60)
        client.send(box, {"a": 1})
    with Broker(tmp_path / "data") as broker, Mailbox(broker.url) as client:
        assert [message["a"] for message in client.fetch(box)] == [1]
    with Broker() as broker, Mailbox(broker.url) as client, pytest.raises(NotFound):
        client.fetch(box)


def test_clients_leave_no_open_files(broker: BrokerProcess) -> None:
    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - only counted

    with Mailbox(broker.url) as client:
        client.create(ttl=60)
    before = open_files()
    for _ in range(20):
        with Mailbox(broker.url) as client:
            client.receive(client.create(ttl=60))
    gc.collect()
    assert open_files() <= before
