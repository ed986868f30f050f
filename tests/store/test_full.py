"""A real broker whose store is full: sends are told so, deletes go on, and room that was made is used again without a restart.

docs/protocol.md §3: 507 when storage is full; docs/design.md §4: 507 for what needs space, deletes still work.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.store.disks import file_size_limit, fill, small_disk
from tests.store.post import MAILBOX, Post, until
from tests.support.broker import BrokerProcess

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1024 * 1024


def payload(number: int, size: int) -> bytes:
    """Bytes that no other number has."""
    return (b"message %d, " % number * (size // 11 + 1))[:size]


def send_until_full(post: Post, mail_id: str, told: dict[int, bytes], size: int, code: int = 507) -> None:
    """Send messages of `size` bytes one after the other until one is refused, which must be with `code`."""
    while True:
        data = payload(len(told), size)
        answer = post.send(mail_id, data)
        if "error" in answer:
            assert answer["code"] == code
            return
        told[answer["msg_id"]] = data


def check(post: Post, mail_id: str, told: dict[int, bytes]) -> None:
    """What the mailbox holds is what senders were told."""
    assert {mail.msg_id: mail.payload for mail in post.fetch(mail_id)} == told


def delete(post: Post, mail_id: str, told: dict[int, bytes], count: int) -> None:
    """Delete the oldest messages, each of which must be answered."""
    for msg_id in list(told)[:count]:
        assert post.delete(mail_id, msg_id) == {"deleted": True}
        del told[msg_id]


def test_a_store_at_its_limit_says_so_until_messages_are_deleted(tmp_path: Path) -> None:
    config = tmp_path / "mq9.toml"
    config.write_text(f"max_store = {MIB}\n")
    told: dict[int, bytes] = {}
    with BrokerProcess(tmp_path / "data", arguments=["--config", str(config)]) as broker:
        with Post(broker.url) as post:
            mail_id = post.new(name="box")
            send_until_full(post, mail_id, told, 50_000)
            assert len(told) > 5
            post.client.send(b"PUB %b.MSG.box 5\r\nnever\r\n" % MAILBOX.encode())
            refusal = b"-ERR 'Permissions Violation for Publish to \"%b.MSG.box\"'" % MAILBOX.encode()
            assert post.client.fence() == [refusal]
            check(post, mail_id, told)
            delete(post, mail_id, told, 5)
            check(post, mail_id, told)
            for number in range(4):
                data = payload(number, 40_000)
                told[until(partial(post.send, mail_id, data))["msg_id"]] = data
            check(post, mail_id, told)
        assert (tmp_path / "data" / "data.mdb").stat().st_size <= MIB
        assert broker.stop() == 0
        broker.start()
        with Post(broker.url) as post:
            check(post, "box", told)
            assert post.remove("box") == {"deleted": True}
            mail_id = until(partial(post.create, name="box"))["mail_id"]
            told.clear()
            told[until(partial(post.send, mail_id, payload(1, 300_000)))["msg_id"]] = payload(1, 300_000)
            check(post, mail_id, told)


def test_a_store_filled_with_small_messages_still_deletes(tmp_path: Path) -> None:
    config = tmp_path / "mq9.toml"
    config.write_text(f"max_store = {MIB}\n")
    told: dict[int, bytes] = {}
    with BrokerProcess(tmp_path / "data", arguments=["--config", str(config)]) as broker, Post(broker.url) as post:
        mail_id = post.new(name="box")
        for size in (10_000, 1_000, 10):
            until(partial(post.create, name="box", renew=True))
            send_until_full(post, mail_id, told, size)
        delete(post, mail_id, told, len(told) - 3)
        check(post, mail_id, told)
        until(partial(post.send, mail_id, payload(0, 100_000)))


def test_a_full_disk_is_told_and_left_behind(tmp_path: Path) -> None:
    told: dict[int, bytes] = {}
    with (
        small_disk(tmp_path / "disk", 10 * MIB) as disk,
        BrokerProcess(disk / "data") as broker,
        Post(broker.url) as post,
    ):
        mail_id = post.new(name="box")
        send_until_full(post, mail_id, told, 100_000)
        in_the_way = fill(disk)
        check(post, mail_id, told)
        assert post.send(mail_id, bytes(500_000))["code"] == 507
        delete(post, mail_id, told, 3)
        check(post, mail_id, told)
        in_the_way.unlink()
        delete(post, mail_id, told, 10)
        told[until(partial(post.send, mail_id, payload(0, 500_000)))["msg_id"]] = payload(0, 500_000)
        check(post, mail_id, told)
        broker.kill()
        broker.start()
        with Post(broker.url) as again:
            check(again, "box", told)


@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
def test_a_disk_that_refuses_to_write_is_told_and_left_behind(tmp_path: Path, kill: bool) -> None:
    told: dict[int, bytes] = {}
    with BrokerProcess(tmp_path / "data") as broker:
        with Post(broker.url) as post:
            mail_id = post.new(name="box")
            for number in range(5):
                told[post.send(mail_id, payload(number, 20_000))["msg_id"]] = payload(number, 20_000)
            with file_size_limit(broker.pid, (tmp_path / "data" / "data.mdb").stat().st_size):
                send_until_full(post, mail_id, told, 30_000, code=503)
                assert post.send(mail_id, b"never")["code"] == 503
                check(post, mail_id, told)
            told[until(partial(post.send, mail_id, payload(9, 90_000)))["msg_id"]] = payload(9, 90_000)
            check(post, mail_id, told)
        if kill:
            broker.kill()
        else:
            assert broker.stop() == 0
        broker.start()
        with Post(broker.url) as post:
            check(post, "box", told)
