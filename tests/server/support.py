"""A broker on a thread of this process whose clock the test sets, and the few things that a raw client does all the time."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from typing import TYPE_CHECKING, Any, Self, TypeVar

import uvloop

from mq9.server.broker import Server
from mq9.server.config import Config
from tests.support.rawclient import PATIENCE_S, RawClient

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from mq9.store.contract import Store

Result = TypeVar("Result")
START_MS = 1_800_000_000_000
TICK_MS = 4


class Clock:
    """Unix ms, as the test says."""

    def __init__(self) -> None:
        self.now = START_MS

    def __call__(self) -> int:
        return self.now


class ThreadedServer:
    """A Server on a loop and thread of its own; `clock` says what time it is."""

    def __init__(self, store: Store | None = None, **config: Any) -> None:
        self.clock = Clock()
        self._config = Config(**({"port": 0, "memory": store is None} | config))
        self._store = store
        self._thread = threading.Thread(target=lambda: uvloop.run(self._serve()))
        self._ready = threading.Event()

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self.server = Server(self._config, self.clock, self._store)
        await self.server.start()
        self._ready.set()
        await self._stopping.wait()
        await self.server.stop()

    def call(self, function: Callable[[], Result]) -> Result:
        """Run `function` on the broker's loop."""

        async def run() -> Result:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(10)

    def pass_time(self, milliseconds: int) -> None:
        """Set the clock forward and let the broker do everything that this brings about."""
        self.clock.now += milliseconds

        def tick() -> None:
            while self.server.tick():
                pass

        self.call(tick)

    def outlast(self, milliseconds: int) -> None:
        """Let whatever was to last so long from now be over: durations are never cut short, and timers have ticks of 4 ms."""
        self.pass_time(milliseconds + TICK_MS)

    def client(self, **options: object) -> RawClient:
        """A client that has said CONNECT."""
        return RawClient(self.server.port).connect(**options)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10), "the broker did not start"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(10)
        assert not self._thread.is_alive(), "the broker did not stop"


def until(true: Callable[[], bool], what: str) -> None:
    """Wait for something that the other side of a socket brings about."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


def request(client: RawClient, subject: str, body: object = None, headers: dict[str, str] | None = None) -> Any:
    """Ask, and give the reply's JSON; `body` is bytes, or anything to be sent as JSON. Other frames must not come between."""
    payload = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    client.send(b"SUB reply.to.me 9999\r\nUNSUB 9999 1\r\n" + publish(subject, payload, "reply.to.me", headers))
    frame = client.frame()
    assert frame is not None, "the broker hung up"
    return json.loads(body_of(frame))


def publish(subject: str, payload: bytes = b"", reply: str = "", headers: dict[str, str] | None = None) -> bytes:
    """A PUB or HPUB frame."""
    if headers is None:
        return f"PUB {subject} {reply} {len(payload)}\r\n".encode() + payload + b"\r\n"
    block = b"NATS/1.0\r\n" + b"".join(f"{name}: {value}\r\n".encode() for name, value in headers.items()) + b"\r\n"
    head = f"HPUB {subject} {reply} {len(block)} {len(block) + len(payload)}\r\n".encode()
    return head + block + payload + b"\r\n"


def body_of(frame: bytes) -> bytes:
    """The payload of a MSG or HMSG frame."""
    line, _, rest = frame.partition(b"\r\n")
    words = line.split(b" ")
    return rest[int(words[-2]) :] if words[0] == b"HMSG" else rest


def headers_of(frame: bytes) -> dict[str, str]:
    """The headers of an HMSG frame."""
    line, _, rest = frame.partition(b"\r\n")
    block = rest[: int(line.split(b" ")[-2])].decode()
    return dict(text.split(": ", 1) for text in block.split("\r\n")[1:] if text)


def create(client: RawClient, **request_body: object) -> str:
    """Create a mailbox and give its mail_id."""
    reply = request(client, "$mq9.AI.MAILBOX.CREATE", request_body)
    assert "error" not in reply, reply
    return str(reply["mail_id"])
