"""The broker over a store that takes its time, as a remote one would: nothing waits for more than it must.

docs/design.md §4: the engine may be remote and take milliseconds, and reads may be waited for.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from mq9.store.contract import StoreFullError
from mq9.store.memory_engine import MemoryStore
from tests.store.post import MAILBOX, Post, delivery_order
from tests.store.serving import Serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mq9.store.contract import Commit

COMMIT_S = 0.02
READ_S = 0.005


class RemoteStore(MemoryStore):
    """The engine in memory, as far away as another machine."""

    def __init__(self) -> None:
        super().__init__()
        self.commits = 0
        self.reads = 0
        self.full = False
        self.blocks_dropped: set[int] = set()
        self._under_way = 0

    async def commit(self, commit: Commit) -> None:
        """See Store.commit."""
        self._under_way += 1
        assert self._under_way <= self.commits_in_flight_max, "more commits in flight than the engine works on"
        await asyncio.sleep(COMMIT_S)
        self._under_way -= 1
        if self.full and commit.blocks:
            raise StoreFullError("the test lets it be full")
        await super().commit(commit)
        self.commits += 1
        self.blocks_dropped.update(commit.dropped)

    async def read_block(self, number: int) -> bytes:
        """See Store.read_block."""
        self.reads += 1
        await asyncio.sleep(READ_S)
        return await super().read_block(number)


@pytest.fixture
def store() -> RemoteStore:
    """A store that is far away."""
    return RemoteStore()


@pytest.fixture
def serving(store: RemoteStore) -> Iterator[Serving]:
    """A broker over it."""
    with Serving(store) as running:
        yield running


def test_what_arrives_during_a_commit_shares_the_next_one(store: RemoteStore, serving: Serving) -> None:
    with Post(serving.url) as post:
        mail_id = post.new()
        before = store.commits
        for number in range(500):
            post.begin(f"{MAILBOX}.MSG.{mail_id}", b"%d" % number, number=number)
            if number % 50 == 0:
                post.client.fence()
        answers = [post.answer() for _ in range(500)]
        assert [number for number, _ in answers] == list(range(500))
        msg_ids = [answer["msg_id"] for _, answer in answers]
        assert msg_ids == sorted(msg_ids)
        assert store.commits - before < 50
        assert [mail.payload for mail in post.fetch(mail_id)] == [b"%d" % number for number in range(500)]


def test_a_ping_does_not_wait_for_a_commit(serving: Serving) -> None:
    with Post(serving.url) as post:
        mail_id = post.new()
        post.begin(f"{MAILBOX}.MSG.{mail_id}", b"stored first")
        # The PONG overtakes the answer, which has to wait for the store.
        assert post.client.fence() == []
        assert "msg_id" in post.answer()[1]


def test_blocks_are_read_back_for_those_who_come_later(store: RemoteStore) -> None:
    with Serving(store) as serving, Post(serving.url) as post:
        mail_id = post.new(name="box")
        for priority in ("low", "critical", "normal"):
            post.send_all(mail_id, [b"%s %d" % (priority.encode(), number) for number in range(100)], priority)
    with Serving(store) as again, Post(again.url) as post:
        mails = post.fetch(mail_id)
        assert len(mails) == 300
        assert post.receive(mail_id, 300) == delivery_order(mails)
        assert store.reads > 0


def test_messages_are_accepted_again_though_somebody_deletes_without_a_pause(
    store: RemoteStore, serving: Serving
) -> None:
    """Whenever it might be tried how the store does, the commit of a deletion is under way and another one waits."""
    with Post(serving.url) as post, Post(serving.url) as deleter:
        mail_id = post.new()
        ids = post.send_all(mail_id, [b"to be deleted"] * 400)
        store.full = True
        assert post.send(mail_id, b"never")["code"] == 507
        store.full = False
        for number, msg_id in enumerate(ids):
            deleter.begin(f"{MAILBOX}.DELETE.{mail_id}.{msg_id}", number=number)
            if number:
                assert deleter.answer() == (number - 1, {"deleted": True})
            if "error" not in post.send(mail_id, b"at last"):
                break
        else:
            pytest.fail("messages are still refused")
        deleter.answer()


def test_a_fetch_finds_what_is_rewritten_while_it_reads(store: RemoteStore) -> None:
    """Between looking where a message is and reading its block, the block is rewritten and dropped."""
    with Serving(store) as serving, Post(serving.url) as post:
        mail_id = post.new(name="box")
        for first in range(0, 400, 20):  # a block each
            post.send_all(mail_id, [b"%d " % number + bytes(2_000) for number in range(first, first + 20)])
    with Serving(store) as again, Post(again.url) as post, Post(again.url) as deleter:
        mails = post.fetch(mail_id)
        doomed = [mail.msg_id for mail in mails if int(mail.payload.split()[0]) % 10]
        stays = [mail for mail in mails if mail.msg_id not in doomed]
        for at, msg_id in enumerate(doomed):
            deleter.begin(f"{MAILBOX}.DELETE.{mail_id}.{msg_id}", number=at)
        blocks = store.reads
        # All but those of the last region, which may grow.
        while len(store.blocks_dropped) < 15:
            found = [mail for mail in post.fetch(mail_id) if mail.msg_id not in doomed]
            assert found == stays
        assert store.reads > blocks
