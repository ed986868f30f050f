"""Workers of groups that a broker's end interrupts, and what they were told of their messages."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from tests.crash.client import Client
from tests.store.post import MAILBOX

if TYPE_CHECKING:
    import random

BOX: Final = "work"
WORKERS: Final = 4
WAITING_MAX: Final = 32
_LEASES_MS: Final = (30, 30, 300, 3_600_000)
_WORDS: Final = ("high", "normal", "normal", "low")


def now_ms() -> float:
    """Unix ms, by the clock that the broker goes by."""
    return time.time() * 1_000


class Book:
    """What is known of every message for the group `leased`, and who was shown what in the group `queue`.

    A message that was answered as acknowledged, dead, leased or given back for a while is kept by that until something else
    is asked of it.
    """

    def __init__(self) -> None:
        self.sent: set[int] = set()
        self.acked: set[int] = set()
        # What an ack was asked of, answered or not: one that comes to a dead message makes it done.
        self.acks_asked: set[int] = set()
        self.dead: set[int] = set()
        self.leased: dict[int, float] = {}
        self.held_back: dict[int, float] = {}
        self.received: Counter[int] = Counter()
        self.received_now: set[int] = set()
        self.complaints: list[str] = []
        self.told: Counter[str] = Counter()
        self._attempts: dict[int, int] = {}
        self._asks: Counter[int] = Counter()
        self._unanswered: Counter[int] = Counter()

    def given(self, msg_id: int, attempt: int) -> bool:
        """The group `leased` gives the message to a worker; false when a later attempt was heard of first.

        That happens where the answers to two workers lie in two sockets, and the lease is shorter than they lie there.
        """
        if attempt <= self._attempts.get(msg_id, 0):
            return False
        self._attempts[msg_id] = attempt
        self.sent.add(msg_id)
        self.told["lease"] += 1
        for why, until in (
            ("acknowledged", float("inf") if msg_id in self.acked else 0),
            ("dead", float("inf") if msg_id in self.dead else 0),
            ("leased", self.leased.pop(msg_id, 0)),
            ("given back for a while", self.held_back.pop(msg_id, 0)),
        ):
            if now_ms() < until:
                self.complaints.append(f"{msg_id} was {why}, and is given out")
        return True

    def asked(self, msg_id: int) -> int:
        """Something is asked of the message, which may come into force whether that is answered or not; returns its number."""
        self.leased.pop(msg_id, None)
        self.held_back.pop(msg_id, None)
        self._asks[msg_id] += 1
        self._unanswered[msg_id] += 1
        return self._asks[msg_id]

    def answered(self, msg_id: int) -> None:
        """One of the asks has its answer."""
        self._unanswered[msg_id] -= 1

    def leased_by(self, until: float, ids: list[int]) -> None:
        """These are leased: surely until `until`, if nothing is under way that was asked of them.

        That may be judged by the lease that its connection has by then (docs/protocol.md §4), which is this one.
        """
        self.leased |= {msg_id: until for msg_id in ids if not self._unanswered[msg_id]}

    def begin(self) -> None:
        """There is a new broker, which nothing is on its way to."""
        self.received_now = set()
        self._unanswered.clear()

    def is_latest(self, msg_id: int, ask: int) -> bool:
        """Whether nothing else was asked of the message since: what was may have undone what an older answer tells of."""
        return self._asks[msg_id] == ask

    def shown(self, msg_id: int) -> None:
        """A receiver of the group `queue` is given the message: once, unless the broker ends before it has noted that."""
        self.sent.add(msg_id)
        self.received[msg_id] += 1
        if msg_id in self.received_now:
            self.complaints.append(f"{msg_id} came to two receivers of one group")
        self.received_now.add(msg_id)


class Work:
    """The workers of one broker, from its start to its end.

    Arguments:
        book: what they know, from this broker and those before it.
        chance: decides what they do.
    """

    def __init__(self, book: Book, chance: random.Random) -> None:
        self._book = book
        self._chance = chance
        self._tasks: list[asyncio.Task[None]] = []
        self._clients: list[Client] = []

    async def begin(self, url: str) -> None:
        """Connect, and start to work."""
        self._book.begin()
        self._clients = [await Client.connect(url, self._shown) for _ in range(WORKERS)]
        for sid, client in enumerate(self._clients[:2], 1):
            client.watch(f"{MAILBOX}.MSG.{BOX}.*", sid, "queue")
        self._tasks = [asyncio.create_task(self._work(client)) for client in self._clients]

    async def end(self) -> None:
        """Hear everything that the broker has said until it ended."""
        for client in self._clients:
            await client.end()
        await asyncio.gather(*self._tasks)

    async def _work(self, client: Client) -> None:
        while not client.ended:
            if self._chance.random() < 0.4:
                subject = f"{MAILBOX}.MSG.{BOX}.{self._chance.choice(_WORDS)}"
                client.ask(subject, b"payload" * self._chance.choice((1, 1, 50)), self._sent)
            else:
                self._fetch(client)
            await client.room(WAITING_MAX)

    def _sent(self, answer: dict[str, Any]) -> None:
        self._book.told["send"] += 1
        self._book.sent.add(answer["msg_id"])

    def _shown(self, headers: bytes, payload: bytes) -> None:
        own = dict(line.split(b": ", 1) for line in headers.split(b"\r\n")[1:-2])
        self._book.shown(int(own[b"mq9-msg-id"]))

    def _fetch(self, client: Client) -> None:
        # Of the long leases few messages each, so that work remains.
        lease_ms = self._chance.choice(_LEASES_MS)
        body = {
            "group_name": "leased",
            "lease_ms": lease_ms,
            "config": {"num_msgs": 1 if lease_ms > 1_000 else self._chance.randrange(1, 20), "max_wait_ms": 20},
        }
        client.ask(
            f"$mq9.AI.MSG.FETCH.{BOX}", json.dumps(body).encode(), partial(self._leased, client, now_ms() + lease_ms)
        )

    def _leased(self, client: Client, until: float, answer: dict[str, Any]) -> None:
        items = [(item["msg_id"], item["attempt"]) for item in answer["messages"]]
        ids = [msg_id for msg_id, attempt in items if self._book.given(msg_id, attempt)]
        self._book.leased_by(until, ids)
        if not ids or client.ended:
            return
        dice = self._chance.random()
        if dice < 0.35:
            self._ask(client, ids, "ack")
        elif dice < 0.6:
            self._ask(client, self._chance.sample(ids, (len(ids) + 1) // 2), "ack")
        elif dice < 0.75:
            self._ask(client, ids[:3], "nack", delay_ms=self._chance.choice((0, 200, 3_600_000)))
        elif dice < 0.8:
            self._ask(client, ids[:1], "dead", reason="because")
        elif dice < 0.9:
            self._ask(client, ids[:1], "extend", lease_ms=3_600_000)

    def _ask(self, client: Client, ids: list[int], op: str, **more: Any) -> None:
        asks = {msg_id: self._book.asked(msg_id) for msg_id in ids}
        if op == "ack":
            self._book.acks_asked.update(ids)
        body = {"group_name": "leased", "msg_ids": ids, "op": op, **more}
        told = partial(self._settled, asks, op, now_ms(), more)
        client.ask(f"$mq9.AI.MSG.ACK.{BOX}", json.dumps(body).encode(), told)

    def _settled(
        self, asks: dict[int, int], op: str, asked_at: float, more: dict[str, Any], answer: dict[str, Any]
    ) -> None:
        book = self._book
        refused = set(answer.get("msg_ids", ()))
        if answer["error"] and answer["code"] != 409:  # somebody has it since, or its short lease made it dead
            book.complaints.append(f"{op} of {list(asks)} was answered {answer}")
        book.told[op] += 1
        for msg_id in asks:
            book.answered(msg_id)
        for msg_id in set(asks) - refused:
            if op == "ack":
                book.acked.add(msg_id)
            elif op == "dead":
                book.dead.add(msg_id)
            elif not book.is_latest(msg_id, asks[msg_id]):
                continue
            elif op == "nack" and more["delay_ms"]:
                book.held_back[msg_id] = asked_at + more["delay_ms"]
            elif op == "extend":
                book.leased[msg_id] = asked_at + more["lease_ms"]
