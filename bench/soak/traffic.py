"""What goes on during a soak: mailboxes, groups, connections and work that come and go, all of it checked.

Everything ends within a minute or so, by its time to live or because it is removed: what a broker holds is about the same at any
time, once it has come to that.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import nats
import nats.errors

from bench import generator
from bench.generator import RunFailedError
from bench.processes import HOST
from mq9 import AsyncMailbox, MailboxError, protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from nats.aio.client import Client
    from nats.aio.msg import Msg

    from mq9 import AsyncMessage

PATIENCE_S: Final = 30.0
_SIZES: Final = (32, 128, 500, 2_000, 10_000)
_PRIORITIES: Final = ("critical", "urgent", "high", "normal", "low")
_BOXES_PER_CONNECTION: Final = 10
_TASKS: Final = 60
_GROUPS: Final = 5
_BURST_PAUSE_S: Final = 5.0
_PAUSE_S: Final = 0.05


class Traffic:
    """All of it, on the broker at `port`, as `seed` says; `count` tells how much there was of each."""

    def __init__(self, port: int, seed: int, goes_on: Callable[[], bool]) -> None:
        self._port = port
        self._random = random.Random(seed)
        self._goes_on = goes_on
        self.count: Counter[str] = Counter()

    async def run(self) -> None:
        """Do it until it is over. Raises RunFailedError when something was not as promised."""
        actors = (self._mailboxes, self._mailboxes, self._work, self._dying_workers, self._bursts)
        with _silence():
            async with asyncio.TaskGroup() as group:
                for actor in actors:
                    group.create_task(_promised(actor))

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[Client]:
        self.count["connections"] += 1
        client = await nats.connect(f"nats://{HOST}:{self._port}", allow_reconnect=False)
        try:
            yield client
        finally:
            await client.close()

    async def _die(self, said: bytes, heard: bytes) -> None:
        """Connect, say something, hear something, and reset the connection, as a program does that dies."""
        self.count["connections"] += 1
        reader, writer = await asyncio.open_connection(HOST, self._port)
        writer.write(b'CONNECT {"verbose":false,"headers":true}\r\n' + said)
        try:
            with contextlib.suppress(asyncio.LimitOverrunError):  # it heard a lot, which will do
                await _in_time(reader.readuntil(heard), "a client to be answered before it dies")
        finally:
            writer.transport.abort()

    # mailboxes that come, are filled, read, and go

    async def _mailboxes(self) -> None:
        while self._goes_on():
            async with self._connected() as client:
                for _ in range(_BOXES_PER_CONNECTION):
                    await self._mailbox(client)
                    await asyncio.sleep(_PAUSE_S)

    async def _mailbox(self, client: Client) -> None:
        mail_id = await _create(client, self._random.randint(20, 60))
        self.count["mailboxes"] += 1
        kept = await self._fill(client, mail_id)
        fate = self._random.choice(["receive", "receive", "remove", "leave"])
        if fate == "receive":
            await self._die(f"SUB {protocol.MESSAGES}{mail_id} 1\r\n".encode(), b"HMSG ")
            await self._receive(client, mail_id, kept)
        elif fate == "remove":
            await _ask(client, protocol.REMOVE + mail_id, {})

    async def _fill(self, client: Client, mail_id: str) -> list[bytes]:
        """Send some messages; return those that will be there, in the order of priority, then of sending."""
        kept: list[tuple[int, int, bytes]] = []
        by_key: dict[str, tuple[int, int, bytes]] = {}
        for number in range(self._random.randint(1, 30)):
            payload = (b"%d|" % number).ljust(self._random.choice(_SIZES), b"x")
            rank = self._random.randrange(len(_PRIORITIES))
            headers = {protocol.HEADER_PRIORITY: _PRIORITIES[rank]}
            message = rank, number, payload
            if self._random.random() < 0.2:
                headers[protocol.HEADER_TTL] = "60"
            if self._random.random() < 0.2:
                headers[protocol.HEADER_DEDUP] = f"{mail_id}-{number}"
            if self._random.random() < 0.2:
                key = headers[protocol.HEADER_KEY] = self._random.choice("abc")
                if key in by_key:
                    kept.remove(by_key[key])
                by_key[key] = message
            reply = await _ask(client, protocol.MESSAGES + mail_id, payload, headers)
            if "msg_id" not in reply:
                raise RunFailedError(f"a message was not stored: {reply}")
            kept.append(message)
            self.count["messages"] += 1
        return [payload for _, _, payload in sorted(kept)]

    async def _receive(self, client: Client, mail_id: str, expected: list[bytes]) -> None:
        """Receive all of it, in its order."""
        received: list[bytes] = []
        complete = asyncio.Event()

        async def take(message: Msg) -> None:
            received.append(message.data)
            if (message.headers or {}).get(protocol.HEADER_PENDING) == "0":
                complete.set()

        subscription = await client.subscribe(f"{protocol.MESSAGES}{mail_id}.*", cb=take)
        await _in_time(complete.wait(), "a receiver to be caught up")
        await subscription.unsubscribe()
        if received != expected:
            raise RunFailedError(f"a receiver got {len(received)} messages of {len(expected)}, or in another order")

    # work, by the SDK

    async def _work(self) -> None:
        async with AsyncMailbox(f"nats://{HOST}:{self._port}") as mailbox:
            while self._goes_on():
                await self._shift(mailbox)

    async def _shift(self, mailbox: AsyncMailbox) -> None:
        """Tasks in a mailbox of their own, shared by workers that fail now and then; each must be done once."""
        box = await mailbox.create(ttl=120)
        done: Counter[int] = Counter()
        complete = asyncio.Event()

        async def handle(task: AsyncMessage) -> None:
            if task.attempt == 1 and self._random.random() < 0.05:
                raise ValueError("failed on purpose")
            done[task["number"]] += 1
            if len(done) == _TASKS:
                complete.set()

        workers = [mailbox.receive(box, handle, resume="workers", concurrency=4) for _ in range(3)]
        for number in range(_TASKS):
            await mailbox.send(box, {"number": number})
        await _in_time(complete.wait(), "all tasks to be done")
        for worker in workers:
            await worker.stop()
        if done != Counter(range(_TASKS)):
            raise RunFailedError(f"tasks were done other than once: {done}")
        await mailbox.remove(box)
        self.count["tasks"] += _TASKS

    # work, by workers that die

    async def _dying_workers(self) -> None:
        while self._goes_on():
            async with self._connected() as client:
                mail_id = await _create(client, 60)
                for number in range(_TASKS):
                    await client.publish(protocol.MESSAGES + mail_id, b"%d" % number)
                await client.flush()
                for name in range(_GROUPS):
                    await self._group(client, mail_id, f"group-{name}")
                await _ask(client, protocol.REMOVE + mail_id, {})

    async def _group(self, client: Client, mail_id: str, name: str) -> None:
        """A worker of the group leases some and dies; another one does everything, when the leases have run out."""
        lease = json.dumps(_lease(name, lease_ms=500, limit=10)).encode()
        asked = f"SUB dying 1\r\nPUB {protocol.LEASE}{mail_id} dying {len(lease)}\r\n".encode() + lease + b"\r\n"
        await self._die(asked, b'"attempt": 1')
        acked: list[int] = []
        while len(acked) < _TASKS:
            batch = await _ask(client, protocol.LEASE + mail_id, _lease(name, lease_ms=30_000, limit=25))
            ids = [message["msg_id"] for message in batch["messages"]]
            if ids:
                answer = await _ask(client, protocol.ACK + mail_id, {"group_name": name, "msg_ids": ids})
                if answer["error"]:
                    raise RunFailedError(f"an ack was refused: {answer}")
            acked += ids
        if len(set(acked)) != _TASKS:
            raise RunFailedError(f"a group worked on {len(set(acked))} messages of {_TASKS}, in {len(acked)} leases")
        self.count["groups"] += 1

    # bursts

    async def _bursts(self) -> None:
        """Now and then a lot at once, read back and removed."""
        while self._goes_on():
            async with self._connected() as client:
                mail_id = await _create(client, 60)
                sent: dict[str, Any] = {"port": self._port, "count": 1_000, "size": 256}
                subjects = [protocol.MESSAGES + mail_id]
                await asyncio.to_thread(generator.run, "requests", subjects, connections=8, in_flight=64, **sent)
                await asyncio.to_thread(generator.run, "receive", subjects, publishers=8, **sent)
                await _ask(client, protocol.REMOVE + mail_id, {})
            self.count["messages"] += 8 * 1_000
            await asyncio.sleep(_BURST_PAUSE_S)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Let the SDK say only what is critical meanwhile: it logs every worker that fails on purpose."""
    log = logging.getLogger("mq9")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


