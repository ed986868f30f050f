"""Disk use follows what is alive: segments that are mostly dead are rewritten, whatever happens meanwhile."""

from __future__ import annotations

import random
import re
import time
from typing import TYPE_CHECKING
from urllib.request import urlopen

import pytest

from tests.store.post import Post
from tests.support.broker import BrokerProcess

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE_S = 30.0
SIZE = 1_000
SURVIVORS = 50
MIB = 1024 * 1024
LIMIT = 60 * MIB
# Of a store that may have so much: the segment that is written to stays as it is, and those made ahead of need.
REGION = LIMIT // 10


def metric(broker: BrokerProcess, name: str) -> float:
    """The value of a metric without labels."""
    with urlopen(f"http://127.0.0.1:{broker.http_port}/metrics", timeout=PATIENCE_S) as answer:
        found = re.search(rf"^{name} (\S+)$", answer.read().decode(), re.MULTILINE)
    assert found is not None, name
    return float(found[1])


def payload(number: int) -> bytes:
    return b"%d " % number + b"x" * SIZE


def fill_and_drain(post: Post, mail_id: str, first: int, count: int) -> dict[int, bytes]:
    """Send `count` messages and delete all but one in SURVIVORS; the msg_ids and payloads of those."""
    ids = post.send_all(mail_id, [payload(number) for number in range(first, first + count)])
    stays = {msg_id: payload(first + at) for at, msg_id in enumerate(ids) if at % SURVIVORS == 0}
    answers = post.ask_all((f"$mq9.AI.MAILBOX.DELETE.{mail_id}.{msg_id}", b"") for msg_id in ids if msg_id not in stays)
    assert all(answer == {"deleted": True} for answer in answers)
    return stays


def held(post: Post, mail_id: str) -> dict[int, bytes]:
    return {mail.msg_id: mail.payload for mail in post.fetch(mail_id)}


def test_a_queue_that_is_filled_and_drained_takes_the_space_of_what_is_left(tmp_path: Path) -> None:
    stays: dict[int, bytes] = {}
    config = tmp_path / "mq9.toml"
    config.write_text(f"max_store = {LIMIT}\n")
    journal = tmp_path / "data" / "journal"
    with BrokerProcess(tmp_path / "data", http=True, arguments=["--config", str(config)]) as broker:
        with Post(broker.url) as post:
            mail_id = post.new(name="queue")
            for number in range(20):
                stays |= fill_and_drain(post, mail_id, number * 2_000, 2_000)
            deadline = time.monotonic() + PATIENCE_S
            while (
                sum(file.stat().st_size for file in journal.iterdir())
                > 2 * metric(broker, "mq9_stored_bytes") + 4 * REGION
            ):
                assert time.monotonic() < deadline, "segments that are mostly dead are not rewritten"
                time.sleep(0.05)
            assert metric(broker, "mq9_rewritten_bytes_total") > SIZE * len(stays) // 2
            assert held(post, mail_id) == stays
            assert {mail.msg_id: mail.payload for mail in post.receive(mail_id, len(stays))} == stays
        broker.kill()
        assert broker.damage() == []
        broker.start()
        with Post(broker.url) as post:
            assert held(post, mail_id) == stays
            assert {mail.msg_id: mail.payload for mail in post.receive(mail_id, len(stays))} == stays
            # The region that was written to when it was killed is rewritten, too.
            deadline = time.monotonic() + PATIENCE_S
            while metric(broker, "mq9_block_bytes") > 2 * metric(broker, "mq9_stored_bytes") + REGION:
                assert time.monotonic() < deadline, "what the broker before has left is not rewritten"
                time.sleep(0.05)


@pytest.mark.parametrize("seed", range(3))
def test_a_kill_while_blocks_are_rewritten_loses_nothing_and_brings_nothing_back(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    stays: dict[int, bytes] = {}
    rewritten = 0.0
    config = tmp_path / "mq9.toml"
    config.write_text(f"max_store = {LIMIT}\n")
    with BrokerProcess(tmp_path / "data", http=True, arguments=["--config", str(config)]) as broker:
        for number in range(9):
            with Post(broker.url) as post:
                mail_id = str(post.create(name="queue")["mail_id"])
                assert held(post, mail_id) == stays
                stays |= fill_and_drain(post, mail_id, number * 3_000, 3_000)
                # Deletions that meet the rewriting of what they delete.
                for msg_id in chance.sample(sorted(stays), len(stays) // 2):
                    assert post.delete(mail_id, msg_id) == {"deleted": True}
                    del stays[msg_id]
                    if chance.random() < 0.03:
                        break
                # They rest for a second before it begins.
                time.sleep(chance.choice((0.0, 1.0, 1.1, 1.5)))
                rewritten += metric(broker, "mq9_rewritten_bytes_total")
            broker.kill()
            assert broker.damage() == []
            broker.start()
    assert rewritten > 0
