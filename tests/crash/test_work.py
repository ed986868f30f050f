"""Work that a broker's end interrupts at any moment: what workers were told of it holds.

docs/protocol.md §4: an answered ack is never undone, a lease that was given is nobody else's until it runs out, and nothing that
was not acknowledged is lost.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Final

import pytest

from tests.crash.rounds import seeded
from tests.crash.work import BOX, Book, Work, now_ms
from tests.server.support import headers_of
from tests.store.post import MAILBOX, Post
from tests.support.broker import BrokerProcess

if TYPE_CHECKING:
    from pathlib import Path

KILLS: Final = max(int(os.environ.get("MQ9_KILLS", "50")) // 5, 4)


@pytest.mark.slow
@pytest.mark.timeout(120 + 8 * KILLS)
def test_what_workers_were_told_holds_when_the_broker_is_killed(tmp_path: Path) -> None:
    chance = seeded()
    book = Book()
    with BrokerProcess(tmp_path / "data") as broker:
        with Post(broker.url) as post:
            post.new(name=BOX)

        async def work_until_killed() -> None:
            work = Work(book, chance)
            await work.begin(broker.url)
            await asyncio.sleep(chance.uniform(0.1, 0.6))
            await asyncio.to_thread(broker.kill)
            await work.end()

        for _ in range(KILLS):
            asyncio.run(work_until_killed())
            assert not book.complaints, book.complaints[:10]
            assert broker.damage() == []
            broker.start()
            assert "ERROR" not in broker.log()
        with Post(broker.url) as post:
            compare(post, book)
        print(f"killed {KILLS} times; told: {dict(book.told)}")  # noqa: T201
    assert not book.complaints, book.complaints[:10]
    assert book.told["ack"] > 5 * KILLS
    assert min(book.told[op] for op in ("nack", "extend", "dead")) >= KILLS // 2


def compare(post: Post, book: Book) -> None:
    """Look at everything that there is to give, to be settled, or dead."""
    # Short leases and delays are over after this, long ones of an hour are not.
    time.sleep(0.5)
    stored = {item["msg_id"] for item in post.pages(BOX)}
    assert book.sent <= stored
    body = {"group_name": "leased", "lease_ms": 86_400_000, "config": {"num_msgs": 1_000, "max_wait_ms": 0}}
    given: set[int] = set()
    while messages := post.ask(f"$mq9.AI.MSG.FETCH.{BOX}", body)["messages"]:
        for item in messages:
            assert book.given(item["msg_id"], item["attempt"])
            assert item["msg_id"] not in given, "given out twice"
            given.add(item["msg_id"])
    buried = {item["msg_id"] for item in dead(post)}
    assert book.dead - book.acks_asked <= buried
    assert not book.acked & (given | buried)
    for msg_id, until in (book.leased | book.held_back).items():
        if until > now_ms() + 60_000:
            assert msg_id not in given
    # What is neither done nor dead nor given now is somebody's for an hour, or was acknowledged without an answer.
    for msg_id in stored - given - buried - book.acked:
        post.ask(f"$mq9.AI.MSG.ACK.{BOX}", {"group_name": "leased", "msg_ids": [msg_id], "op": "extend"})
    post.client.send(b"SUB %b.MSG.%b.* queue 77\r\n" % (MAILBOX.encode(), BOX.encode()))
    book.received_now = set()
    while set(book.received) < stored:
        frame = post.client.frame()
        assert frame is not None, f"{len(stored - set(book.received))} messages never came"
        book.shown(int(headers_of(frame)["mq9-msg-id"]))
    # What a receiver was shown, and the broker had not noted when it was killed, comes once more.
    for frame in post.client.fence():
        book.shown(int(headers_of(frame)["mq9-msg-id"]))


def dead(post: Post) -> list[dict[str, object]]:
    """The messages that are dead for the group, page by page."""
    found: list[dict[str, object]] = []
    after = 0
    while True:
        page = post.ask(f"{MAILBOX}.LIST.{BOX}", {"dead": "leased", "limit": 1_000, "after": after})
        found += page["messages"]
        if page["next"] is None:
            return found
        after = page["next"]
