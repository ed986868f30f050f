"""Somebody else on the same broker: `python -m tests.faults.neighbours URL` sends to a mailbox of its own and receives from it.

It sends at fixed moments, whether answers come or not, so a broker that stands still shows in every message that was due meanwhile. A word
on its standard input begins a phase; at its end it says in JSON, of each phase, how long messages took from the moment they were due to
their receipt, and whether everything that was answered was received.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

import uvloop

RATE: Final = 500
_PATIENCE_S: Final = 20.0
_PAYLOAD: Final = b"x" * 100
_BOX: Final = "$mq9.AI.MAILBOX"
_CONNECT: Final = b'CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\n'


class Neighbours:
    """The sender and the receiver, each with a connection of its own."""

    def __init__(self) -> None:
        self.due: list[float] = []
        self.phase_of: list[str] = []
        self.phase = "warming up"
        self.answered: dict[int, dict[str, Any]] = {}
        self.took_ms: dict[str, list[float]] = {}
        self.received: set[int] = set()
        self.doubles = 0

    async def run(self, url: str) -> None:
        """Do it until standard input ends, and say what was found."""
        self._created: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        port = urlsplit(url).port
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
        self._writer.write(_CONNECT + b"SUB answers.* 1\r\nPING\r\n")
        receiving, self._receiver = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
        self._receiver.write(_CONNECT)
        self._writer.write(b"PUB %b.CREATE answers.box 11\r\n" % _BOX.encode() + b'{"ttl": 0 }\r\n')
        answers = asyncio.create_task(self._hear(self._reader, self._writer))
        self.box = await self._created
        self._receiver.write(b"SUB %b.MSG.%b.* 2\r\n" % (_BOX.encode(), self.box))
        messages = asyncio.create_task(self._hear(receiving, self._receiver))
        phases = asyncio.create_task(self._phases())
        await self._send(phases)
        await self._finish()
        for task in (answers, messages):
            task.cancel()
        print(json.dumps(self._found()))  # noqa: T201

    async def _phases(self) -> None:
        loop = asyncio.get_running_loop()
        commands = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
        print("ready", flush=True)  # noqa: T201
        while line := await commands.readline():
            self.phase = line.decode().strip()

    async def _send(self, phases: asyncio.Task[None]) -> None:
        began = time.perf_counter()
        while not phases.done():
            while (due := began + len(self.due) / RATE) <= time.perf_counter():
                number = len(self.due)
                self.due.append(due)
                self.phase_of.append(self.phase)
                payload = b"%d %b" % (number, _PAYLOAD)
                head = b"PUB %b.MSG.%b answers.%d %d\r\n" % (_BOX.encode(), self.box, number, len(payload))
                self._writer.write(head + payload + b"\r\n")
            await asyncio.sleep(max(0.0, due - time.perf_counter()))

    async def _finish(self) -> None:
        deadline = time.perf_counter() + _PATIENCE_S
        while time.perf_counter() < deadline:
            stored = {number for number, answer in self.answered.items() if "msg_id" in answer}
            if len(self.answered) == len(self.due) and stored <= self.received:
                return
            await asyncio.sleep(0.01)

    async def _hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while line := await reader.readuntil(b"\r\n"):
                words = line.split()
                if words[0] in {b"MSG", b"HMSG"}:
                    data = await reader.readexactly(int(words[-1]) + 2)
                    head = int(words[-2]) if words[0] == b"HMSG" else 0
                    self._take(words[1], data[head:-2], time.perf_counter())
                elif words[0] == b"PING":
                    writer.write(b"PONG\r\n")

    def _take(self, subject: bytes, payload: bytes, now: float) -> None:
        if subject == b"answers.box":
            self._created.set_result(json.loads(payload)["mail_id"].encode())
        elif subject.startswith(b"answers."):
            self.answered[int(subject[8:])] = json.loads(payload)
        else:
            number = int(payload.partition(b" ")[0])
            self.doubles += number in self.received
            self.received.add(number)
            self.took_ms.setdefault(self.phase_of[number], []).append((now - self.due[number]) * 1_000)

    def _found(self) -> dict[str, Any]:
        stored = {number for number, answer in self.answered.items() if "msg_id" in answer}
        codes = sorted({answer["code"] for answer in self.answered.values() if "code" in answer})
        phases = {}
        for phase, took in self.took_ms.items():
            took.sort()
            quantiles = {"p50": took[len(took) // 2], "p99": took[len(took) * 99 // 100], "max": took[-1]}
            phases[phase] = {"count": len(took), **{name: round(value, 2) for name, value in quantiles.items()}}
        return {
            "sent": len(self.due),
            "stored": len(stored),
            "unanswered": len(self.due) - len(self.answered),
            "codes": codes,
            "lost": len(stored - self.received),
            "doubles": self.doubles,
            "phases": phases,
        }


if __name__ == "__main__":
    uvloop.run(Neighbours().run(sys.argv[1]))
