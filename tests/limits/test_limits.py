"""Every limit of the NATS side at its cap and above it, against mq9 and nats-server with the same limits set.

What lies beyond a limit costs its own client only: each test has a bystander to whom nothing must happen.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from mq9.server.config import Config
from mq9.server.embedded import Broker
from tests.support.peers import DEBIAN_NATS_SERVER, NatsServer
from tests.support.rawclient import RawClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    Limited = Callable[..., AbstractContextManager[int]]

MIB = 1024 * 1024


@contextmanager
def mq9(data_dir: Path, **limits: float) -> Iterator[int]:
    """A broker with `limits`; gives its port."""
    with Broker(data_dir / "data", config=Config(**limits)) as broker:  # type: ignore[arg-type]
        yield int(broker.url.rpartition(":")[2])


@contextmanager
def nats_server(data_dir: Path, **limits: float) -> Iterator[int]:
    """A nats-server with `limits`; gives its port."""
    file = data_dir / "server.conf"
    lines = [f"{key}: {_nats_value(key, value)}" for key, value in limits.items()]
    # Else it waits for ten seconds before it hangs up on one that does not read.
    file.write_text("\n".join([*lines, 'write_deadline: "1s"']))
    with NatsServer(DEBIAN_NATS_SERVER, "-c", str(file)) as server:
        yield server.port


def _nats_value(key: str, value: float) -> str:
    return f'"{value}s"' if key == "ping_interval" else str(value)


@pytest.fixture(params=[mq9, nats_server], ids=["mq9", "nats-server"])
def limited(request: pytest.FixtureRequest, tmp_path: Path) -> Limited:
    """Starts a server with the limits it is given, and gives its port."""
    return lambda **limits: request.param(tmp_path, **limits)


def heard(client: RawClient) -> list[bytes]:
    """What a client hears before it is hung up on, INFO left out."""
    return client.rest()


def test_connections(limited: Limited, request: pytest.FixtureRequest) -> None:
    with limited(max_connections=3) as port, ExitStack() as stack:
        # Whoever looked whether the server is there has left; see below.
        tries = 1 if "[mq9]" in request.node.name else 1000
        clients = [_let_in(port, tries, stack) for _ in range(3)]
        with RawClient(port) as one_more:
            assert one_more.opened()["client_id"] > 0
            assert heard(one_more) == [b"-ERR 'maximum connections exceeded'"]
        for client in clients:
            assert client.fence() == []
        # The place of one who has left is free; mq9 says so by hanging up on its half, nats-server counts a moment later.
        clients[0].finish()
        assert heard(clients[0]) == []
        _let_in(port, tries, stack)


def _let_in(port: int, tries: int, stack: ExitStack) -> RawClient:
    """A client that is connected, at the first of so many tries that succeeds, until the end of `stack`."""
    for _ in range(tries):
        with ExitStack() as this:
            client = this.enter_context(RawClient(port))
            client.opened()
            client.send(b'CONNECT {"verbose":false}\r\nPING\r\n')
            if client.frame() == b"PONG":
                stack.push(this.pop_all())
                return client
    raise AssertionError("nobody is let in")


def test_subscriptions(limited: Limited) -> None:
    with limited(max_subscriptions=3) as port, RawClient(port).connect() as client:
        client.send(b"SUB a.1 1\r\nSUB a.2 2\r\nSUB a.3 q 3\r\n")
        assert client.fence() == []
        client.send(b"SUB a.4 4\r\n")
        assert client.fence() == [b"-ERR 'maximum subscriptions exceeded'"]
        client.send(b"PUB a.3 2\r\nhi\r\nPUB a.4 2\r\nhi\r\n")
        assert client.fence() == [b"MSG a.3 3 2\r\nhi"]
        client.send(b"UNSUB 1\r\nSUB a.4 4\r\nPUB a.4 2\r\nhi\r\n")
        assert client.fence() == [b"MSG a.4 4 2\r\nhi"]
        with RawClient(port).connect() as other:
            other.send(b"SUB a.1 1\r\nSUB a.2 2\r\nSUB a.3 3\r\n")
            assert other.fence() == []


def test_payloads(limited: Limited) -> None:
    with limited(max_payload=1000) as port, RawClient(port) as client, RawClient(port).connect() as bystander:
        assert client.opened()["max_payload"] == 1000
        client.send(b'CONNECT {"verbose":false,"pedantic":false,"headers":true}\r\nSUB a 1\r\n')
        client.send(b"PUB a 1000\r\n" + b"x" * 1000 + b"\r\nHPUB a 12 1000\r\nNATS/1.0\r\n\r\n" + b"y" * 988 + b"\r\n")
        assert [len(frame) for frame in client.fence()] == [
            len(b"MSG a 1 1000\r\n") + 1000,
            len(b"HMSG a 1 12 1000\r\n") + 1000,
        ]
        client.send(b"PUB a 1001\r\n")
        assert heard(client) == [b"-ERR 'Maximum Payload Violation'"]
        assert bystander.fence() == []


def test_control_lines(limited: Limited) -> None:
    with (
        limited(max_control_line=600) as port,
        RawClient(port).connect() as client,
        RawClient(port).connect() as bystander,
    ):
        client.send(b"SUB %b 1\r\n" % (b"s" * 590))
        assert client.fence() == []
        client.send(b"SUB %b 1\r\n" % (b"s" * 700))
        assert heard(client) == [b"-ERR 'maximum control line exceeded'"]
        assert bystander.fence() == []


def test_a_client_that_answers_no_ping_is_given_up(limited: Limited) -> None:
    with limited(ping_interval=0.2, ping_max=1) as port, RawClient(port) as deaf, RawClient(port).connect() as lively:
        answering = threading.Thread(target=lively.rest)
        answering.start()
        deaf.answers_pings = False
        deaf.connect()
        assert heard(deaf) == [b"-ERR 'Stale Connection'"]
        assert deaf.pings >= 1
        # Whoever answers may stay for as long as it likes.
        lively.finish()
        answering.join()
        assert lively.pings >= 1


def test_a_subscriber_that_does_not_read_is_cut_off(limited: Limited) -> None:
    payload = b"x" * 65_536
    count = 1600
    with (
        limited(max_pending=8 * MIB) as port,
        RawClient(port).connect() as idle,
        RawClient(port).connect() as reading,
        RawClient(port).connect() as publisher,
    ):
        for client in (idle, reading):
            client.send(b"SUB flood 1\r\nSUB end 2\r\n")
            assert client.fence() == []
        got: list[bytes] = []

        def read() -> None:
            while (frame := reading.frame()) not in {None, b"MSG end 2 0\r\n"}:
                assert frame is not None
                got.append(frame)

        reader = threading.Thread(target=read)
        reader.start()
        for _ in range(count):
            publisher.send(b"PUB flood 65536\r\n" + payload + b"\r\n")
        publisher.send(b"PUB end 0\r\n\r\n")
        assert publisher.fence() == []
        reader.join()
        assert got == [b"MSG flood 1 65536\r\n" + payload] * count
        assert idle.bytes_until_hung_up() < count * len(payload)


def test_ten_thousand_subscriptions_of_one_client(limited: Limited) -> None:
    with limited() as port, RawClient(port).connect() as client, RawClient(port).connect() as other:
        client.send(b"".join(b"SUB many.%d.%b %d\r\n" % (n, [b"a", b"*", b">"][n % 3], n) for n in range(10_000)))
        assert client.fence() == []
        other.send(b"".join(b"PUB many.%d.a 1\r\nx\r\n" % n for n in range(10_000)))
        assert other.fence() == []
        assert [frame.split(b" ")[2] for frame in client.fence()] == [b"%d" % n for n in range(10_000)]
        client.send(b"".join(b"UNSUB %d\r\n" % n for n in range(10_000)))
        assert client.fence() == []
        other.send(b"PUB many.7.a 1\r\nx\r\n")
        assert other.fence() == []
        assert client.fence() == []


def test_many_that_connect_and_say_nothing(limited: Limited) -> None:
    with limited() as port, RawClient(port).connect() as client, ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(RawClient(port))
        client.send(b"SUB a 1\r\nPUB a 1\r\nx\r\n")
        assert client.fence() == [b"MSG a 1 1\r\nx"]


def test_subject_length(tmp_path: Path) -> None:
    """A limit of mq9's own: a subject is never longer than a control line in nats-server."""
    at_cap, above = b"s" * 100, b"s" * 101
    with mq9(tmp_path, max_subject=100) as port, RawClient(port).connect() as client:
        client.send(b"SUB %b 1\r\nPUB %b 2\r\nhi\r\n" % (at_cap, at_cap))
        assert client.fence() == [b"MSG %b 1 2\r\nhi" % at_cap]
        client.send(b"SUB %b 2\r\n" % above)
        assert client.fence() == [b"-ERR 'Invalid Subject'"]
        client.send(b"PUB %b 2\r\nhi\r\n" % above)
        assert client.fence() == [b"-ERR 'Permissions Violation for Publish to \"%b\"'" % above]
        client.send(b"PUB %b 2\r\nhi\r\n" % at_cap)
        assert client.fence() == [b"MSG %b 1 2\r\nhi" % at_cap]
