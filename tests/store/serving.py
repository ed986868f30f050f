"""A whole broker over a store of the test's own, and a store that fails and waits when the test says so."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Self

import uvloop

from mq9.server.broker import Server
from mq9.server.config import Config
from mq9.store.disk_engine import DiskStore

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from mq9.store.contract import Commit, Store, StoreError


class FragileStore(DiskStore):
    """The engine on disk; its commits fail with `failing` while that is set, and wait before they begin while `held` is."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.failing: StoreError | None = None
        self.failed = 0
        self._passing = threading.Semaphore(0)
        self._waiting = threading.Semaphore(0)
        self._held = False

    def hold(self) -> None:
        """Let every commit wait for a `let_pass` of its own."""
        self._held = True

    def release(self) -> None:
        """Let no commit wait any more; the one that waits now begins."""
        self._held = False
        self._passing.release()

    def wait_for_commit(self) -> None:
        """Come back when a commit waits to begin; each is seen once."""
        assert self._waiting.acquire(timeout=10), "no commit was begun"

    def let_pass(self) -> None:
        """Let one commit that waits begin."""
        self._passing.release()

    async def commit(self, commit: Commit) -> None:
        """See Store.commit."""
        if self._held:
            self._waiting.release()
            await asyncio.to_thread(self._passing.acquire)
        if self.failing is not None:
            self.failed += 1
            raise self.failing
        await super().commit(commit)


class Serving:
    """A broker on a thread of its own.

    Arguments:
        store: what it keeps its state in.
        config: everything else; by default it takes a free port.
    """

    def __init__(self, store: Store, config: Config | None = None) -> None:
        self._store = store
        self._config = config or Config(port=0)
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="serving")
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.url = ""
        self.http_port: int | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(20), "the broker did not start"
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)
        assert not self._thread.is_alive(), "the broker did not stop"
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            uvloop.run(self._serve())
        except BaseException as error:  # raised in the test's own thread
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        server = Server(self._config, store=self._store)
        await server.start()
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self.url = server.url
        self.http_port = None if server.http is None else server.http.port
        self._ready.set()
        await self._stop.wait()
        await server.stop()
