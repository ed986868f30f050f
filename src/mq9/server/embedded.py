"""A whole broker inside a Python process, on a thread of its own.

For tests, and for applications of a single process.
"""

from __future__ import annotations

import asyncio
import os
import threading
from types import TracebackType
from typing import Self

import uvloop

from mq9.server.broker import Server
from mq9.server.config import Config


class Broker:
    """The same broker as `mq9 serve`, inside this process.

    Arguments:
        data_dir: where it keeps its data; None for a broker that keeps nothing (as `--memory`).
        host, port: where it listens; port 0 takes a free one, which `url` then names.
        config: everything else; the arguments above win over it.

    Starting raises ConfigError or StoreError with one sentence when it cannot listen or its data cannot be opened.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str] | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        config: Config | None = None,
    ) -> None:
        values = {"host": host, "port": port, "memory": data_dir is None}
        if data_dir is not None:
            values["data_dir"] = os.fspath(data_dir)
        base = config or Config()
        self._config = Config(**({field: getattr(base, field) for field in base.__slots__} | values))
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._server: Server | None = None
        self._failure: BaseException | None = None

    @property
    def url(self) -> str:
        """Where a client connects to. Only while the broker runs."""
        if self._server is None:
            raise RuntimeError("the broker is not running")
        return self._server.url

    def start(self) -> Self:
        """Start the broker; returns when it listens."""
        if self._thread is not None:
            raise RuntimeError("the broker runs already")
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="mq9-broker", daemon=True)
        self._thread.start()
        ready.wait()
        if self._failure is not None:
            self._thread.join()
            self._thread = None
            failure, self._failure = self._failure, None
            raise failure
        return self

    def stop(self) -> None:
        """Stop the broker; returns when everything that was acknowledged is on disk and its thread has ended."""
        if self._thread is None or self._loop is None or self._stopping is None:
            return
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._thread = self._loop = self._stopping = self._server = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self, ready: threading.Event) -> None:
        try:
            uvloop.run(self._serve(ready))
        except BaseException as error:
            self._failure = error
        finally:
            ready.set()

    async def _serve(self, ready: threading.Event) -> None:
        server = Server(self._config)
        await server.start()
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._server = server
        ready.set()
        await self._stopping.wait()
        await server.stop()
