"""A process that may open no more files: who is there is served, the store is unharmed, and clients come in again when others go."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import time
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import pytest

from tests.faults.beside import Beside, lines
from tests.faults.test_clock import wait_for
from tests.store.post import Post, until
from tests.support.broker import BrokerProcess
from tests.support.findings import Finding, is_thorough, record
from tests.support.rawclient import RawClient

if TYPE_CHECKING:
    from collections.abc import Iterator

FILES: Final = 400
CLIENTS_MAX: Final = FILES // 2
TOO_MANY: Final = 300
LASTS_S: Final = 6.0 if is_thorough() else 1.0


def processor_s(pid: int) -> float:
    """Seconds of processor time that the process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[BrokerProcess]:
    """A broker that may have few files open."""
    if shutil.which("prlimit") is None:
        pytest.skip("there is no prlimit")
    with BrokerProcess(tmp_path / "data", under=["prlimit", f"--nofile={FILES}:{FILES}"]) as broker:
        yield broker


def open_clients(ended: ExitStack, url: str, count: int) -> list[RawClient]:
    """So many more clients, which stay; what they are told is for the test to read."""
    return [ended.enter_context(RawClient(urlsplit(url).port or 0)) for _ in range(count)]


def store_and_read(post: Post, name: str) -> list[int]:
    """Fill several files of the journal from a new mailbox of this name, and read them again; the msg_ids."""
    post.new(name=name)
    told = [post.send(name, b"%d" % number + bytes(900_000)).get("msg_id") for number in range(30)]
    assert None not in told
    assert [item["msg_id"] for item in post.pages(name, 5)] == told
    return told


def test_clients_that_are_too_many_are_refused_and_the_store_has_its_files(limited: BrokerProcess) -> None:
    with Post(limited.url) as post, Beside(limited) as others, ExitStack() as ended:
        # What is stored and read takes the others' time by itself.
        others.phase("before")
        store_and_read(post, "former")
        others.phase("during")
        clients = open_clients(ended, limited.url, TOO_MANY)
        for client in clients:
            client.opened()
        heard = [client.rest() for client in clients[CLIENTS_MAX:]]
        assert heard == [[b"-ERR 'maximum connections exceeded'"]] * len(heard)
        # The journal needs new files now, and reading the first of them again another.
        before = processor_s(limited.pid)
        began = time.monotonic()
        told = store_and_read(post, "box")
        busy_s = processor_s(limited.pid) - before
        time.sleep(LASTS_S)
        idle_s = processor_s(limited.pid) - before - busy_s
        assert idle_s < (time.monotonic() - began) / 2, "the broker is busy with nothing"
        ended.close()
        wait_for(lambda: can_enter(limited.url), "nobody comes in any more")
        others.end()
        rss = others.rss_both_mb()
    said = lines(limited.log(), "maximum connections")
    assert 1 <= len(said) <= 11, said
    assert "ERROR" not in limited.log()
    limited.kill()
    limited.start()
    with Post(limited.url) as post:
        assert [item["msg_id"] for item in post.pages("box", 5)] == told
    done = f"RLIMIT_NOFILE {FILES}: {TOO_MANY} clients connect and stay, 27 MB are stored and read, as before; they leave; kill -9"
    found = f"{CLIENTS_MAX} clients are let in, the others told so; the rest of the files is the store's; no busy loop ({idle_s:.2f} s)"
    kept = len(told) + others.found["stored"]
    record(Finding("Out of descriptors", done, found, kept, others.p99_ms(), rss, said[0]))


def can_enter(url: str) -> bool:
    """Whether a new client is let in."""
    with RawClient(urlsplit(url).port or 0) as client:
        client.send(b"PING\r\n")
        return client.frame() == b"PONG"


def test_a_process_without_any_descriptor_left_goes_on(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path / "data") as broker, Post(broker.url) as post, ExitStack() as ended:
        post.new(name="box")
        used = len(list(Path(f"/proc/{broker.pid}/fd").iterdir()))
        resource.prlimit(
            broker.pid, resource.RLIMIT_NOFILE, (used + 10, resource.prlimit(broker.pid, resource.RLIMIT_NOFILE)[1])
        )
        port = urlsplit(broker.url).port or 0
        sockets = [ended.enter_context(socket.create_connection(("127.0.0.1", port), 10)) for _ in range(100)]
        greeted = 0
        for connection in sockets:  # each is greeted or hung up on, and none is left waiting
            with suppress(ConnectionResetError):
                greeted += connection.recv(1) == b"I"
        assert 0 < greeted <= 15
        before = processor_s(broker.pid)
        time.sleep(LASTS_S)
        assert processor_s(broker.pid) - before < LASTS_S / 2, "the broker is busy with nothing"
        ended.close()
        wait_for(lambda: can_enter(broker.url), "nobody comes in any more")
        # Even the store may have lacked one, when it was about to make a segment: it works again by itself.
        assert "msg_id" in until(partial(post.send, "box", b"still"))


def test_a_limit_that_was_asked_for_and_cannot_be_had_is_told(tmp_path: Path) -> None:
    config = tmp_path / "mq9.toml"
    config.write_text("max_connections = 1000\n")
    under = ["prlimit", f"--nofile={FILES}:{FILES}"]
    with BrokerProcess(tmp_path / "data", arguments=["--config", str(config)], under=under) as broker:
        said = f"WARNING at most {CLIENTS_MAX} clients at a time, not 1000: this process may have no more open files"
        assert lines(broker.log(), "clients at a time") == [said]
