"""Who comes in, over real sockets: each kind of credentials, how long it may take, and that nobody else waits for it."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from mq9.server.config import Config, ConfigError
from mq9.server.embedded import Broker
from mq9.server.passwords import PasswordChecks
from mq9.server.throttle import FREE_FAILURES
from mq9.server.userconfig import PermissionsConfig, SubjectLists, UserConfig
from tests.server.support import publish, request
from tests.support.broker import BrokerProcess
from tests.support.rawclient import RawClient
from tests.support.secrets import NKEY, hashed, password, signed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VIOLATION = b"-ERR 'Authorization Violation'"
TIMEOUT = b"-ERR 'Authentication Timeout'"
# A password that takes about a second to look at, and one that takes a millisecond.
SLOW, QUICK = hashed("slow", 13), hashed("quick")
QUIET = {"verbose": False, "headers": True}


def port_of(broker: Broker) -> int:
    return int(broker.url.rpartition(":")[2])


def connect_frame(**said: object) -> bytes:
    return b"CONNECT " + json.dumps(QUIET | said).encode() + b"\r\n"


def is_silent(client: RawClient) -> bool:
    """Whether nothing has come to the client that it has not read."""
    client._socket.setblocking(False)
    try:
        client._socket.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    finally:
        client._socket.setblocking(True)
    return False


def outcome(port: int, said: dict[str, Any]) -> bytes | None:
    """What a client that says `said` in CONNECT, and then PING, is told first."""
    with RawClient(port) as client:
        client.opened()
        client.send(connect_frame(**said) + b"PING\r\n")
        return client.frame()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A broker with a user of each kind, to which nobody has failed to show who they are."""
    everybody = (
        UserConfig("anna", password="anna"),
        UserConfig("hashed", password=QUICK),
        UserConfig("tom", token="tom's"),
        UserConfig("nina", nkey=NKEY),
    )
    with Broker(config=Config(users=everybody)) as broker:
        assert outcome(port_of(broker), password("hashed", "quick")) == b"PONG"
        yield port_of(broker)


def test_a_password_and_a_token_let_in(port: int) -> None:
    for said in (password("anna"), password("hashed", "quick"), {"auth_token": "tom's"}):
        assert outcome(port, said) == b"PONG", said


def test_an_nkey_lets_in_on_the_connection_whose_nonce_it_signed(port: int) -> None:
    with RawClient(port) as client, RawClient(port) as other:
        nonce, others = client.opened()["nonce"], other.opened()["nonce"]
        assert nonce != others
        client.send(connect_frame(**signed(nonce)) + b"PING\r\n")
        assert client.frame() == b"PONG"
        other.send(connect_frame(**signed(nonce)) + b"PING\r\n")
        assert other.frame() == VIOLATION


@pytest.mark.parametrize("size", [10, 1_000, 30_000])
def test_what_follows_a_connect_waits_for_it_and_keeps_its_order(size: int) -> None:
    with (
        Broker(config=Config(users=(UserConfig("hashed", password=QUICK),))) as broker,
        RawClient(port_of(broker)) as client,
    ):
        client.opened()
        frames = [publish("to.me", b"%d" % number) for number in range(size)]
        client.send(connect_frame(**password("hashed", "quick")) + b"SUB to.me 1\r\n" + b"".join(frames) + b"PING\r\n")
        for number in range(size):
            frame = client.frame()
            assert frame is not None
            assert frame.endswith(b"\r\n%d" % number)
        assert client.frame() == b"PONG"


def test_nobody_waits_for_somebody_elses_password() -> None:
    everybody = (
        UserConfig("slow", password=SLOW),
        UserConfig("anna", password="anna"),
        UserConfig("q", password=QUICK),
    )
    with (
        Broker(config=Config(users=everybody, auth_timeout=30)) as broker,
        RawClient(port_of(broker)).connect(**password("q", "quick")),
        RawClient(port_of(broker)).connect(**password("anna")) as anna,
        RawClient(port_of(broker)) as slow,
    ):
        slow.opened()
        slow.send(connect_frame(**password("slow", "wrong")))
        for _ in range(100):
            anna.fence()
        # A password that was right before is not looked at again, so it needs no turn behind the slow one.
        with RawClient(port_of(broker)).connect(**password("q", "quick")):
            pass
        assert is_silent(slow), "all this should have taken less time than one slow password"
        assert slow.frame() == VIOLATION


