"""Replays a wire transcript against a server over real sockets, and says at which line the two part.

The same transcript is fed in three ways (`Feeding`); whichever way the bytes arrive, the conversation must be the same.
"""

from __future__ import annotations

import json
import re
import secrets
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, Final

from tests.support.rawclient import PATIENCE_S, RawClient
from tests.transcripts.expectation import Known, UnknownPlaceholderError
from tests.transcripts.script import Step, Transcript, Word

if TYPE_CHECKING:
    from tests.transcripts.script import Server

CRLF: Final = b"\r\n"
_SHOWN_LINES: Final = 30
_SHOWN_BYTES: Final = 300
_SUB = re.compile(rb"\s*SUB\s(?:.*\s)?(\S+)\s*", re.IGNORECASE)


class Feeding(Enum):
    """How what a client says is cut into writes."""

    BY_LINE = "line by line"
    BY_BYTE = "byte by byte"
    BY_TURN = "all at once"


class MismatchError(AssertionError):
    """The server said something else than the transcript; the message shows the line and what went before."""


class Replay:
    """One replay of `transcript` against the `server` on `port`; nothing is waited for longer than `patience_s`.

    With Feeding.BY_TURN, what a client says until another client is heard goes out in one write, and only then are the
    answers looked at; where they come when durable, and not in order, what it says until an answer is expected.
    """

    def __init__(
        self, transcript: Transcript, server: Server, port: int, feeding: Feeding, patience_s: float = PATIENCE_S
    ) -> None:
        self._transcript = transcript
        self._steps = [step for step in transcript.steps if not step.only or server.is_meant_by(step.only)]
        self._port = port
        self._patience_s = patience_s
        self._feeding = feeding
        self._known = Known(unique=secrets.token_hex(4).encode())
        self._clients: dict[str, RawClient] = {}
        self._lines: dict[str, deque[bytes | None]] = {}
        self._subscriptions: dict[str, set[bytes]] = {}
        self._speaker = ""
        self._unsent = bytearray()
        self._awaited: list[Step] = []
        self._log: list[str] = []
        self._at = 0

    def run(self) -> None:
        """Play every step; raises MismatchError at the first that comes otherwise, or for what comes unasked."""
        __tracebackhide__ = True
        try:
            for index, step in enumerate(self._steps):
                self._play(index, step)
            self._catch_up()
            for name in list(self._clients):
                self._settle(name)
        except AssertionError as difference:
            log = "\n".join(self._log[-_SHOWN_LINES:])
            raise MismatchError(
                f"{self._transcript.path}:{self._at} {self._feeding.value}:\n{difference}\n{log}"
            ) from None
        finally:
            for client in self._clients.values():
                client.hang_up()

    def _play(self, index: int, step: Step) -> None:
        self._at = step.line
        if self._speaker != step.clients[0]:
            self._catch_up()
        self._speaker = step.clients[0]
        if step.sends:
            self._say(self._sent_by(index))
        elif step.word in {Word.OPENS, Word.CONNECTS, Word.LEAVES} or len(step.clients) > 1:
            self._catch_up()
            self._act(step)
        else:
            if step.word is Word.SILENT:
                self._say(b"PING\r\n")
            self._awaited.append(step)
            # Only the answers to what this client has just said can wait until it has said more.
            if not self._unsent or not self._transcript.in_order:
                self._catch_up()

    def _say(self, data: bytes) -> None:
        client = self._clients[self._speaker]
        self._note(f"{self._speaker}> ", data)
        if found := _SUB.fullmatch(data):
            self._subscriptions[self._speaker].add(found[1])
        if self._feeding is Feeding.BY_TURN:
            self._unsent += data
        elif self._feeding is Feeding.BY_BYTE:
            client.send_each_byte(data)
        else:
            client.send(data)

    def _sent_by(self, index: int) -> bytes:
        """The bytes of the step at `index`; if it uses an answer that has not been looked at, it is looked at first."""
        try:
            return self._bytes_of(index)
        except UnknownPlaceholderError:
            self._catch_up()
            return self._bytes_of(index)

    def _bytes_of(self, index: int) -> bytes:
        step = self._steps[index]
        sizes = self._sizes(index) if b"<size>" in step.texts[0] else {}
        return self._known.fill(step.texts[0], **sizes) + (CRLF if step.word is Word.SENDS_LINE else b"")

    def _sizes(self, index: int) -> dict[str, bytes]:
        """Measure what `<headers>` and `<size>` stand for in the PUB or HPUB at `index` on the lines that follow it."""
        headers = 0
        if b"<headers>" in self._steps[index].texts[0]:
            while len(line := self._bytes_of(index := index + 1)) > len(CRLF):
                headers += len(line)
            headers += len(CRLF)
        payload = self._bytes_of(index + 1)
        return {"headers": b"%d" % headers, "size": b"%d" % (headers + len(payload) - len(CRLF))}

    def _catch_up(self) -> None:
        """Write what is still unsent and look at every answer that it should have brought."""
        if self._unsent:
            self._clients[self._speaker].send(bytes(self._unsent))
            self._unsent.clear()
        for step in self._awaited:
            self._await(step)
        self._awaited.clear()

    def _act(self, step: Step) -> None:
        name = step.clients[0]
        if step.word in {Word.OPENS, Word.CONNECTS}:
            assert name not in self._clients, f"{name} is there already"
            self._clients[name] = RawClient(self._port, patience_s=self._patience_s)
            self._lines[name] = deque()
            self._subscriptions[name] = set()
            if step.word is Word.CONNECTS:
                self._clients[name].connect(**json.loads(step.texts[0] or b"{}"))
        elif step.word is Word.LEAVES:
            self._settle(name)
            self._clients.pop(name).hang_up()
        else:
            frames = [frame for member in step.clients for frame in self._fence(member)]
            self._compare_in_any_order(step, frames)

    def _await(self, step: Step) -> None:
        self._at = step.line
        name = step.clients[0]
        if step.word is Word.GETS_IN_ANY_ORDER:
            assert not self._lines[name], f"unread: {self._lines[name]}"
            frames = [self._clients[name].frame() or b"" for _ in step.texts]
            self._compare_in_any_order(step, frames)
            return
        expected = {Word.SILENT: b"PONG", Word.CLOSED: None}.get(step.word, step.texts[0])
        line = self._line(name, expected)
        if expected is None or line is None:
            wanted = "the end of the connection" if expected is None else repr(expected)
            assert line is expected, f"expected {wanted}, got {line!r}"
            self._clients.pop(name).hang_up()
        else:
            assert self._known.matches(expected, line), f"expected {expected!r}\ngot      {line!r}"

    def _line(self, name: str, expected: bytes | None) -> bytes | None:
        client = self._clients[name]
        if expected is not None and expected.startswith(b"INFO {"):
            return b"INFO " + json.dumps(client.infos[0] if client.infos else client.opened()).encode()
        lines = self._lines[name]
        if not lines:
            frame = client.frame()
            lines.extend([None] if frame is None else frame.split(CRLF))
            self._note(f"{name}< ", b"(closed)" if frame is None else frame)
        return lines.popleft()

    def _fence(self, name: str) -> list[bytes]:
        assert not self._lines[name], f"{name} has not read {self._lines[name]}"
        frames = self._clients[name].fence()
        for frame in frames:
            self._note(f"{name}< ", frame)
        return frames

    def _compare_in_any_order(self, step: Step, frames: list[bytes]) -> None:
        unmet = list(step.texts)
        for frame in frames:
            met = next((text for text in unmet if self._known.matches(text, frame)), None)
            assert met is not None, f"expected one of {unmet}\ngot {frame!r}"
            unmet.remove(met)
        assert not unmet, f"expected {unmet} besides {frames}"

    def _settle(self, name: str) -> None:
        """See that nothing came unasked, and end every subscription before the next replay uses the same subjects."""
        for sid in self._subscriptions[name]:
            self._clients[name].send(b"UNSUB %b\r\n" % sid)
        unasked = [frame for frame in self._fence(name) if frame != b"+OK"]
        assert not unasked, f"at the end, {name} got unasked {unasked}"

    def _note(self, who: str, data: bytes) -> None:
        self._log.extend(who + repr(line[:_SHOWN_BYTES])[2:-1] for line in data.removesuffix(CRLF).split(CRLF))
