"""Several clients that keep a broker busy with everything it can do, and write down in the ledger what they are told."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from mq9 import protocol
from mq9.protocol import PRIORITIES
from tests.crash.client import Client
from tests.crash.ledger import Box, Fate, Ledger, Message
from tests.store.post import MAILBOX

if TYPE_CHECKING:
    import random

CLIENTS: Final = 5
WAITING_MAX: Final = 128
BOXES_MIN: Final = 6
BOXES_MAX: Final = 14
MESSAGES_MAX: Final = 300
_NOISE_SIZES: Final = (0, 0, 0, 20, 200, 200, 1_000, 5_000)
_LARGE: Final = 120_000
_NAMES: Final = tuple(f"box.{number}" for number in range(8))


class Load:
    """The clients of one broker, from its start to its end.

    Arguments:
        ledger: what they know, from this broker and those before it.
        chance: decides what they do.
    """

    def __init__(self, ledger: Ledger, chance: random.Random) -> None:
        self._ledger = ledger
        self._chance = chance
        self._clients: list[Client] = []
        self._tasks: list[asyncio.Task[None]] = []
        # The last msg_id that each client was told for each mailbox: its sends become durable in their order.
        self._last: dict[tuple[Client, Box], int] = {}
        self._creating = 0

    async def begin(self, url: str) -> None:
        """Connect, and start to work."""
        self._clients = [await Client.connect(url, self._shown) for _ in range(CLIENTS)]
        boxes = list(self._ledger.boxes.values())
        for sid, box in enumerate(self._chance.sample(boxes, min(2, len(boxes))), 1):
            self._clients[0].watch(f"{MAILBOX}.MSG.{box.mail_id}.*", sid)
        self._tasks = [asyncio.create_task(self._work(client)) for client in self._clients]

    async def end(self) -> None:
        """Hear everything that the broker has said until it ended; then nobody asks any more."""
        for client in self._clients:
            await client.end()
        await asyncio.gather(*self._tasks)

    @property
    def answers(self) -> int:
        """How much was answered."""
        return sum(client.answers for client in self._clients)

    async def _work(self, client: Client) -> None:
        while not client.ended:
            self._do_something(client)
            await client.room(WAITING_MAX)

    def _do_something(self, client: Client) -> None:
        boxes = [box for box in self._ledger.boxes.values() if box.fate is Fate.THERE]
        soon = len(boxes) + self._creating
        if soon < BOXES_MIN or (soon < BOXES_MAX and self._chance.random() < 0.05):
            self._create(client)
        if not boxes:
            return
        box = self._chance.choice(boxes)
        dice = self._chance.random()
        if len(box.there) > MESSAGES_MAX:
            self._delete(client, box, MESSAGES_MAX // 4)
        elif dice < 0.65:
            self._send(client, box, self._chance.choice((1, 1, 2, 5, 30)))
        elif dice < 0.9:
            self._delete(client, box, self._chance.choice((1, 1, 5, 20)))
        elif dice < 0.98:
            self._renew(client, box)
        else:
            self._remove(client, box)

    def _send(self, client: Client, box: Box, count: int) -> None:
        for _ in range(count):
            noise = _LARGE if self._chance.random() < 0.005 else self._chance.choice(_NOISE_SIZES)
            priority = self._chance.choice(PRIORITIES)
            token = len(self._ledger.messages) + 1
            headers = self._headers(token)
            message = Message(token, box, priority, headers, noise)
            self._ledger.sending(message)
            block = b"".join(b"%b: %b\r\n" % (name.encode(), value.encode()) for name, value in headers)
            subject = f"{MAILBOX}.MSG.{box.mail_id}"
            if self._chance.random() < 0.5:
                subject += f".{priority}"
            else:
                block += b"mq9-priority: %b\r\n" % priority.encode()
            told = partial(self._sent, client, message)
            client.ask(subject, message.payload, told, b"NATS/1.0\r\n" + block + b"\r\n" if block else b"")

    def _headers(self, token: int) -> tuple[tuple[str, str], ...]:
        kind = self._chance.random()
        if kind < 0.6:
            return ()
        headers = (("token", str(token)), ("token", "again"))
        return headers if kind < 0.85 else (*headers, ("mq9-ttl", "1000000"))

    def _sent(self, client: Client, message: Message, answer: dict[str, Any]) -> None:
        self._ledger.sent(message, answer)
        if "msg_id" in answer:
            last = self._last.get((client, message.box), 0)
            if answer["msg_id"] <= last:
                self._ledger.complaints.append(f"{message.box.mail_id} gave out {answer['msg_id']} after {last}")
            self._last[client, message.box] = answer["msg_id"]

    def _shown(self, headers: bytes, payload: bytes) -> None:
        own = dict(line.split(b": ", 1) for line in headers.split(b"\r\n")[1:-2])
        self._ledger.shown(int(payload.partition(b" ")[0]), int(own[b"mq9-msg-id"]))

    def _delete(self, client: Client, box: Box, count: int) -> None:
        # Often the newest: then the highest msg_id is one that is no longer there.
        newest = self._chance.random() < 0.4
        known = list(box.there.values())
        chosen = known[-count:] if newest else self._chance.sample(known, min(count, len(known)))
        for message in chosen:
            self._ledger.deleting(message)
            subject = f"{MAILBOX}.DELETE.{box.mail_id}.{message.msg_id}"
            client.ask(subject, b"", partial(self._ledger.deleted, message))

    def _create(self, client: Client) -> None:
        free = [name for name in _NAMES if self._is_free(name)]
        named = bool(free) and self._chance.random() < 0.6
        public = named and self._chance.random() < 0.6
        ttl = self._chance.choice((0, 100_000))
        name = self._chance.choice(free) if named else ""
        box = Box(name, named, public, ttls={ttl: None})
        request: dict[str, Any] = {"ttl": ttl, "public": public, "desc": f"made with a ttl of {ttl} s"}
        if named:
            self._ledger.boxes[name] = box
            request["name"] = name
        self._creating += 1
        client.ask(protocol.CREATE, json.dumps(request).encode(), partial(self._created, box, ttl))

    def _created(self, box: Box, ttl: int, answer: dict[str, Any]) -> None:
        self._creating -= 1
        self._ledger.created(box, answer, ttl)

    def _is_free(self, name: str) -> bool:
        former = self._ledger.gone.get(name)
        return name not in self._ledger.boxes and (former is None or former.asked == 0)

    def _renew(self, client: Client, box: Box) -> None:
        if box.busy or not box.named:
            return
        ttl = self._chance.randrange(100_000, 10_000_000)
        box.busy = True
        box.ttls[ttl] = None
        request = {"name": box.mail_id, "renew": True, "ttl": ttl}
        client.ask(protocol.CREATE, json.dumps(request).encode(), lambda answer: self._ledger.renewed(box, answer, ttl))

    def _remove(self, client: Client, box: Box) -> None:
        if box.busy:
            return
        box.busy = True
        box.fate = Fate.UNKNOWN
        client.ask(f"{MAILBOX}.REMOVE.{box.mail_id}", b"", partial(self._ledger.removed, box))
