"""Mailboxes at their limits: the largest message, pages of a fetch, a receiver that does not read, and what is never said aloud."""

from __future__ import annotations

import base64
import json
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from mq9.server.config import Config
from mq9.server.embedded import Broker
from tests.support.broker import BrokerProcess
from tests.support.rawclient import RawClient

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIB = 1024 * 1024


class User:
    """A client of mailboxes: asks, and reads the answer."""

    def __init__(self, client: RawClient) -> None:
        self.client = client
        client.send(b"SUB answers.* 1\r\n")
        self.mail_id: str = self.ask("MAILBOX.CREATE", b"{}")["mail_id"]

    def ask(self, subject: str, body: bytes) -> dict[str, Any]:
        """The answer to a request below `$mq9.AI.`."""
        self.client.send(b"PUB $mq9.AI.%b answers.1 %d\r\n%b\r\n" % (subject.encode(), len(body), body))
        frame = self.client.frame()
        assert frame is not None
        answer: dict[str, Any] = json.loads(frame.split(b"\r\n", 1)[1].rpartition(b"\r\n")[2])
        return answer

    def send(self, payload: bytes, level: str = "normal") -> int:
        """Store a message, and give its msg_id."""
        msg_id: int = self.ask(f"MAILBOX.MSG.{self.mail_id}.{level}", payload)["msg_id"]
        return msg_id

    def pages(self, **body: object) -> Iterator[list[dict[str, Any]]]:
        """Every page of a fetch."""
        after = 0
        while after is not None:
            page = self.ask(f"MAILBOX.LIST.{self.mail_id}", json.dumps(body | {"after": after}).encode())
            yield page["messages"]
            after = page["next"]


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """A broker that gives up early on core subscribers, which a receiver is not."""
    with Broker(tmp_path, config=Config(max_pending=65_536)) as broker:
        yield int(broker.url.rpartition(":")[2])


def test_the_largest_messages_are_stored_and_delivered_whole(tmp_path: Path) -> None:
    with (
        Broker(tmp_path) as broker,
        RawClient(int(broker.url.rpartition(":")[2])).connect() as sender,
        RawClient(int(broker.url.rpartition(":")[2])).connect() as receiver,
    ):
        user = User(sender)
        payloads = [bytes([number]) * MIB for number in range(6)]
        for payload in payloads:
            user.send(payload)
        receiver.send(b"SUB $mq9.AI.MAILBOX.MSG.%b 1\r\n" % user.mail_id.encode())
        for payload in payloads:
            frame = receiver.frame()
            assert frame is not None
            assert frame.endswith(b"\r\n\r\n" + payload)
        assert receiver.fence() == []


def test_a_message_too_large_for_a_reply_is_fetched_all_the_same(port: int) -> None:
    """In base64 it is larger than any payload may be; but a page has one message at least, whole."""
    payload = bytes(range(256)) * (MIB // 256)
    with RawClient(port).connect() as client:
        user = User(client)
        user.send(payload)
        user.send(b"small")
        first, second = user.pages()
        assert base64.b64decode(first[0]["payload"]) == payload
        assert [message["payload"] for message in second] == ["small"]


def test_a_page_of_a_fetch_is_no_larger_than_a_payload_may_be(port: int) -> None:
    with RawClient(port).connect() as client:
        user = User(client)
        sent = [user.send(bytes([65 + number]) * 300_000) for number in range(8)]
        pages = list(user.pages())
        assert [message["msg_id"] for page in pages for message in page] == sent
        assert all(page for page in pages)
        assert all(len(json.dumps(page)) <= MIB for page in pages)
        assert len(pages) == 3
        assert [len(page) for page in user.pages(payload=False)] == [8]


@pytest.mark.parametrize(("limit", "expected"), [(1, 1), (999, 999), (1000, 1000), (1001, 1000), (10**6, 1000)])
def test_a_page_of_a_fetch_has_so_many_messages_at_most(port: int, limit: int, expected: int) -> None:
    with RawClient(port).connect() as client:
        user = User(client)
        client.send(b"".join(b"PUB $mq9.AI.MAILBOX.MSG.%b 1\r\nx\r\n" % user.mail_id.encode() for _ in range(1009)))
        last = user.send(b"x")
        pages = list(user.pages(limit=limit)) if limit > 1 else [next(user.pages(limit=limit))]
        assert len(pages[0]) == expected
        if limit > 1:
            assert sum(map(len, pages)) == 1010
            assert pages[-1][-1]["msg_id"] == last


def test_a_receiver_that_does_not_read_is_waited_for(port: int) -> None:
    """Far more than sockets and max_pending hold; then the highest first, and nothing is missing."""
    count, size = 1500, 32_768
    with RawClient(port).connect() as sender, RawClient(port).connect() as receiver:
        user = User(sender)
        subject = b"$mq9.AI.MAILBOX.MSG.%b" % user.mail_id.encode()
        receiver.send(b"SUB %b 1\r\n" % subject)
        assert receiver.fence() == []
        for number in range(count):
            sender.send(b"PUB %b.low %d\r\n%b\r\n" % (subject, size, b"%06d" % number + b"l" * (size - 6)))
        user.send(b"urgent news", "urgent")
        got: list[bytes] = []
        while len(got) < count + 1:
            frame = receiver.frame()
            assert frame is not None, f"cut off after {len(got)}"
            got.append(frame)
        assert receiver.fence() == []
    low = [frame[-size : -size + 6] for frame in got if b".low 1 " in frame[:100]]
    assert low == [b"%06d" % number for number in range(count)]
    # What was in the socket already stays in front of it, no more.
    place = next(index for index, frame in enumerate(got) if b".urgent 1 " in frame[:100])
    assert place < count - 100


def test_a_private_mail_id_is_in_no_log_and_no_metric(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path / "data", http=True) as broker:
        with RawClient(int(broker.url.rpartition(":")[2])).connect() as client:
            user = User(client)
            name = user.mail_id.encode()
            client.send(b"SUB $mq9.AI.MAILBOX.MSG.%b work*ers 2\r\n" % name)
            client.send(b"SUB $mq9.AI.MAILBOX.MSG.%b.> 3\r\n" % name)
            client.send(b"PUB $mq9.AI.MAILBOX.MSG.%b.x.y 2\r\nhi\r\n" % name)
            client.send(b"HPUB $mq9.AI.MAILBOX.MSG.%b 4 6\r\nnonehi\r\n" % name)
            assert [frame[:4] for frame in client.fence()] == [b"-ERR"] * 4
            user.send(b"the payload is nobody's business")
            metrics = urllib.request.urlopen(f"http://127.0.0.1:{broker.http_port}/metrics").read().decode()
            assert user.ask("PUBLIC.LIST", b"{}") == {"mailboxes": [], "next": None}
            user.ask(f"MAILBOX.REMOVE.{user.mail_id}", b"")
        broker.stop()
        log = broker.log()
    assert "mq9_" in metrics
    for text in (metrics, log):
        assert user.mail_id not in text
        assert user.mail_id[2:] not in text
        assert "business" not in text
