"""The broker over a store whose commits fail for a while: who is told what, and what is there afterwards.

docs/protocol.md §3: 503 when storage is unavailable; docs/design.md §4: the batch fails, the broker stops accepting until a commit
succeeds, and what was not answered is wholly there or not at all.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from mq9 import protocol
from mq9.store.contract import StoreError, StoreFailedError, StoreFullError
from mq9.store.disk_engine import DiskStore
from tests.store.contents import stored
from tests.store.post import MAILBOX, Post, until
from tests.store.serving import FragileStore, Serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FAILURE = StoreFailedError("the test lets it fail")
FULL = StoreFullError("the test lets it be full")


@pytest.fixture
def store(tmp_path: Path) -> FragileStore:
    """A store that fails when it is told to."""
    return FragileStore(tmp_path / "data")


@pytest.fixture
def serving(store: FragileStore) -> Iterator[Serving]:
    """A broker over it."""
    with Serving(store) as running:
        yield running


@pytest.fixture
def post(serving: Serving) -> Iterator[Post]:
    """A client of the broker."""
    with Post(serving.url) as connected:
        yield connected


@pytest.mark.parametrize(("error", "code"), [(FAILURE, 503), (FULL, 507)], ids=["failed", "full"])
def test_senders_are_told_and_nothing_is_seen(
    store: FragileStore, serving: Serving, post: Post, error: StoreError, code: int
) -> None:
    mail_id = post.new()
    before = post.send_all(mail_id, [b"before"])
    with Post(serving.url) as receiver:
        receiver.client.send(b"SUB %b.MSG.%b 9\r\n" % (MAILBOX.encode(), mail_id.encode()))
        first = receiver.client.frame()
        assert first is not None
        assert first.endswith(b"before")
        store.failing = error
        answers = post.ask_all((f"{MAILBOX}.MSG.{mail_id}", b"never %d" % number) for number in range(20))
        assert {answer["code"] for answer in answers} == {code}
        assert receiver.client.fence() == []
        assert [mail.payload for mail in post.fetch(mail_id)] == [b"before"]
        store.failing = None
        after = until(partial(post.send, mail_id, b"after"))["msg_id"]
        last = receiver.client.frame()
        assert last is not None
        assert last.endswith(b"after")
        assert receiver.client.fence() == []
    assert [(mail.msg_id, mail.payload) for mail in post.fetch(mail_id)] == [(before[0], b"before"), (after, b"after")]
    assert after > before[0]


def test_while_it_fails_sends_are_refused_at_once_and_the_rest_goes_on(
    store: FragileStore, serving: Serving, post: Post
) -> None:
    mail_id = post.new()
    post.send_all(mail_id, [b"before"])
    store.failing = FAILURE
    assert post.send(mail_id, b"never")["code"] == 503
    failed = store.failed
    assert {answer["code"] for answer in post.ask_all([(f"{MAILBOX}.MSG.{mail_id}", b"never")] * 100)} == {503}
    assert post.create()["code"] == 503
    assert store.failed <= failed + 20, "refused sends were tried nevertheless"
    post.client.send(b"PUB %b.MSG.%b 5\r\nnever\r\n" % (MAILBOX.encode(), mail_id.encode()))
    refusal = b"-ERR 'Permissions Violation for Publish to \"%b.MSG.%b\"'" % (MAILBOX.encode(), mail_id.encode())
    assert post.client.fence() == [refusal]
    assert [mail.payload for mail in post.receive(mail_id, 1)] == [b"before"]
    with Post(serving.url) as other:
        other.client.send(b"SUB core 7\r\n")
        other.client.fence()
        post.client.send(b"PUB core 2\r\nhi\r\n")
        assert other.client.frame() == b"MSG core 7 2\r\nhi"


def test_a_creation_that_failed_can_be_made_again(store: FragileStore, post: Post) -> None:
    post.new(name="first", public=True)
    store.failing = FAILURE
    assert post.create(name="second", public=True)["code"] == 503
    assert post.create()["code"] == 503
    assert post.listed().keys() == {"first"}
    assert post.ask(f"{MAILBOX}.LIST.second")["code"] == 404
    store.failing = None
    assert until(partial(post.create, name="second", public=True, desc="again"))["is_new"]
    assert post.listed().keys() == {"first", "second"}


def test_changes_that_failed_leave_everything_as_it_was(store: FragileStore, post: Post) -> None:
    mail_id = post.new(name="box", ttl=5_000)
    msg_ids = post.send_all(mail_id, [b"one", b"two"])
    created = post.create(name=mail_id)
    store.failing = FAILURE
    assert post.delete(mail_id, msg_ids[0])["code"] == 503
    assert post.create(name=mail_id, renew=True, ttl=9_000)["code"] == 503
    assert post.remove(mail_id)["code"] == 503
    assert post.create(name=mail_id) == created
    assert [mail.payload for mail in post.fetch(mail_id)] == [b"one", b"two"]
    store.failing = None
    assert until(partial(post.delete, mail_id, msg_ids[0])) == {"deleted": True}
    assert until(partial(post.create, name=mail_id, renew=True, ttl=9_000))["ttl"] == 9_000
    assert [mail.payload for mail in post.fetch(mail_id)] == [b"two"]
    assert post.remove(mail_id) == {"deleted": True}
    assert post.ask(f"{MAILBOX}.LIST.{mail_id}")["code"] == 404


def test_what_was_asked_for_behind_a_failed_commit_fails_with_it(store: FragileStore, post: Post) -> None:
    mail_id = post.new()
    post.client.fence()
    store.hold()
    post.begin(f"{MAILBOX}.MSG.{mail_id}", b"in flight", number=1)
    store.wait_for_commit()
    post.begin(f"{MAILBOX}.MSG.{mail_id}", b"behind it", number=2)
    post.begin(protocol.CREATE, {"name": "behind.it"}, number=3)
    assert post.client.fence() == []
    store.failing = FAILURE
    store.let_pass()
    answers = dict(post.answer() for _ in range(3))
    assert {number: answer["code"] for number, answer in answers.items()} == {1: 503, 2: 503, 3: 503}
    store.failing = None
    store.release()
    until(partial(post.send, mail_id, b"after"))
    assert [mail.payload for mail in post.fetch(mail_id)] == [b"after"]


def test_everything_that_was_told_is_there_after_a_restart(tmp_path: Path, store: FragileStore) -> None:
    told: dict[int, bytes] = {}
    with Serving(store) as serving, Post(serving.url) as post:
        mail_id = post.new(name="box")
        for error in (None, FAILURE, None, FULL, None):
            store.failing = error
            for number in range(10):
                payload = b"%d %d" % (len(told), number)
                answer = post.send(mail_id, payload) if error else until(partial(post.send, mail_id, payload))
                if error is None:
                    told[answer["msg_id"]] = payload
                else:
                    assert answer["code"] in {503, 507}
    with Serving(DiskStore(tmp_path / "data")) as serving, Post(serving.url) as post:
        assert {mail.msg_id: mail.payload for mail in post.fetch("box")} == told


def test_a_deletion_stays_although_asking_for_it_again_failed(tmp_path: Path, store: FragileStore) -> None:
    with Serving(store) as serving, Post(serving.url) as post:
        mail_id = post.new(name="box")
        first, second, _ = post.send_all(mail_id, [b"first", b"second", b"third"])
        store.hold()
        post.begin(f"{MAILBOX}.DELETE.{mail_id}.{first}", number=1)
        store.wait_for_commit()
        post.begin(f"{MAILBOX}.DELETE.{mail_id}.{first}", number=2)
        assert post.client.fence() == []
        store.let_pass()
        assert post.answer() == (1, {"deleted": True})
        store.wait_for_commit()
        store.failing = FAILURE
        store.let_pass()
        assert post.answer()[1]["code"] == 503
        store.failing = None
        store.release()
        assert until(partial(post.delete, mail_id, second)) == {"deleted": True}
        assert [mail.payload for mail in post.fetch(mail_id)] == [b"third"]
    with Serving(DiskStore(tmp_path / "data")) as serving, Post(serving.url) as post:
        assert [mail.payload for mail in post.fetch("box")] == [b"third"]


def test_blocks_whose_dropping_failed_are_dropped_later(tmp_path: Path, store: FragileStore) -> None:
    with Serving(store) as serving, Post(serving.url) as post:
        mail_id = post.new(name="box")
        msg_ids = [post.send(mail_id, bytes(300_000))["msg_id"] for _ in range(4)]
        store.hold()
        post.begin(f"{MAILBOX}.DELETE.{mail_id}.{msg_ids[0]}")
        store.wait_for_commit()
        store.let_pass()
        assert post.answer()[1] == {"deleted": True}
        store.wait_for_commit()  # the one that drops the block
        store.failing = FAILURE
        store.let_pass()
        store.wait_for_commit()  # the one that tries whether the store works again
        store.failing = None
        store.release()
        for msg_id in msg_ids[1:3]:
            assert until(partial(post.delete, mail_id, msg_id)) == {"deleted": True}
    # A broker that starts takes no room for what is gone; blocks that are empty are dropped then at the latest.
    with Serving(DiskStore(tmp_path / "data")) as serving, Post(serving.url) as post:
        assert [mail.msg_id for mail in post.fetch("box")] == msg_ids[3:]
    assert len(blocks_in(tmp_path / "data")) == 1


def blocks_in(directory: Path) -> list[int]:
    """The numbers of the blocks that are stored."""
    return list(stored(DiskStore(directory)).blocks)
