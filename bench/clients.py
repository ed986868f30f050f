"""Python programs that use a broker as its users do, each a process of its own: `python -m bench.clients send_mq9 …`.

Each prints one line of JSON as the generator does: count, seconds, rate, generator_cpu_s, and latencies where single calls are timed. After
the clock has stopped, what was sent is received and compared byte for byte, or what was received with what was sent.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import nats

from bench.generator import RunFailedError
from bench.processes import HOST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nats.aio.client import Client
    from nats.aio.msg import Msg

    from mq9 import Message

SIZE = 128
PATIENCE_S = 60.0
_FLUSH_EVERY = 2_000


def payloads(count: int) -> list[bytes]:
    """Return messages of SIZE bytes, no two of them the same."""
    return [(b"%08d|" % number).ljust(SIZE, b"%d" % (number % 10)) for number in range(count)]


class Clock:
    """How long something takes, and how long each part of it took."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._processor_s = time.process_time()
        self.took: list[float] = []

    def stop(self) -> None:
        """End it."""
        self.seconds = time.perf_counter() - self._started
        self.processor_s = time.process_time() - self._processor_s

    def report(self, count: int) -> str:
        """Write what was measured as the generator does."""
        took = sorted(self.took) or [0.0]
        told = {
            "count": count,
            "seconds": self.seconds,
            "rate": count / self.seconds,
            "p50_us": took[len(took) // 2] * 1e6,
            "p99_us": took[len(took) * 99 // 100] * 1e6,
            "max_us": took[-1] * 1e6,
            "generator_cpu_s": self.processor_s,
        }
        return json.dumps(told)


def check_numbers(numbers: Iterable[int], count: int) -> None:
    """See that `count` messages got numbers, each above the one before."""
    given = list(numbers)
    if len(given) != count or any(later <= earlier for earlier, later in itertools.pairwise(given)):
        raise RunFailedError(f"{count} messages were sent, and {len(given)} numbers came that do not grow")


def check_received(received: list[bytes], sent: list[bytes]) -> None:
    """See that what was received is what was sent, in its order."""
    if received == sent:
        return
    where = next((at for at, (here, there) in enumerate(zip(received, sent, strict=False)) if here != there), None)
    raise RunFailedError(f"{len(received)} messages came of {len(sent)}; the first that is another one: {where}")


async def _connect(port: int) -> Client:
    return await nats.connect(f"nats://{HOST}:{port}", allow_reconnect=False, pending_size=64 << 20)


async def _receive(client: Client, subject: str, count: int) -> list[bytes]:
    """Get `count` messages and whatever comes with them."""
    received: list[bytes] = []
    done = asyncio.Event()

    async def take(message: Msg) -> None:
        if (message.headers and message.headers.get("Status")) or not message.data:
            if message.reply:
                await client.publish(message.reply)
            return
        received.append(message.data)
        if len(received) == count:
            done.set()

    await client.subscribe(subject, cb=take, pending_msgs_limit=-1, pending_bytes_limit=-1)
    await asyncio.wait_for(done.wait(), PATIENCE_S)
    await client.flush()
    return received


async def _read_back(port: int, subject: str, sent: list[bytes]) -> None:
    client = await _connect(port)
    check_received(await _receive(client, subject, len(sent)), sent)
    await client.close()


def send_mq9(options: argparse.Namespace) -> str:
    """`Mailbox.send`, one at a time."""
    from mq9 import Mailbox

    sent = payloads(options.count)
    numbers = []
    with Mailbox(f"nats://{HOST}:{options.port}") as mailbox:
        mailbox.send(options.warm, b"connects")
        clock = Clock()
        for payload in sent:
            before = time.perf_counter()
            numbers.append(mailbox.send(options.mail_id, payload))
            clock.took.append(time.perf_counter() - before)
        clock.stop()
    check_numbers(numbers, options.count)
    asyncio.run(_read_back(options.port, options.read, sent))
    return clock.report(options.count)


def send_many_mq9(options: argparse.Namespace) -> str:
    """`Mailbox.send_many`, all at once."""
    from mq9 import Mailbox

    sent = payloads(options.count)
    with Mailbox(f"nats://{HOST}:{options.port}") as mailbox:
        mailbox.send(options.warm, b"connects")
        clock = Clock()
        numbers = list(mailbox.send_many(options.mail_id, sent))  # type: ignore[attr-defined, unused-ignore]
        clock.stop()
    check_numbers(numbers, options.count)
    asyncio.run(_read_back(options.port, options.read, sent))
    return clock.report(options.count)


def send_nats(options: argparse.Namespace) -> str:
    """nats-py's own request, one at a time: to JetStream its publish, which is a request with its reply read."""

    async def run() -> Clock:
        sent = payloads(options.count)
        client = await _connect(options.port)
        stream = client.jetstream()
        numbers: list[int] = []
        clock = Clock()
        for payload in sent:
            before = time.perf_counter()
            if options.jetstream:
                numbers.append((await stream.publish(options.subject, payload)).seq)
            else:
                reply = await client.request(options.subject, payload, timeout=PATIENCE_S)
                numbers.append(json.loads(reply.data)["msg_id"])
            clock.took.append(time.perf_counter() - before)
        clock.stop()
        await client.close()
        check_numbers(numbers, options.count)
        await _read_back(options.port, options.read, sent)
        return clock

    return asyncio.run(run()).report(options.count)


async def _fill(port: int, subject: str, sent: list[bytes]) -> None:
    client = await _connect(port)
    for number, payload in enumerate(sent):
        await client.publish(subject, payload)
        if number % _FLUSH_EVERY == 0:
            await client.flush(int(PATIENCE_S))
    await client.flush(int(PATIENCE_S))
    await client.close()


def receive_mq9(options: argparse.Namespace) -> str:
    """`Mailbox.receive` with a callback, of a mailbox that is full."""
    from mq9 import Mailbox

    sent = payloads(options.count)
    received: list[bytes] = []
    done = threading.Event()

    def take(message: Message) -> None:
        received.append(message.data)
        if len(received) == options.count:
            done.set()

    asyncio.run(_fill(options.port, options.subject, sent))
    with Mailbox(f"nats://{HOST}:{options.port}") as mailbox:
        mailbox.send(options.warm, b"connects")
        clock = Clock()
        handle = mailbox.receive(options.mail_id, take)
        if not done.wait(PATIENCE_S):
            raise RunFailedError(f"{len(received)} of {options.count} messages came, then nothing")
        clock.stop()
        handle.stop()
    check_received(received, sent)
    return clock.report(options.count)


def receive_nats(options: argparse.Namespace) -> str:
    """nats-py's own subscription with a callback, to the same."""

    async def run() -> Clock:
        sent = payloads(options.count)
        await _fill(options.port, options.subject, sent)
        client = await _connect(options.port)
        clock = Clock()
        received = await _receive(client, options.subject, options.count)
        clock.stop()
        await client.close()
        check_received(received, sent)
        return clock

    return asyncio.run(run()).report(options.count)


PROGRAMS: dict[str, Callable[[argparse.Namespace], str]] = {
    program.__name__: program for program in (send_mq9, send_many_mq9, send_nats, receive_mq9, receive_nats)
}


def main(words: list[str] | None = None) -> int:
    """Run one of PROGRAMS; the exit status is 1, with a sentence on stderr, when something was not as promised."""
    parser = argparse.ArgumentParser(prog="python -m bench.clients")
    parser.add_argument("program", choices=PROGRAMS)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--subject", required=True, help="where messages are published")
    parser.add_argument("--read", required=True, help="where they can be read back from")
    parser.add_argument("--mail-id", default="", help="the mailbox behind the subject")
    parser.add_argument("--warm", default="", help="another mailbox, for what comes before the clock")
    parser.add_argument("--jetstream", action="store_true")
    options: Any = parser.parse_args(words)
    try:
        print(PROGRAMS[options.program](options))
    except (RunFailedError, TimeoutError) as error:
        print(f"{options.program}: {error or 'nothing came any more'}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
