"""A broker inside this process: the same as a process of its own, and nothing left of it afterwards."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from mq9 import Broker
from mq9.server.config import ConfigError
from mq9.store.contract import StoreLockedError
from tests.server.support import create, publish, request
from tests.support.rawclient import RawClient

if TYPE_CHECKING:
    from pathlib import Path


def client_of(broker: Broker) -> RawClient:
    port = urlsplit(broker.url).port
    assert port is not None
    return RawClient(port).connect()


def test_what_was_acknowledged_is_there_the_next_time(tmp_path: Path) -> None:
    with Broker(tmp_path / "data") as broker, client_of(broker) as client:
        name = create(client, ttl=0)
        for number in range(100):
            request(client, f"$mq9.AI.MAILBOX.MSG.{name}.high", b"%d" % number)
    with Broker(tmp_path / "data") as broker, client_of(broker) as client:
        listed = request(client, f"$mq9.AI.MAILBOX.LIST.{name}")["messages"]
        assert [item["payload"] for item in listed] == [str(number) for number in range(100)]
        assert request(client, f"$mq9.AI.MAILBOX.MSG.{name}", b"next")["msg_id"] == 101


def test_stopping_answers_what_was_asked_before() -> None:
    broker = Broker().start()
    client = client_of(broker)
    name = create(client, ttl=0)
    client.send(b"SUB in 1\r\n")
    client.fence()
    client.send(publish(f"$mq9.AI.MAILBOX.MSG.{name}", b"x", "in") * 1_000 + b"PING\r\n")
    frames = []
    while (frame := client.frame()) != b"PONG":
        frames.append(frame)
    broker.stop()
    assert len(frames + client.rest()) == 1_000
    client.hang_up()


def test_two_brokers_side_by_side_and_none_left_behind() -> None:
    before = threading.active_count()
    with Broker() as one, Broker() as two:
        assert one.url != two.url
        with client_of(one) as client:
            create(client, name="only.here", public=True)
        with client_of(two) as client:
            assert request(client, "$mq9.AI.PUBLIC.LIST")["mailboxes"] == []
    assert threading.active_count() == before
    with pytest.raises(RuntimeError, match="not running"):
        _ = one.url


def test_starting_fails_with_one_sentence(tmp_path: Path) -> None:
    with Broker(tmp_path / "data") as broker:
        with pytest.raises(StoreLockedError, match="another broker has the data directory"):
            Broker(tmp_path / "data").start()
        port = urlsplit(broker.url).port
        assert port is not None
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}: "):
            Broker(port=port).start()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
    with Broker(tmp_path / "data"):
        pass
