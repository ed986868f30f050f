"""A broker that is killed while it is sent delayed messages, messages with a key, and repeats: what was told of them stays true."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Final

import pytest

from tests.crash.rounds import seeded
from tests.server.support import body_of, headers_of, publish
from tests.store.post import MAILBOX, Post
from tests.support.broker import BrokerProcess
from tests.support.rawclient import RawClient

if TYPE_CHECKING:
    import random
    from pathlib import Path

KILLS: Final = 12
SENDS: Final = 400
DELAYS_MS: Final = (0, 0, 50, 300, 1_500)


class Sends:
    """What was sent and what was answered: each message has its number as payload and as its id, some have a key, some a delay."""

    def __init__(self, mail_id: str, chance: random.Random) -> None:
        self.mail_id = mail_id
        self.chance = chance
        self.headers: list[dict[str, str]] = []
        self.told: dict[int, int] = {}

    def send(self, client: RawClient, numbers: list[int]) -> None:
        """Send these once, or once more."""
        for number in numbers:
            client.send(publish(f"{MAILBOX}.MSG.{self.mail_id}", b"%d" % number, f"in.{number}", self.headers[number]))

    def send_new(self, client: RawClient, count: int) -> None:
        """Send so many more; few keys, so that most of what has one is replaced soon."""
        first = len(self.headers)
        for number in range(first, first + count):
            headers = {"Nats-Msg-Id": str(number), "mq9-delay": str(self.chance.choice(DELAYS_MS) / 1_000)}
            if self.chance.random() < 0.3:
                headers["mq9-key"] = str(self.chance.randrange(4))
            self.headers.append(headers)
        self.send(client, list(range(first, first + count)))

    def hear(self, frame: bytes) -> None:
        """Take down an answer: nothing is ever told two things."""
        number = int(frame.split(b" ")[1].removeprefix(b"in."))
        msg_id = json.loads(body_of(frame))["msg_id"]
        assert self.told.setdefault(number, msg_id) == msg_id

    def send_some(self, client: RawClient) -> None:
        """Send what was not answered, some of the rest again, and some more."""
        client.send(b"SUB in.* 1\r\n")
        self.send(client, self.untold())
        self.send(client, self.chance.sample(range(len(self.headers)), min(20, len(self.headers))))
        self.send_new(client, self.chance.randrange(SENDS))

    def hear_rest(self, client: RawClient) -> None:
        """Take down everything that the broker has answered before it was killed."""
        for frame in client.rest():
            if frame.endswith(b"}"):  # else it was cut short
                self.hear(frame)

    def check(self, port: int) -> None:
        """Send everything once more, and see that what was told, and nothing else, is there: within two minutes of the first send."""
        with RawClient(port).connect() as client:
            client.send(b"SUB in.* 1\r\n")
            self.send(client, list(range(len(self.headers))))
            for _ in self.headers:
                self.hear(client.frame() or b"")
            stay = self.stay()
            client.send(f"UNSUB 1\r\nSUB {MAILBOX}.MSG.{self.mail_id} 2\r\n".encode())
            shown = []
            for _ in stay:
                frame = client.frame() or b""
                headers = headers_of(frame)
                shown.append(int(body_of(frame)))
                assert int(headers["mq9-msg-id"]) == self.told[shown[-1]]
                visible_ms = int(headers["mq9-time"]) + float(headers["mq9-delay"]) * 1_000
                assert visible_ms <= time.time_ns() / 1_000_000
            assert sorted(shown) == stay
            assert client.fence() == []

    def untold(self) -> list[int]:
        """What has not been answered."""
        return [number for number in range(len(self.headers)) if number not in self.told]

    def stay(self) -> list[int]:
        """What must be there in the end: each once, and of each key the one with the highest msg_id."""
        latest: dict[str, int] = {}
        for number in sorted(self.told, key=lambda number: self.told[number]):
            key = self.headers[number].get("mq9-key", f"no key {number}")
            latest[key] = number
        return sorted(latest.values())


@pytest.mark.slow
def test_what_is_delayed_replaced_and_repeated_is_right_after_every_kill(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path / "data") as broker:
        with Post(broker.url) as post:
            sends = Sends(post.new(), seeded())
        port = int(broker.url.rpartition(":")[2])
        for _ in range(KILLS):
            with RawClient(port).connect() as client:
                sends.send_some(client)
                time.sleep(sends.chance.uniform(0, 0.05))
                broker.kill()
                sends.hear_rest(client)
            broker.start()
        sends.check(port)