def test_addresses_take_turns() -> None:
    async def order() -> list[str]:
        checks = PasswordChecks()
        done: list[str] = []
        finished = asyncio.Event()

        def ask(address: str) -> None:
            def told(right: bool) -> None:
                assert not right
                done.append(address)
                if len(done) == 8:
                    finished.set()

            checks.check(address, QUICK, "wrong", told, still=lambda: True)

        for address in "aaaaaab":
            ask(address)
        checks.check("b", QUICK, "gone", done.append, still=lambda: False)  # type: ignore[arg-type] # never called
        ask("b")
        await finished.wait()
        await checks.stop()
        return done

    assert "".join(asyncio.run(order())) == "abaabaaa"


def test_no_more_passwords_wait_than_there_is_room_for() -> None:
    async def answered() -> tuple[int, int]:
        checks = PasswordChecks()
        done: list[bool] = []
        for number in range(5_000):
            checks.check(str(number % 3), SLOW, str(number), done.append, still=lambda: True)
        waiting = checks.waiting
        await checks.stop()
        return waiting, len(done)

    assert asyncio.run(answered()) == (3 * 64, 0)


def test_a_client_that_leaves_while_its_password_is_looked_at_is_forgotten(caplog: pytest.LogCaptureFixture) -> None:
    with Broker(config=Config(users=(UserConfig("hashed", password=QUICK),))) as broker:
        for _ in range(20):
            with RawClient(port_of(broker)) as client:
                client.opened()
                client.send(connect_frame(**password("hashed", "quick")) + b"SUB a 1\r\n")
        with RawClient(port_of(broker)).connect(**password("hashed", "quick")) as client:
            client.fence()
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_who_says_nothing_in_time_is_told_so_and_hung_up_on() -> None:
    with Broker(config=Config(token="t", auth_timeout=0.1)) as broker, RawClient(port_of(broker)) as client:
        client.opened()
        assert client.rest() == [TIMEOUT]


def test_who_is_not_recognised_in_time_is_told_so_too() -> None:
    with Broker(config=Config(user="slow", password=SLOW, auth_timeout=0.1)) as broker:
        assert outcome(port_of(broker), password("slow")) == TIMEOUT


def test_who_is_in_is_not_timed_out() -> None:
    with (
        Broker(config=Config(token="t", auth_timeout=0.05)) as broker,
        RawClient(port_of(broker)).connect(auth_token="t") as client,
        RawClient(port_of(broker)) as silent,
    ):
        silent.opened()
        assert silent.rest() == [TIMEOUT], "more than that time has passed"
        client.fence()


def test_who_keeps_failing_is_slowed_down() -> None:
    with Broker(config=Config(token="t", auth_timeout=0.5)) as broker, ExitStack() as stack:
        clients = [stack.enter_context(RawClient(port_of(broker))) for _ in range(40)]
        for client in clients:
            client.opened()
            client.send(connect_frame(auth_token="wrong"))
        answers = [client.rest() for client in clients]
        assert answers.count([VIOLATION]) + answers.count([TIMEOUT]) == 40
        assert FREE_FAILURES <= answers.count([VIOLATION]) < 15


def test_no_auth_user_is_who_does_not_say_who_it_is() -> None:
    guest = UserConfig("guest", password="g", permissions=PermissionsConfig(publish=SubjectLists(("open.>",))))
    config = Config(users=(UserConfig("anna", password="anna"), guest), no_auth_user="guest")
    with Broker(config=config) as broker, RawClient(port_of(broker)) as client:
        assert client.opened()["auth_required"] is False
        # Not even CONNECT is needed.
        client.send(b"PUB closed 0\r\n\r\nPING\r\n")
        assert client.frame() == b"-ERR 'Permissions Violation for Publish to \"closed\"'"
        assert client.frame() == b"PONG"
        with RawClient(port_of(broker)).connect() as other:
            other.send(b"PUB closed 0\r\n\r\n")
            assert other.fence() == [b"-ERR 'Permissions Violation for Publish to \"closed\"'"]
        with RawClient(port_of(broker)).connect(**password("anna")) as anna:
            anna.send(b"PUB closed 0\r\n\r\n")
            assert anna.fence() == []
        assert outcome(port_of(broker), password("anna", "wrong")) == VIOLATION


