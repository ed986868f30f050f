"""A mailbox in a post office, for tests that end it between two steps."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from mq9.mailboxes import operations
from mq9.mailboxes.settling import settle
from mq9.protocol import AckRequest, CreateRequest
from mq9.store.contract import Commit
from mq9.store.memory_engine import MemoryStore
from tests.mailboxes.stored import started

if TYPE_CHECKING:
    from mq9.mailboxes.group import Group
    from mq9.mailboxes.mailbox import Mailbox


class Place:
    """A mailbox in a post office that can be ended at any moment and begun again with what is stored."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.store = MemoryStore()
        self.now = 1_000_000
        self.begin()
        operations.create(self.office, CreateRequest(name="box", ttl=0), "", 0, self.now, lambda answer: None)
        self.commit()

    def begin(self) -> None:
        """Go on with what is stored."""
        self.office = started(self.store, self.loop, self.now)

    def crash(self) -> None:
        """What is not committed is gone."""
        self.office.close()
        self.begin()

    @property
    def mailbox(self) -> Mailbox:
        mailbox = self.office.get(b"box", self.now)
        assert mailbox is not None
        return mailbox

    def group(self, name: str) -> Group:
        group = self.office.groups.find(self.mailbox, name.encode())
        return group or self.office.groups.create(self.mailbox, name.encode(), 1)

    def put(self, visible_ms: int = 0) -> None:
        self.office.put(self.mailbox, 3, b"", 0, self.now, visible_ms=visible_ms)

    def commit(self) -> None:
        while (batch := self.office.seal(self.now)) is not None:
            commit = Commit([(block.number, memoryview(block)) for block in batch.blocks], batch.dropped, batch.rows)
            self.loop.run_until_complete(self.store.commit(commit))
            self.office.settle(batch, self.now)

    def pass_time(self, milliseconds: int) -> None:
        self.now += milliseconds
        while self.office.tick(self.now, 4_096):
            pass

    def take(self, name: str, *, count: int = 1_000_000, done: bool = True) -> list[int]:
        """Lease what there is, in one go, and have it done."""
        handout = self.group(name).lease(count, 1 << 40, 60_000, 1, self.now)
        found = [] if handout is None else [msg_id for msg_id, _ in handout.listing()]
        if found and done:
            assert settle(self.group(name), AckRequest(name, None, tuple(found)), 1, self.now, lambda _: True) == []
        return found
