"""Clients that are a nuisance, and what becomes of the others: their messages all arrive, memory stays flat, the log is short.

How long the others' messages take is a figure of the page that `make faults` writes; a test says nothing about time.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.beside import PHASE_S, Beside
from tests.faults.nuisance import BOX
from tests.store.post import Post
from tests.support.broker import BrokerProcess, clean_environment
from tests.support.findings import Finding, record

if TYPE_CHECKING:
    from pathlib import Path

STORED = 40
# What a broker may take for connections, buffers and what waits for those who do not read, beyond what it had.
MEMORY_MB = {"dribble": 32, "read_nothing": 160, "open_and_drop": 48, "flood_headers": 48, "store_headers": 128}


def suffer(broker: BrokerProcess, kind: str) -> tuple[dict[str, Any], Beside, tuple[float, float]]:
    """Let a nuisance come to a broker with a full mailbox and others on it; what it did, what the others found, and its memory."""
    with Post(broker.url) as post:
        post.new(name=BOX)
        told = [post.send(BOX, bytes(500_000))["msg_id"] for _ in range(STORED)]
        with Beside(broker) as others:
            command = [sys.executable, "-m", "tests.faults.nuisance", kind, broker.url, str(PHASE_S)]
            ran = subprocess.run(
                command, stdout=subprocess.PIPE, text=True, check=True, env=clean_environment(), timeout=100
            )
            others.end()
            before, most = rss = others.rss_both_mb()
        assert most - before < MEMORY_MB[kind], (before, most)
        there = {item["msg_id"] for item in post.pages(BOX, 5)}
        assert set(told) <= there
    did: dict[str, Any] = json.loads(ran.stdout)
    return did, others, rss


def log_line(broker: BrokerProcess) -> str:
    """The log of a broker that said little: the first line of it, without the time."""
    said = [line for line in broker.log().splitlines() if not line.startswith("mq9 ")]
    assert len(said) <= 25, said
    assert not [line for line in said if " ERROR " in line], said
    return said[0].split(" ", 2)[-1] if said else ""


@pytest.mark.parametrize(
    ("kind", "fault", "done", "found"),
    [
        (
            "dribble",
            "Client: dribbles bytes",
            "{clients} clients send messages a byte at a time ({bytes} bytes)",
            "what is unfinished is kept per client, some hundred bytes; finished messages are stored",
        ),
        (
            "read_nothing",
            "Client: reads nothing",
            "a receiver of 20 MB, a core subscriber, {asked} requests for pages of 1 MB (cut off {cut_off} times); none reads",
            "the receiver waits at its cursor, what is published waits up to max_pending (64 MB), answers wait to be made",
        ),
        (
            "open_and_drop",
            "Client: opens and drops 1,000 connections per second",
            "{opened} connections, at 1,000 in a second where the machine keeps up, every other one reset",
            "accepted and let go; nothing is left of them",
        ),
        (
            "flood_headers",
            "Client: floods with 8 MB of headers",
            "messages with 8 MB of headers, {closed} times on a new connection",
            "refused by its size before it is read (max_payload), and the connection ends",
        ),
    ],
)
def test_others_are_not_hit_by(tmp_path: Path, kind: str, fault: str, done: str, found: str) -> None:
    with BrokerProcess(tmp_path / "data") as broker:
        did, others, rss = suffer(broker, kind)
        line = log_line(broker)
        kept = others.found["stored"] + STORED
        record(Finding(fault, done.format(**did), found, kept, others.p99_ms(), rss, line))


def test_others_are_not_hit_by_headers_of_8_mb_in_messages_that_may_be_as_large(tmp_path: Path) -> None:
    config = tmp_path / "mq9.toml"
    config.write_text("max_payload = 16777216\n")
    with BrokerProcess(tmp_path / "data", arguments=["--config", str(config)]) as broker:
        did, others, rss = suffer(broker, "store_headers")
        line = log_line(broker)
        assert did["closed"] == 0
        with Post(broker.url) as post:
            assert len(list(post.pages(BOX, 5))) == STORED, "none of them was stored"
        fault = "Client: floods with 8 MB of headers, of messages that may be as large"
        done = f"max_payload 16 MB: {did['bytes'] >> 20} MB of messages that are headers only, 32 MB in a second"
        kept = others.found["stored"] + STORED
        found = "each is refused by the size of its headers (max_header_size), when its first bytes are there, and its rest is not kept"
        record(Finding(fault, done, found, kept, others.p99_ms(), rss, line))