def test_a_second_connect_is_another_user_with_what_that_one_may() -> None:
    narrow = UserConfig(
        "narrow", password="narrow", permissions=PermissionsConfig(subscribe=SubjectLists(("a", "in.>")))
    )
    config = Config(users=(UserConfig("anna", password="anna"), narrow))
    with Broker(config=config) as broker, RawClient(port_of(broker)).connect(**password("anna")) as client:
        client.send(b"SUB a 1\r\nSUB b 2\r\nSUB in.x 3\r\n")
        client.fence()
        name = request(client, "$mq9.AI.MAILBOX.CREATE", {"name": "box"})["mail_id"]
        client.send(f"SUB $mq9.AI.MAILBOX.MSG.{name} 4\r\n".encode() + connect_frame(**password("narrow")))
        assert sorted(client.fence()) == [
            b'-ERR \'Permissions Violation for Subscription to "$mq9.AI.MAILBOX.MSG.box" (sid "4")\'',
            b'-ERR \'Permissions Violation for Subscription to "b" (sid "2")\'',
        ]
        client.send(publish("a", b"1") + publish("b", b"2") + publish("in.x", b"3"))
        assert client.fence() == [b"MSG a 1 1\r\n1", b"MSG in.x 3 1\r\n3"]


def test_credentials_are_ignored_where_there_are_no_users() -> None:
    with Broker() as broker:
        for said in (password("anna"), {"auth_token": "x"}, {"nkey": NKEY, "sig": "x"}, {"jwt": "x", "sig": "y"}):
            assert outcome(port_of(broker), said) == b"PONG"


def test_no_secret_is_in_a_log(tmp_path: Path) -> None:
    config = tmp_path / "mq9.toml"
    config.write_text('[[users]]\nname = "anna"\npassword = "right-secret"\n')
    with BrokerProcess(None, arguments=["--config", str(config)]) as process:
        port = int(process.url.rpartition(":")[2])
        assert outcome(port, password("anna", "right-secret")) == b"PONG"
        assert outcome(port, password("anna", "wrong-secret")) == VIOLATION
        assert outcome(port, password("typed-into-the-wrong-field", "x")) == VIOLATION
        assert outcome(port, {"auth_token": "token-secret"}) == VIOLATION
        process.stop()
        log = process.log()
        assert log.count("Authorization Violation") == 3
        for secret in ("right-secret", "wrong-secret", "token-secret", "wrong-field"):
            assert secret not in log


@pytest.mark.parametrize("host", ["0.0.0.0", "::", ""])
def test_strangers_are_not_let_in_by_mistake(host: str) -> None:
    with pytest.raises(ConfigError, match="give the broker users or a token"), Broker(host=host):
        pass
    with pytest.raises(ConfigError, match="set http_token"), Broker(host=host, config=Config(token="t", http_port=0)):
        pass
    for config in (
        Config(token="t"),
        Config(insecure=True),
        Config(users=(UserConfig("anna", password="a"),)),
    ):
        with Broker(host=host, config=config):
            pass


def test_http_has_a_token_of_its_own_to_be_reached_by_strangers() -> None:
    for config in (Config(token="t", http_port=0, http_token="h"), Config(insecure=True, http_port=0)):
        with Broker(host="0.0.0.0", config=config):
            pass


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "localhost", "::1", "::ffff:127.0.0.1"])
def test_this_machine_needs_no_users(host: str) -> None:
    with Broker(host=host):
        pass


def test_serve_says_in_a_sentence_why_it_does_not_listen_for_everybody() -> None:
    with pytest.raises(AssertionError, match=r"whoever reaches 0\.0\.0\.0 may read every mailbox") as caught:
        BrokerProcess(None, arguments=["--host", "0.0.0.0"]).start()
    assert "Traceback" not in str(caught.value)
    with BrokerProcess(None, arguments=["--host", "0.0.0.0", "--insecure"]) as process:
        assert "insecure: whoever reaches 0.0.0.0 may do everything" in process.log()
