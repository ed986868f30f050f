"""INFO that comes later than the first one, and lame duck mode: how a broker goes away and sends its clients off before."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from mq9.store.memory_engine import MemoryStore
from tests.server.support import ThreadedServer, create, publish
from tests.support.broker import BrokerProcess
from tests.support.peers import NEW_NATS_SERVER, NatsServer
from tests.support.rawclient import RawClient

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mq9.store.contract import Commit

    Leaver = BrokerProcess | NatsServer


@pytest.fixture(params=["mq9", NEW_NATS_SERVER])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Leaver]:
    """A server of each kind that sends its clients off within two seconds."""
    if request.param == "mq9":
        options = ["--lame-duck-grace-period", "0.5", "--lame-duck-duration", "30"]
        with BrokerProcess(tmp_path / "data", arguments=options) as broker:
            yield broker
    else:
        file = tmp_path / "server.conf"
        file.write_text('lame_duck_grace_period: "500ms"\nlame_duck_duration: "30s"\n')
        with NatsServer(request.param, "-c", str(file)) as peer:
            yield peer


def port_of(server: Leaver) -> int:
    return int(server.url.rpartition(":")[2])


def test_the_pong_comes_first_and_then_an_info(server: Leaver) -> None:
    with socket.create_connection(("127.0.0.1", port_of(server)), timeout=10) as client, client.makefile("rb") as lines:
        first = json.loads(lines.readline().removeprefix(b"INFO "))
        client.sendall(b'CONNECT {"verbose":false,"protocol":1}\r\nPING\r\nPING\r\n')
        assert lines.readline() == b"PONG\r\n"
        second = json.loads(lines.readline().removeprefix(b"INFO "))
        assert second == first | {"connect_info": True, "remote_account": "$G"}
        assert lines.readline() == b"PONG\r\n"
        client.sendall(b"PING\r\n")
        assert lines.readline() == b"PONG\r\n"


@pytest.mark.parametrize("options", [{}, {"protocol": 0}])
def test_a_client_that_does_not_know_of_it_gets_one_info(server: Leaver, options: dict[str, int]) -> None:
    with RawClient(port_of(server)).connect(**options) as client:
        assert client.fence() == []
        assert len(client.infos) == 1


def test_before_connect_there_is_one_info(server: Leaver) -> None:
    with RawClient(port_of(server)) as client:
        client.opened()
        assert client.fence() == []
        assert len(client.infos) == 1
        client.send(b'CONNECT {"verbose":false,"protocol":1}\r\n')
        assert client.fence() == []
        assert client.fence() == []
        assert len(client.infos) == 2


def test_clients_are_told_and_then_sent_off(server: Leaver) -> None:
    with ExitStack() as stack:
        told = [stack.enter_context(RawClient(port_of(server)).connect(protocol=1)) for _ in range(2)]
        untold = stack.enter_context(RawClient(port_of(server)).connect(protocol=0))
        for _ in range(2):  # the second time says nothing new
            server.send_signal(signal.SIGUSR2)
        for client in (*told, untold):
            assert client.rest() == []
        assert [client.infos[-1].get("ldm") for client in (*told, untold)] == [True, True, None]
        assert [sum("ldm" in info for info in client.infos) for client in told] == [1, 1]
        assert server.ended() == 0


def test_nobody_else_comes_in_meanwhile(server: Leaver) -> None:
    with RawClient(port_of(server)).connect(protocol=1) as client:
        client.send(b"SUB a 1\r\n")
        assert client.fence() == []
        server.send_signal(signal.SIGUSR2)
        while not client.infos[-1].get("ldm"):
            client.fence()
        # Who is there is served as before.
        client.send(publish("a", b"still here"))
        assert client.fence() == [b"MSG a 1 10\r\nstill here"]
        with pytest.raises(ConnectionRefusedError):
            RawClient(port_of(server))
        assert client.rest() == []


def test_without_clients_it_ends_at_once(server: Leaver) -> None:
    server.send_signal(signal.SIGUSR2)
    assert server.ended() == 0


def test_it_can_be_told_to_stop_meanwhile(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path / "data") as broker, RawClient(port_of(broker)).connect(protocol=1) as client:
        broker.send_signal(signal.SIGUSR2)
        while not client.infos[-1].get("ldm"):
            client.fence()
        assert broker.stop() == 0
        assert client.rest() == []


class HeldStore(MemoryStore):
    """A store whose commits wait while its door is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.door = threading.Event()
        self.door.set()

    async def commit(self, commit: Commit) -> None:
        """See Store.commit."""
        await asyncio.to_thread(self.door.wait)
        await super().commit(commit)


def test_many_are_sent_off_within_the_time_that_there_is() -> None:
    """Each waits for a commit; when these are slow, several leave with one."""
    with (
        ThreadedServer(HeldStore(), lame_duck_grace_period=0.0, lame_duck_duration=0.0) as broker,
        ExitStack() as stack,
    ):
        clients = [stack.enter_context(broker.client(protocol=1)) for _ in range(300)]
        broker.call(broker.server.leave)
        for client in clients:
            assert client.rest() == []
            assert client.infos[-1]["ldm"]
        assert broker.call(broker.server.left.is_set)


def test_who_is_sent_off_has_been_answered() -> None:
    """What a client had asked for is durable and answered before its connection ends."""
    store = HeldStore()
    with (
        ThreadedServer(store, lame_duck_grace_period=0.0, lame_duck_duration=0.0) as broker,
        broker.client(protocol=1) as client,
    ):
        name = create(client)
        store.door.clear()
        client.send(b"SUB reply 7\r\n" + publish(f"$mq9.AI.MAILBOX.MSG.{name}", b"first", "reply"))
        assert client.fence() == []
        broker.call(broker.server.leave)
        for _ in range(10):  # turns of the broker's loop: it is about to send the client off now
            broker.call(lambda: None)
        store.door.set()
        (answer,) = client.rest()
        assert json.loads(answer.partition(b"\r\n")[2])["msg_id"] == 1
