"""The broker, whatever a client sends: it stays up, it answers or hangs up, and nobody else notices."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mq9.server.embedded import Broker
from tests.fuzz.traffic import conversations, cut
from tests.support.rawclient import RawClient

if TYPE_CHECKING:
    from collections.abc import Iterator

ANSWERS: Final = (b"MSG ", b"HMSG ", b"PONG", b"+OK", b"-ERR '")
OPTIONS: Final = b'CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true}\r\n'


class Complaints(logging.Handler):
    """Keeps whatever the broker logs as an error: an exception of its own that it caught at the last moment is one."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep `record`."""
        self.heard.append(self.format(record))


class Steady:
    """Two well-behaved clients, one of whom sends to the other through a subject and through a mailbox."""

    def __init__(self, sender: RawClient, receiver: RawClient, port: int) -> None:
        self.port = port
        self.complaints = Complaints()
        self._sender = sender
        self._receiver = receiver
        self._sent = 0
        sender.send(b"SUB answers 1\r\n")
        self._mail_id = self._asked(b"$mq9.AI.MAILBOX.CREATE", b"{}")["mail_id"].encode()
        self._asked(b"$mq9.AI.MAILBOX.CREATE", b'{"name":"fuzzed"}')
        receiver.send(b"SUB steady 1\r\nSUB $mq9.AI.MAILBOX.MSG.%b 2\r\n" % self._mail_id)
        assert receiver.fence() == []

    def send(self) -> None:
        """Send the next message through both ways, and see it arrive, unchanged and alone."""
        self._sent += 1
        payload = b"message %d" % self._sent
        self._sender.send(b"PUB steady %d\r\n%b\r\n" % (len(payload), payload))
        assert "msg_id" in self._asked(b"$mq9.AI.MAILBOX.MSG." + self._mail_id, payload)
        frames = sorted(self._receiver.frame() or b"" for _ in range(2))
        stored, core = frames
        assert core == b"MSG steady 1 %d\r\n%b" % (len(payload), payload)
        assert stored.startswith(b"HMSG $mq9.AI.MAILBOX.MSG.%b.normal 2 " % self._mail_id)
        assert stored.endswith(b"\r\n\r\n" + payload)
        assert self._receiver.fence() == []

    def _asked(self, subject: bytes, body: bytes) -> dict[str, str]:
        self._sender.send(b"PUB %b answers %d\r\n%b\r\n" % (subject, len(body), body))
        frame = self._sender.frame()
        assert frame is not None
        answer: dict[str, str] = json.loads(frame.split(b"\r\n")[-1])
        return answer


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Steady]:
    """A broker with its two well-behaved clients."""
    with Broker(tmp_path_factory.mktemp("fuzz")) as broker:
        port = int(broker.url.rpartition(":")[2])
        with RawClient(port) as sender, RawClient(port) as receiver:
            clients = Steady(sender.connect(), receiver.connect(), port)
            logging.getLogger().addHandler(clients.complaints)
            yield clients
            logging.getLogger().removeHandler(clients.complaints)


@given(st.data(), conversations, st.booleans())
@settings(max_examples=250, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
def test_a_client_that_says_anything_disturbs_nobody(
    steady: Steady, data: st.DataObject, conversation: bytes, connects: bool
) -> None:
    with RawClient(steady.port) as fuzzed:
        fuzzed.opened()
        for piece in data.draw(cut(OPTIONS * connects + conversation)):
            fuzzed.send(piece)
        steady.send()
        fuzzed.finish()
        for frame in fuzzed.rest():
            assert frame.startswith(ANSWERS)
    steady.send()
    assert steady.complaints.heard == []


@given(st.data(), conversations)
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@example(None, b"PUB fuzz.a 1000000\r\n" + b"x" * 300_000)
@example(None, b"SUB > 1\r\nPUB fuzz.a 5\r\nhe")
def test_a_client_that_vanishes_disturbs_nobody(
    steady: Steady, data: st.DataObject | None, conversation: bytes
) -> None:
    pieces = data.draw(cut(conversation)) if data else [conversation]
    fuzzed = RawClient(steady.port)
    for piece in [OPTIONS, *pieces]:
        fuzzed.send(piece)
    fuzzed.reset()
    steady.send()
    assert steady.complaints.heard == []