async def _promised(actor: Callable[[], Awaitable[None]]) -> None:
    """Have an actor act; a client that fails is a promise that was broken."""
    try:
        await actor()
    except (nats.errors.Error, MailboxError, OSError, asyncio.IncompleteReadError) as error:
        raise RunFailedError(f"{actor.__name__.strip('_')}: {error!r}") from error


def _lease(group: str, lease_ms: int, limit: int) -> dict[str, Any]:
    return {"group_name": group, "lease_ms": lease_ms, "config": {"num_msgs": limit, "max_wait_ms": 1_000}}


async def _ask(client: Client, subject: str, body: Any, headers: dict[str, str] | None = None) -> dict[str, Any]:
    """Ask, and return the answer; bytes are sent as they are. Raises RunFailedError for a refusal."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        reply = await client.request(subject, data, timeout=PATIENCE_S, headers=headers)
    except nats.errors.Error as error:
        raise RunFailedError(f"no answer to {subject.partition('.m-')[0]}: {error!r}") from error
    told: dict[str, Any] = json.loads(reply.data)
    if told.get("error"):
        raise RunFailedError(f"{subject.partition('.m-')[0]} was refused: {told}")
    return told


async def _create(client: Client, ttl_s: int) -> str:
    created = await _ask(client, protocol.CREATE, {"ttl": ttl_s})
    if "mail_id" not in created:
        raise RunFailedError(f"no mailbox was created: {created}")
    return str(created["mail_id"])


async def _in_time(waiting: Any, what: str) -> None:
    try:
        await asyncio.wait_for(waiting, PATIENCE_S)
    except TimeoutError:
        raise RunFailedError(f"waited {PATIENCE_S:.0f} s for {what}") from None
