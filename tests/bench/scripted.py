"""A small NATS server that keeps its promises except where a test tells it not to.

It answers requests with a counter, passes messages on to subscribers, replays what was stored, hands it out to workers as
mq9 and as JetStream do, and lets a test put a fault between what it should write and what it writes.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

# Gets the frames that should be written and returns those that are; one call for each frame of a client that causes
# any, with the number of such frames before it.
Fault = Callable[[int, list[bytes]], list[bytes]]

INFO = b'INFO {"server_id":"S","version":"2.9.10","proto":1,"headers":true,"max_payload":1048576}\r\n'


def message(subject: str, sid: str, payload: bytes, reply: str = "") -> bytes:
    """Return the frame that delivers `payload`."""
    words = [subject, sid, *([reply] if reply else []), str(len(payload))]
    return f"MSG {' '.join(words)}\r\n".encode() + payload + b"\r\n"


def honest(number: int, frames: list[bytes]) -> list[bytes]:
    """Write what should be written."""
    del number
    return frames


def drop(which: int) -> Fault:
    """Write nothing in place of `which`."""
    return lambda number, frames: [] if number == which else frames


def repeat(which: int) -> Fault:
    """Write `which` twice."""
    return lambda number, frames: frames * 2 if number == which else frames


def swap(which: int) -> Fault:
    """Hold `which` back until the next has been written."""
    held: list[bytes] = []

    def fault(number: int, frames: list[bytes]) -> list[bytes]:
        if number == which:
            held.extend(frames)
            return []
        if number == which + 1:
            return frames + held
        return frames

    return fault


def replace(which: int, make: Callable[[bytes], bytes]) -> Fault:
    """Write what `make` makes of `which`."""
    return lambda number, frames: [make(frame) for frame in frames] if number == which else frames


@dataclass
class Script:
    """What the server does.

    `fault` is between it and its answers and deliveries, `replay_fault` between it and what was stored;
    `identify(stored, subject)` makes the number of what it has just stored, `stored` being 1 for the first. What it
    writes for `repeat_late` it writes again before the receiver's next PONG, when nothing else is under way. What is
    published to a key of `forward` goes to the subscribers of its value. `work_fault` is between what was stored and
    those who work on it, `ack_fault` between it and what it says to an ack.
    """

    fault: Fault = honest
    identify: Callable[[int, str], int] = lambda stored, subject: stored
    replay_fault: Fault = honest
    repeat_late: int | None = None
    forward: dict[str, str] = field(default_factory=dict)
    work_fault: Fault = honest
    ack_fault: Fault = honest
    handed_out: int = 0
    acks: int = 0
    late: dict[asyncio.StreamWriter, list[bytes]] = field(default_factory=dict)
    stored: dict[str, list[bytes]] = field(default_factory=dict)
    taken: int = 0
    subscriptions: list[tuple[asyncio.StreamWriter, str, str]] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client until it hangs up."""
        writer.write(INFO)
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                await self.obey(line.decode().split(), reader, writer)
                await writer.drain()
        self.subscriptions = [known for known in self.subscriptions if known[0] is not writer]
        writer.close()

    async def obey(self, words: list[str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Do what one line asks for."""
        if words[0] == "PING":
            writer.writelines([*self.late.pop(writer, []), b"PONG\r\n"])
        elif words[0] == "SUB":
            self.subscribe(words[1], words[2], writer)
        elif words[0] == "PUB":
            payload = (await reader.readexactly(int(words[-1]) + 2))[:-2]
            self.publish(words, payload, writer)

    def subscribe(self, subject: str, sid: str, writer: asyncio.StreamWriter) -> None:
        """Remember a subscription, and write what is stored for it."""
        self.subscriptions.append((writer, subject, sid))
        for number, payload in enumerate(self.stored.get(subject, [])):
            writer.writelines(self.replay_fault(number, [message(subject, sid, payload)]))

    def publish(self, words: list[str], payload: bytes, writer: asyncio.StreamWriter) -> None:
        """Store and answer a message that has a reply subject; pass on one that has none."""
        if words[1].startswith(("$mq9.AI.MSG.", "$JS.")) and "MAILBOX" not in words[1]:
            self.work(words, payload, writer)
            return
        number, self.taken = self.taken, self.taken + 1
        if len(words) == 4:
            self.stored.setdefault(words[1], []).append(payload)
            reply = b'{"msg_id": %d}' % self.identify(self.taken, words[1])
            self.write(number, message(words[2], "1", reply), writer)
            return
        for subscriber, subject, sid in self.subscriptions:
            if subject == self.forward.get(words[1], words[1]):
                self.write(number, message(subject, sid, payload), subscriber)

    def work(self, words: list[str], payload: bytes, writer: asyncio.StreamWriter) -> None:
        """Hand out a batch of what was stored, or take an ack."""
        subject, reply = words[1], words[2] if len(words) == 4 else ""
        box = subject.rpartition(".")[2]
        if subject.startswith("$mq9.AI.MSG.FETCH."):
            batch = [
                {"msg_id": number, "payload": base64.b64encode(stored).decode(), "header": None}
                for number, stored in self.take(box, json.loads(payload)["config"]["num_msgs"])
            ]
            writer.write(message(reply, "1", json.dumps({"error": "", "messages": batch}).encode()))
        elif subject.startswith("$JS.API.CONSUMER.MSG.NEXT."):
            for number, stored in self.take(box, json.loads(payload)["batch"]):
                writer.write(message("stored", "1", stored, f"$JS.ACK.{number}"))
        elif reply:
            number, self.acks = self.acks, self.acks + 1
            said = b'{"error": ""}' if subject.startswith("$mq9.") else b""
            writer.writelines(self.ack_fault(number, [message(reply, "1", said)]))

    def take(self, box: str, limit: int) -> list[tuple[int, bytes]]:
        """Give out what comes next of what was stored, with its number, or what the fault makes of it."""
        batch: list[tuple[int, bytes]] = []
        while len(batch) < limit and self.handed_out < len(self.stored.get(box, [])):
            number, self.handed_out = self.handed_out, self.handed_out + 1
            batch += [(number + 1, given) for given in self.work_fault(number, [self.stored[box][number]])]
        return batch

    def write(self, number: int, frame: bytes, writer: asyncio.StreamWriter) -> None:
        """Write an answer or a delivery, or what the fault makes of it."""
        writer.writelines(self.fault(number, [frame]))
        if number == self.repeat_late:
            self.late[writer] = [frame]

    def serving(self) -> contextlib.AbstractAsyncContextManager[int]:
        """Serve on a free port, which is what the block gets."""
        return serving(self.serve)


@contextlib.asynccontextmanager
async def serving(serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[int]:
    """Have `serve` serve whoever connects on a free port, which is what the block gets, and see all of them off."""
    clients: set[asyncio.Task[None]] = set()

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        clients.add(task)
        await serve(reader, writer)

    server = await asyncio.start_server(serve_one, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.gather(*clients)
        await server.wait_closed()
