"""kill -9 under load, with everything in the mix: all that tests/crash does to a broker apart, at the same time on one.

Mailboxes come and go, messages are sent, deleted, delayed, replaced and repeated, workers lease and settle them; at any moment the
broker is gone, and the next one must know what was told.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import pytest

from tests.crash.ledger import Ledger
from tests.crash.load import Load
from tests.crash.rounds import seeded
from tests.crash.test_sending import Sends
from tests.crash.test_work import compare
from tests.crash.work import BOX, Book, Work
from tests.store.post import Post
from tests.support.broker import BrokerProcess
from tests.support.findings import Finding, is_thorough, record
from tests.support.rawclient import RawClient

if TYPE_CHECKING:
    import random
    from pathlib import Path

KILLS: Final = int(os.environ.get("MQ9_KILLS", "50" if is_thorough() else "5"))
# A broker and its data are killed so often, then comes the next: repeats are told for two minutes only.
LAP: Final = 10


async def until_killed(broker: BrokerProcess, chance: random.Random, ledger: Ledger, book: Book, sends: Sends) -> None:
    """Keep the broker busy in every way, and kill it."""
    load, work = Load(ledger, chance), Work(book, chance)
    await load.begin(broker.url)
    await work.begin(broker.url)
    with RawClient(urlsplit(broker.url).port or 0).connect() as client:
        await asyncio.sleep(chance.uniform(0.02, 0.4))
        await asyncio.to_thread(sends.send_some, client)
        await asyncio.sleep(chance.uniform(0, 0.2))
        await asyncio.to_thread(broker.kill)
        await asyncio.to_thread(sends.hear_rest, client)
    await load.end()
    await work.end()


def lap(data: Path, chance: random.Random, kills: int) -> Counter[str]:
    """Kill a broker so often over one directory; how much of what was told."""
    ledger, book = Ledger(), Book()
    with BrokerProcess(data) as broker:
        with Post(broker.url) as post:
            post.new(name=BOX)
            sends = Sends(post.new(), chance)
        for _ in range(kills):
            asyncio.run(until_killed(broker, chance, ledger, book, sends))
            assert not book.complaints, book.complaints[:10]
            broker.start()
            assert "ERROR" not in broker.log()
            with Post(broker.url) as post:
                ledger.compare(post)
        sends.check(urlsplit(broker.url).port or 0)
        with Post(broker.url) as post:
            compare(post, book)
    assert not book.complaints, book.complaints[:10]
    assert ledger.sends_told > kills
    assert len(sends.told) > kills
    assert book.told["ack"] > kills
    sent = ledger.sends_told + len(sends.told) + book.told["send"]
    settled = sum(book.told[op] for op in ("ack", "nack", "extend", "dead", "lease"))
    return Counter(sends=sent, deletes=ledger.deletes_told, mailboxes=ledger.others_told, settled=settled)


@pytest.mark.slow
@pytest.mark.timeout(120 + 20 * KILLS)
def test_what_was_told_holds_when_the_broker_is_killed_in_the_midst_of_everything(tmp_path: Path) -> None:
    chance = seeded()
    told: Counter[str] = Counter()
    for number, kills in enumerate([LAP] * (KILLS // LAP) + [KILLS % LAP] * (KILLS % LAP > 0)):
        told += lap(tmp_path / f"data {number}", chance, kills)
    done = (
        f"{KILLS} kills under load: {told['sends']:,} sends, {told['deletes']:,} deletions, {told['mailboxes']:,} creations,"
        f" renewals and removals, {told['settled']:,} leases, acks, nacks and the like were answered"
    )
    found = (
        "everything that was answered holds after every kill; what was not is wholly there or not at all; no id twice"
    )
    record(Finding("kill -9", done, found, told.total()))
