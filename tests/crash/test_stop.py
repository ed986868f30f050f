"""A broker that is told to stop while it has much to do: it stops soon, and has lost nothing of what it had answered."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import pytest

from tests.crash.rounds import Rounds
from tests.store.post import MAILBOX, Post
from tests.support.broker import BrokerProcess
from tests.support.rawclient import RawClient

if TYPE_CHECKING:
    import socket
    from pathlib import Path

STOP_S_MAX: Final = 10.0


def stop(broker: BrokerProcess) -> None:
    """Stop the broker as an operator does; it must end well, and soon."""
    began = time.monotonic()
    assert broker.stop() == 0
    assert time.monotonic() - began < STOP_S_MAX


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_was_answered_before_it_stopped_is_there(tmp_path: Path) -> None:
    with Rounds(tmp_path / "data") as rounds:
        for _ in range(5):
            rounds.work_until(lambda: stop(rounds.broker), 0.2, 0.5)
            rounds.compare()
    rounds.report("stopped 5 times")
    assert rounds.ledger.sends_told > 500


def flood(connection: socket.socket) -> None:
    """Publish to the mailbox `box` without ever waiting, until the other end hangs up."""
    publishes = b"PUB %b.MSG.box 100\r\n%b\r\n" % (MAILBOX.encode(), b"x" * 100) * 400
    with suppress(OSError):
        while True:
            connection.sendall(publishes)


@pytest.mark.slow
def test_a_flood_does_not_keep_it_from_stopping(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path / "data") as broker, ExitStack() as ended:
        with Post(broker.url) as post:
            post.new(name="box")
            for _ in range(4):
                client = ended.enter_context(RawClient(urlsplit(broker.url).port or 0)).connect()
                thread = threading.Thread(target=flood, args=(client._socket,))
                ended.callback(thread.join)
                ended.callback(client.finish)
                thread.start()
            deadline = time.monotonic() + 60
            while not post.ask(f"{MAILBOX}.LIST.box", {"after": 500_000, "limit": 1})["messages"]:
                assert time.monotonic() < deadline, "the flood is a trickle"
        stop(broker)


def test_a_client_that_reads_nothing_does_not_keep_it_from_stopping(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path / "data") as broker, Post(broker.url) as post:
        post.new(name="box")
        post.send_all("box", [bytes(1_000_000)] * 30)
        with RawClient(urlsplit(broker.url).port or 0) as client:
            client.connect()
            client.send(b"SUB %b.MSG.box 1\r\n" % MAILBOX.encode())
            stop(broker)
        broker.start()
        with Post(broker.url) as again:
            assert len(again.pages("box", limit=10)) == 30
