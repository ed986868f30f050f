"""The map by which mailboxes are found: at every size, and at every step of its growth, what is in it and nothing else."""

from __future__ import annotations

import random
import sys

import pytest

from mq9.mailboxes.format import MailboxRow
from mq9.mailboxes.mailbox import Mailbox
from mq9.native.bytemap import ByteMap


def mailbox(name: bytes) -> Mailbox:
    """A mailbox of this name."""
    return Mailbox(MailboxRow(number=1, mail_id=name, public=False, desc=b"", ttl_s=0, created_ms=0, expires_ms=0))


def fill(names: ByteMap[Mailbox], items: list[Mailbox]) -> None:
    """Put all of them into the map."""
    for item in items:
        names.put(item)


def holds(names: ByteMap[Mailbox], expected: dict[bytes, Mailbox], missing: bytes) -> None:
    """Assert that the map has what is expected, each under its name, and nothing under another one."""
    assert len(names) == len(expected)
    assert all(names.get(name) is item for name, item in expected.items())
    assert names.get(missing) is None
    assert sorted(item.name for item in names.values()) == sorted(expected)


def test_all_of_it_is_found_while_it_grows() -> None:
    names: ByteMap[Mailbox] = ByteMap()
    expected: dict[bytes, Mailbox] = {}
    for number in range(1_000):
        item = mailbox(b"m-%026d" % number)
        names.put(item)
        expected[item.name] = item
        holds(names, expected, b"m-%026d" % (number + 1))


@pytest.mark.parametrize("seed", range(5))
def test_what_comes_and_goes_while_it_grows(seed: int) -> None:
    chance = random.Random(seed)
    names: ByteMap[Mailbox] = ByteMap()
    expected: dict[bytes, Mailbox] = {}
    for step in range(6_000):
        name = b"%d" % chance.randrange(3_000)
        if chance.random() < 0.4:
            assert names.discard(name) is expected.pop(name, None)
        else:
            item = mailbox(name)
            names.put(item)  # in the place of what was there
            expected[name] = item
        if step % 100 == 0:
            holds(names, expected, b"another")
    holds(names, expected, b"another")
    for name in list(expected):
        assert names.discard(name) is expected.pop(name)
        if len(expected) % 100 == 0:
            holds(names, expected, name)


def test_a_name_is_found_by_all_of_its_bytes() -> None:
    names: ByteMap[Mailbox] = ByteMap()
    alike = [b"", b"a", b"a\0", b"a\0b", b"a" * 28, b"a" * 29, b"b" + b"a" * 27, b"a" * 300]
    items = [mailbox(name) for name in alike]
    fill(names, items)
    assert [names.get(name) for name in alike] == items
    assert names.get(b"a" * 27) is None


@pytest.mark.parametrize("count", [0, 1, 47, 49, 60, 500])  # 49 and 60: in the middle of growing
def test_it_keeps_what_is_in_it_and_lets_go_of_what_is_taken_out(count: int) -> None:
    names: ByteMap[Mailbox] = ByteMap()
    items = [mailbox(b"%d" % number) for number in range(count)]
    before = [sys.getrefcount(item) for item in items]
    fill(names, items)
    assert [sys.getrefcount(item) for item in items] == [references + 1 for references in before]
    names.clear()
    assert len(names) == 0
    assert names.values() == []
    assert [sys.getrefcount(item) for item in items] == before
    fill(names, items)
    del names
    assert [sys.getrefcount(item) for item in items] == before
