"""A broker on data of which something is damaged: it says what, and serves all the rest.

docs/design.md §4: a damaged block is reported by name, costs only its own messages, and never stops the rest from being served.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Self
from urllib.request import urlopen

import pytest

from mq9.server.config import Config
from mq9.store.contract import Table
from mq9.store.disk_engine import DiskStore
from mq9.store.frame import Index
from mq9.store.starting import NEVER
from mq9.store.tables import Tables
from tests.store.post import Mail, Post, delivery_order
from tests.store.serving import Serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BLOCK_HEAD = 32


class Damager:
    """The data of a stopped broker, to be changed behind its back."""

    def __init__(self, directory: Path) -> None:
        self._tables = Tables(directory)
        self._tables.open()
        checkpoint = self._tables.checkpoint()
        assert checkpoint is not None
        self._salt = checkpoint.salt
        self._paths = sorted((directory / "journal").iterdir())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._tables.close()

    def damage_block(self, payload: bytes, damage: Callable[[memoryview], None]) -> tuple[int, bytes]:
        """Damage the block that has `payload` in it; returns its number, and what it was."""
        for path in self._paths:
            data = bytearray(path.read_bytes())
            index = Index(int(path.stem), 1)
            index.read(data, self._salt, NEVER, NEVER, last=True)
            places, _ = index.blocks(0, len(data) + 1)
            for number, offset, size in places:
                if payload in data[offset : offset + size]:
                    before = bytes(data[offset : offset + size])
                    damage(memoryview(data)[offset : offset + size])
                    path.write_bytes(data)
                    return number, before
        raise AssertionError("there is no such block")

    def damage_frame(self, payload: bytes, at: int) -> None:
        """Flip a bit in the frame of the block that has `payload` in it, `at` bytes from its beginning."""
        for path in self._paths:
            data = bytearray(path.read_bytes())
            if payload in data:
                data[data.rindex(self._salt.to_bytes(8, "little"), 0, data.index(payload)) + at] ^= 1
                path.write_bytes(data)

    def change_rows(self, table: Table, change: Callable[[bytes], bytes]) -> int:
        """Replace the rows of a table by what `change` makes of them; how many there were."""
        environment = self._tables.environment
        with environment.begin(db=environment.open_db(table.value.encode()), write=True) as transaction:
            rows = list(transaction.cursor())
            for key, value in rows:
                transaction.put(key, change(value))
        return len(rows)


def _flip(at: int) -> Callable[[memoryview], None]:
    def damage(data: memoryview) -> None:
        data[at] ^= 1

    return damage


def _zeros(data: memoryview) -> None:
    data[:] = bytes(len(data))


def _half(data: memoryview) -> None:
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)


DAMAGES = {
    "magic": _flip(0),
    "version": _flip(4),
    "checksum": _flip(8),
    "count of records": _flip(12),
    "number": _flip(16),
    "size of a record": _flip(BLOCK_HEAD),
    "msg_id": _flip(BLOCK_HEAD + 8),
    "payload": _flip(-1),
    "written in half": _half,
    "zeros": _zeros,
}


def fill(post: Post) -> list[Mail]:
    """Send to the mailbox `box` one write after the other, so that there are several blocks, of several messages each."""
    post.new(name="box", public=True)
    mails = []
    for block in range(5):
        for priority in ("high", "low"):
            payloads = [b"payload %d of block %d, %s" % (n, block, priority.encode()) for n in range(4)]
            msg_ids = post.send_all("box", payloads, priority)
            mails += [Mail(msg_id, priority, data) for msg_id, data in zip(msg_ids, payloads, strict=True)]
    return mails


def metrics(serving: Serving) -> bytes:
    """What /metrics says."""
    with urlopen(f"http://127.0.0.1:{serving.http_port}/metrics", timeout=10) as response:
        said: bytes = response.read()
    return said


@pytest.mark.parametrize(
    ("damage", "which"),
    [
        *(pytest.param(damage, 2, id=f"{name} of a middle block") for name, damage in DAMAGES.items()),
        *(
            pytest.param(DAMAGES[name], which, id=f"{name} of the {where} block")
            for which, where in ((0, "first"), (4, "last"))
            for name in ("payload", "number", "zeros")
        ),
    ],
)
def test_a_damaged_block_costs_its_own_messages_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[memoryview], None], which: int
) -> None:
    with Serving(DiskStore(tmp_path / "data")) as serving, Post(serving.url) as post:
        mails = fill(post)
    with Damager(tmp_path / "data") as damager:
        number, data = damager.damage_block(b"payload 3 of block %d, low" % which, damage)
    left = [mail for mail in mails if mail.payload not in data]
    assert len(left) < len(mails)
    with_http = Config(port=0, http_port=0)
    with Serving(DiskStore(tmp_path / "data"), with_http) as serving, Post(serving.url) as post:
        said = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
        assert len(said) == 1, said
        assert f"block {number} " in said[0]
        assert "payload" not in said[0]
        assert b"mq9_damaged_blocks_total 1.0" in metrics(serving)
        assert post.fetch("box") == left
        assert post.receive("box", len(left)) == delivery_order(left)
        answer = post.send("box", b"life goes on")
        assert answer.get("msg_id", 0) > max(mail.msg_id for mail in mails), answer
        assert post.delete("box", left[0].msg_id) == {"deleted": True}
        left = [*left[1:], Mail(answer["msg_id"], "normal", b"life goes on")]
        assert post.fetch("box") == left
    with Serving(DiskStore(tmp_path / "data")) as serving, Post(serving.url) as post:
        assert post.fetch("box") == left


@pytest.mark.parametrize("at", [0, 8, 12, 16, 24, 40, 48, 64, 72], ids=lambda at: f"byte {at}")
def test_a_damaged_frame_costs_its_own_messages_only(tmp_path: Path, caplog: pytest.LogCaptureFixture, at: int) -> None:
    with Serving(DiskStore(tmp_path / "data")) as serving, Post(serving.url) as post:
        mails = fill(post)
    with Damager(tmp_path / "data") as damager:
        number, data = damager.damage_block(b"payload 3 of block 2, low", lambda _: None)
        damager.damage_frame(b"payload 3 of block 2, low", at)
    left = [mail for mail in mails if mail.payload not in data]
    with Serving(DiskStore(tmp_path / "data")) as serving, Post(serving.url) as post:
        said = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
        assert len(said) == 2, said
        assert said[0].startswith("the journal: segment 1 is damaged from byte ")
        assert said[1].startswith(f"block {number} ")
        assert post.fetch("box") == left
        assert post.send("box", b"life goes on")["msg_id"] > mails[-1].msg_id


@pytest.mark.parametrize("table", [Table.MAILBOXES, Table.META, Table.DEAD])
@pytest.mark.parametrize("damage", [lambda _: b"", lambda value: value[:-1]], ids=["empty", "cut off"])
def test_damaged_rows_do_not_stop_the_rest(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, table: Table, damage: Callable[[bytes], bytes]
) -> None:
    with Serving(DiskStore(tmp_path / "data")) as serving, Post(serving.url) as post:
        mails = fill(post)
        secret = post.new(desc="its row will be damaged")
        dropped = post.send(secret, b"alone in its block, which is dropped")["msg_id"]
        post.delete(secret, dropped)
        post.delete("box", mails[0].msg_id)
        post.send(secret, b"in it")
    with Damager(tmp_path / "data") as damager:
        changed = damager.change_rows(
            table, lambda value: value if table is Table.MAILBOXES and secret.encode() not in value else damage(value)
        )
        assert changed >= 1
    with Serving(DiskStore(tmp_path / "data")) as serving, Post(serving.url) as post:
        # Without its row of the dead a block does not know any more that a message was deleted.
        assert post.fetch("box")[-len(mails) + 1 :] == mails[1:]
        assert post.send("box", b"life goes on")["msg_id"] > dropped
    if table is Table.MAILBOXES:
        said = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
        assert said
        assert not any(secret in sentence for sentence in said)
