"""A small AMQP broker that has durable queues and nothing else, and keeps its promises except where a test tells it not to."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections import deque
from dataclasses import dataclass, field

from tests.bench.scripted import Fault, honest, serving

METHOD, HEADER, BODY = 1, 2, 3
END = b"\xce"


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    """Write a frame."""
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + END


def method(class_id: int, method_id: int, arguments: bytes = b"", channel: int = 1) -> bytes:
    """Write the frame of a method."""
    return frame(METHOD, channel, struct.pack(">HH", class_id, method_id) + arguments)


def short(text: bytes) -> bytes:
    """Write a short string."""
    return bytes([len(text)]) + text


def confirm(tag: int, multiple: bool = False) -> bytes:
    """Write a basic.ack of what was published."""
    return method(60, 80, struct.pack(">QB", tag, multiple))


def delivery(tag: int, payload: bytes, redelivered: bool = False, consumer: bytes = b"0") -> bytes:
    """Write a basic.deliver with its content."""
    arguments = short(consumer) + struct.pack(">QB", tag, redelivered) + short(b"") + short(b"queue")
    header = struct.pack(">HHQHB", 60, 0, len(payload), 0x1000, 2)
    return method(60, 60, arguments) + frame(HEADER, 1, header) + frame(BODY, 1, payload)


@dataclass
class Channel:
    """What one client has: the tags of what it published and was given, and what it is to ack."""

    published: int = 0
    queue: bytes = b""
    delivered: int = 0
    unacked: deque[tuple[int, bytes, bytes]] = field(default_factory=deque)
    consumers: dict[bytes, tuple[bytes, bool]] = field(default_factory=dict)
    prefetch: int = 0


@dataclass
class AmqpScript:
    """What the broker does.

    `fault` is between it and its confirms, `deliver_fault` between it and what it delivers, frame by frame, and
    `deliver_late` is delivered once more before a queue's count is told. `extra` is added to that count, and with
    `forgets_acks` it keeps what was acked. `in_pairs` confirms every second message for two.
    """

    fault: Fault = honest
    deliver_fault: Fault = honest
    deliver_late: bool = False
    extra: int = 0
    forgets_acks: bool = False
    in_pairs: bool = False
    queues: dict[bytes, deque[bytes]] = field(default_factory=dict)
    taken: int = 0
    given: int = 0

    def serving(self) -> contextlib.AbstractAsyncContextManager[int]:
        """Serve on a free port, which is what the block gets."""
        return serving(self.serve)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client until it hangs up."""
        channel = Channel()
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            assert await reader.readexactly(8) == b"AMQP\0\0\x09\x01"
            writer.write(method(10, 10, b"\0\x09" + b"\0" * 4 + struct.pack(">I", 5) + b"PLAIN" + b"\0" * 4, channel=0))
            while True:
                kind, number, size = struct.unpack(">BHI", await reader.readexactly(7))
                payload = (await reader.readexactly(size + 1))[:-1]
                writer.writelines(self.obey(kind, number, payload, channel))
                await writer.drain()
        for _, queue, given in reversed(channel.unacked):
            self.queues[queue].appendleft(given)
        writer.close()

    def obey(self, kind: int, number: int, payload: bytes, channel: Channel) -> list[bytes]:
        """Do what one frame asks for; return what is to be written."""
        if kind == HEADER:
            assert payload[12:] == b"\x10\0\x02"
            return []
        if kind == BODY:
            return self.publish(payload, channel)
        class_id, method_id = struct.unpack(">HH", payload[:4])
        arguments = payload[4:]
        match class_id, method_id:
            case 10, 11:
                assert b"\0guest\0guest" in arguments
                return [method(10, 30, struct.pack(">HIH", 2047, 131072, 60), channel=0)]
            case 10, 31:
                return []
            case 60, 20:
                self.consume(arguments, channel)
            case 60, 40:
                channel.queue = arguments[4 : 4 + arguments[3]]
                return []
            case 60, 80:
                tag, multiple = struct.unpack(">QB", arguments)
                self.take_ack(tag, multiple, channel)
            case 50, 10:
                return self.declare(arguments, channel)
            case 60, 10:
                channel.prefetch = struct.unpack(">IHB", arguments)[1]
                return [method(60, 11)]
            case _:
                answers = {(10, 40): (41, 0), (10, 50): (51, 0), (20, 10): (11, 1), (85, 10): (11, 1)}
                answer, on = answers[class_id, method_id]
                assert number == on
                return [method(class_id, answer, b"\0" * 4 if class_id == 20 else b"", channel=on)]
        return self.deliver(channel)

    def declare(self, arguments: bytes, channel: Channel) -> list[bytes]:
        """Make a queue, or find it, and tell how much waits in it."""
        name = arguments[3 : 3 + arguments[2]]
        flags = arguments[3 + arguments[2]]
        waiting = self.queues.setdefault(name, deque())
        told = method(50, 11, short(name) + struct.pack(">II", len(waiting) + (self.extra if flags & 1 else 0), 0))
        late = [delivery(channel.delivered + 1, b"late")] if self.deliver_late and channel.consumers else []
        return [*late, told]

    def publish(self, payload: bytes, channel: Channel) -> list[bytes]:
        """Store a message and confirm it."""
        number, self.taken = self.taken, self.taken + 1
        channel.published += 1
        self.queues[channel.queue].append(payload)
        if self.in_pairs:
            return self.fault(number, [confirm(channel.published, True)] if channel.published % 2 == 0 else [])
        return self.fault(number, [confirm(channel.published)])

    def consume(self, arguments: bytes, channel: Channel) -> None:
        """Note a consumer."""
        queue = arguments[3 : 3 + arguments[2]]
        rest = arguments[3 + len(queue) :]
        tag = rest[1 : 1 + rest[0]]
        channel.consumers[tag] = queue, not rest[1 + len(tag)] & 2

    def deliver(self, channel: Channel) -> list[bytes]:
        """Give consumers what there is, as far as they may have it unacked."""
        written: list[bytes] = []
        for tag, (queue, acks) in channel.consumers.items():
            while self.queues[queue] and not (acks and len(channel.unacked) >= channel.prefetch):
                payload = self.queues[queue].popleft()
                channel.delivered += 1
                if acks:
                    channel.unacked.append((channel.delivered, queue, payload))
                number, self.given = self.given, self.given + 1
                written += self.deliver_fault(number, [delivery(channel.delivered, payload, consumer=tag)])
        return written

    def take_ack(self, tag: int, multiple: bool, channel: Channel) -> None:
        """Forget what was acked."""
        assert multiple
        if not self.forgets_acks:
            while channel.unacked and channel.unacked[0][0] <= tag:
                channel.unacked.popleft()
