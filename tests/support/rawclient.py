"""A client of the NATS protocol that sends exactly the bytes it is told to and hands back exactly the frames that come.

For the tests that say what no real client would say. It answers a server's PING by itself, keeps the INFO lines apart,
and checks of every frame that its sizes are true; all else is for the test to judge.
"""

from __future__ import annotations

import json
import socket
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from types import TracebackType

CRLF: Final = b"\r\n"
PATIENCE_S: Final = 10.0


class RawClient:
    """One TCP connection to the server on `port` of this machine.

    Arguments:
        port: where the server listens.
        patience_s: seconds after which waiting for anything is a failed test.

    Attributes:
        infos: the fields of every INFO that came.
        answers_pings: whether the server's PING is answered.
        pings: how many of those came.
    """

    def __init__(self, port: int, *, patience_s: float = PATIENCE_S) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=patience_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._unread = bytearray()
        self.infos: list[dict[str, Any]] = []
        self.answers_pings = True
        self.pings = 0

    def send(self, data: bytes) -> None:
        """Write `data`. A server that has hung up already is noticed when reading, not here."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self._socket.sendall(data)

    def send_each_byte(self, data: bytes, *, whole_above: int = 2048) -> None:
        """Write `data` a byte at a time; of more than `whole_above` bytes the middle goes in larger pieces."""
        head = tail = len(data)
        if len(data) > whole_above:
            head, tail = 256, len(data) - 256
        for index in range(head):
            self.send(data[index : index + 1])
        for index in range(head, tail, 8191):
            self.send(data[index : min(index + 8191, tail)])
        for index in range(tail, len(data)):
            self.send(data[index : index + 1])

    def opened(self) -> dict[str, Any]:
        """Read the INFO with which a server greets, and give its fields."""
        line = self._line()
        assert line is not None, "the server hung up before INFO"
        assert line[:5].upper() == b"INFO ", line
        self.infos.append(json.loads(line[5:]))
        return self.infos[0]

    def secure(self, context: ssl.SSLContext) -> Self:
        """Shake hands over TLS, with nothing that came before being left unread; raises OSError when that fails."""
        assert not self._unread, self._unread
        self._socket = context.wrap_socket(self._socket, server_hostname="localhost")
        return self

    def connect(self, **options: object) -> Self:
        """Read INFO, send CONNECT (quiet unless `options` say otherwise) and see the PONG."""
        if not self.infos:
            self.opened()
        said = {"verbose": False, "pedantic": False, "headers": True, "no_responders": True} | options
        self.send(b"CONNECT " + json.dumps(said, separators=(",", ":")).encode() + CRLF)
        before = self.fence()
        assert before == ([b"+OK"] if said["verbose"] else []), before
        return self

    def frame(self) -> bytes | None:
        """The next frame without its last CRLF, or None when the server has hung up. INFO and PING do not count."""
        while (line := self._line()) is not None:
            if line == b"PING":
                self.pings += 1
                if self.answers_pings:
                    self.send(b"PONG\r\n")
            elif line[:5].upper() == b"INFO ":
                self.infos.append(json.loads(line[5:]))
            elif line.startswith((b"MSG ", b"HMSG ")):
                return line + CRLF + self._payload(line)
            else:
                return line
        return None

    def fence(self) -> list[bytes]:
        """Send PING and give the frames that come before its PONG: then all that was sent before has been handled."""
        self.send(b"PING\r\n")
        frames: list[bytes] = []
        while (frame := self.frame()) != b"PONG":
            assert frame is not None, f"the server hung up after {frames}"
            frames.append(frame)
        return frames

    def rest(self) -> list[bytes]:
        """Every frame until the server hangs up."""
        frames = []
        while (frame := self.frame()) is not None:
            frames.append(frame)
        return frames

    def bytes_until_hung_up(self) -> int:
        """How many bytes still come before the server hangs up, in the middle of a frame or not."""
        while self._more():
            pass
        return len(self._unread)

    def finish(self) -> None:
        """Say that nothing more is to come; what the server still has to say can be read."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def hang_up(self) -> None:
        """Close this end, as a client does that is done."""
        self._socket.close()

    def reset(self) -> None:
        """Close this end at once, with a TCP reset, as a client does that has crashed."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.hang_up()

    def _payload(self, line: bytes) -> bytes:
        arguments = line.split(b" ")
        size = int(arguments[-1])
        payload = self._exactly(size + 2)
        assert payload[-2:] == CRLF, f"{line!r} is followed by {size} bytes and then no CRLF: {payload[-80:]!r}"
        if arguments[0] == b"HMSG":
            headers = payload[: int(arguments[-2])]
            assert int(arguments[-2]) <= size, line
            assert not headers.startswith(b"NATS/1.0") or headers.find(b"\r\n\r\n") == len(headers) - 4, (line, headers)
        return payload[:-2]

    def _line(self) -> bytes | None:
        while (end := self._unread.find(CRLF)) < 0:
            if not self._more():
                assert not self._unread, f"the server hung up in the middle of {bytes(self._unread[-200:])!r}"
                return None
        line = bytes(self._unread[:end])
        del self._unread[: end + 2]
        return line

    def _exactly(self, size: int) -> bytes:
        while len(self._unread) < size:
            assert self._more(), f"the server hung up {size - len(self._unread)} bytes before the end of a payload"
        data = bytes(self._unread[:size])
        del self._unread[:size]
        return data

    def _more(self) -> bool:
        try:
            data = self._socket.recv(1 << 18)
        except ConnectionResetError:
            return False
        except TimeoutError:
            unread = bytes(self._unread[-200:])
            raise AssertionError(f"nothing came for {self._socket.gettimeout()} s; unread is {unread!r}") from None
        self._unread += data
        return bool(data)
