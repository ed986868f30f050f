"""A TCP proxy in front of a broker, which loses what the broker says when a test wants it to."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self


class Proxy:
    """Carries bytes between clients and the broker at `url`; each connection has a thread for either direction."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._broker = (parts.hostname, parts.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"nats://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []
        self._swallowed = b""
        self._open = threading.Event()
        self._open.set()
        self.cuts = 0

    def cut_at(self, words: bytes) -> None:
        """The next time that the broker says `words`, lose what it says, and the connection with it."""
        self._swallowed = words

    def hold(self) -> None:
        """Carry nothing more to the broker, until `go_on`."""
        self._open.clear()

    def go_on(self) -> None:
        """Carry what was held up, and everything after it."""
        self._open.set()

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.set()
        for each in [self._listener, *self._sockets]:
            _end(each)
        for thread in self._threads:
            thread.join(10)
        for each in [self._listener, *self._sockets]:
            each.close()

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments)  # type: ignore[arg-type]  # one of the methods below
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._sockets.append(client)
                try:
                    broker = socket.create_connection(self._broker)
                except OSError:
                    _end(client)
                    continue
                self._sockets.append(broker)
                self._start(self._carry, client, broker, False)
                self._start(self._carry, broker, client, True)

    def _carry(self, source: socket.socket, target: socket.socket, from_broker: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if from_broker and self._swallowed and self._swallowed in data:
                    self._swallowed = b""
                    self.cuts += 1
                    break
                if not from_broker:
                    self._open.wait()
                target.sendall(data)
        _end(source)
        _end(target)


def _end(each: socket.socket) -> None:
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
