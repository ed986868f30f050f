"""A configuration that changes while the broker runs: who stays, who goes, what ends, and that a mistake changes nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mq9.server.config import ConfigError
from mq9.server.userconfig import PermissionsConfig, SubjectLists, UserConfig
from tests.server.support import ThreadedServer, body_of, create, publish, request
from tests.server.test_http import get
from tests.support.broker import BrokerProcess
from tests.support.certificates import Certificates
from tests.support.rawclient import RawClient
from tests.support.secrets import hashed, password

if TYPE_CHECKING:
    from collections.abc import Callable

VIOLATION = b"-ERR 'Authorization Violation'"
ANNA = UserConfig("anna", password="anna")
BEN = UserConfig("ben", password="ben")


def reload(broker: ThreadedServer, **changes: Any) -> None:
    """Have the broker go by its configuration with these changes."""
    config = replace(broker.server.config, **changes)
    asyncio.run_coroutine_threadsafe(broker.server.reload(config), broker.loop).result(10)


def refused(subject: str, sid: int) -> bytes:
    return f'-ERR \'Permissions Violation for Subscription to "{subject}" (sid "{sid}")\''.encode()


def test_who_is_gone_or_has_another_password_is_cut_off_and_nobody_else() -> None:
    carl = UserConfig("carl", password=hashed("carl"))
    with ThreadedServer(users=(ANNA, BEN, carl)) as broker:
        anna, ben, carls = (broker.client(**password(name)) for name in ("anna", "ben", "carl"))
        carls.send(b"SUB a 1\r\n")
        carls.fence()
        reload(broker, users=(UserConfig("anna", password="new"), carl))
        assert anna.rest() == [VIOLATION]
        assert ben.rest() == [VIOLATION]
        carls.send(publish("a", b"still here"))
        assert carls.fence() == [b"MSG a 1 10\r\nstill here"]
        with broker.client(**password("anna", "new")):
            pass
        for client in (anna, ben, carls):
            client.hang_up()


def test_a_broker_that_gets_users_cuts_off_who_is_none() -> None:
    with ThreadedServer() as broker:
        stranger, open_client = broker.client(), broker.client()
        with RawClient(broker.server.port) as silent:
            silent.opened()
            reload(broker, users=(ANNA,), auth_timeout=0.1)
            assert stranger.rest() == [VIOLATION]
            assert open_client.rest() == [VIOLATION]
            assert silent.rest() == [VIOLATION]
        with broker.client(**password("anna")) as anna:
            assert anna.infos[0]["auth_required"] is True
            reload(broker, users=())
            assert anna.fence() == []
        with broker.client() as anybody:
            assert anybody.infos[0]["auth_required"] is False
        for client in (stranger, open_client):
            client.hang_up()


def test_who_came_without_credentials_is_the_no_auth_user() -> None:
    guest = UserConfig("guest", password="g", permissions=PermissionsConfig(publish=SubjectLists(("open.>",))))
    with ThreadedServer() as broker, broker.client() as client:
        client.send(publish("closed", b""))
        assert client.fence() == []
        reload(broker, users=(ANNA, guest), no_auth_user="guest")
        client.send(publish("closed", b""))
        assert client.fence() == [b"-ERR 'Permissions Violation for Publish to \"closed\"'"]
        reload(broker, no_auth_user="")
        assert client.rest() == [VIOLATION]


def test_what_is_not_allowed_any_more_ends_and_the_rest_goes_on() -> None:
    with ThreadedServer(users=(ANNA, BEN)) as broker:
        anna, ben = broker.client(**password("anna")), broker.client(**password("ben"))
        create(ben, name="box")
        create(ben, name="other")
        mail = "$mq9.AI.MAILBOX.MSG"
        anna.send(f"SUB a.x 1\r\nSUB a.* 2\r\nSUB b 3\r\nSUB {mail}.box 4\r\nSUB {mail}.other.* 5\r\n".encode())
        anna.send(b"SUB $mq9.AI.PUBLIC.LIST 6\r\nSUB a.q workers 7\r\n")
        assert anna.fence() == []
        narrow = PermissionsConfig(
            subscribe=SubjectLists(("a.>", f"{mail}.box", f"{mail}.other.*"), ("a.secret", f"{mail}.other.high")),
        )
        reload(broker, users=(replace(ANNA, permissions=narrow), BEN))
        assert sorted(anna.fence()) == [
            refused("$mq9.AI.MAILBOX.MSG.other.*", 5),
            refused("$mq9.AI.PUBLIC.LIST", 6),
            refused("b", 3),
        ]
        for subject in ("a.x", "a.secret", "b", f"{mail}.box", f"{mail}.other"):
            ben.send(publish(subject, subject.encode()))
        request(ben, f"{mail}.box", b"last")
        got = sorted(body_of(frame) for frame in anna.fence())
        assert got == [b"$mq9.AI.MAILBOX.MSG.box", b"a.x", b"a.x", b"last"]
        # And what is allowed again may be subscribed to again.
        reload(broker, users=(ANNA, BEN))
        anna.send(b"SUB b 3\r\n")
        assert anna.fence() == []
        for client in (anna, ben):
            client.hang_up()


def test_a_fetch_that_waits_is_not_answered_to_who_may_not_ask_any_more() -> None:
    with ThreadedServer(users=(ANNA, BEN)) as broker:
        anna, ben = broker.client(**password("anna")), broker.client(**password("ben"))
        create(ben, name="box")
        fetch = "$mq9.AI.MSG.FETCH.box"
        anna.send(b"SUB in 1\r\n" + publish(fetch, b'{"group_name":"g","config":{"max_wait_ms":60000}}', "in"))
        anna.fence()
        reload(broker, users=(replace(ANNA, permissions=PermissionsConfig(publish=SubjectLists(None, (fetch,)))), BEN))
        request(ben, "$mq9.AI.MAILBOX.MSG.box", b"not for anna")
        leased = request(ben, fetch, {"group_name": "g"})
        assert [item["attempt"] for item in leased["messages"]] == [1]
        assert anna.fence() == []
        for client in (anna, ben):
            client.hang_up()


def test_limits_change_and_nobody_is_dropped_for_it() -> None:
    with ThreadedServer(users=(ANNA, BEN)) as broker:
        first, second = broker.client(**password("anna")), broker.client(**password("anna"))
        boxes = [create(first) for _ in range(3)]
        reload(
            broker,
            users=(replace(ANNA, max_connections=1, max_mailboxes=2, max_subscriptions=1), BEN),
            default_ttl=77,
            max_subscriptions=2,
        )
        assert request(first, "$mq9.AI.MAILBOX.CREATE")["code"] == 429
        for box in boxes[:2]:
            request(second, f"$mq9.AI.MAILBOX.REMOVE.{box}")
        answer = request(second, "$mq9.AI.MAILBOX.CREATE")
        assert answer["expires_at"] - answer["created_at"] == 77
        with RawClient(broker.server.port) as third:
            third.opened()
            third.send(b'CONNECT {"user":"anna","pass":"anna"}\r\n')
            assert third.rest() == [b"-ERR 'maximum account active connections exceeded'"]
        with broker.client(**password("ben")) as ben:
            ben.send(b"SUB a 1\r\nSUB b 2\r\nSUB c 3\r\n")
            assert ben.fence() == [b"-ERR 'maximum subscriptions exceeded'"]
        reload(broker, users=(replace(ANNA, max_rate=1), BEN))
        with broker.client(**password("anna")):
            pass
        for client in (first, second):
            client.hang_up()


def test_counts_are_taken_along() -> None:
    with ThreadedServer(users=(replace(ANNA, max_connections=2, max_subscriptions=2),)) as broker:
        client = broker.client(**password("anna"))
        client.send(b"SUB a 1\r\nSUB b 2\r\n")
        client.fence()
        reload(broker, users=(replace(ANNA, max_connections=2, max_subscriptions=3),))
        client.send(b"SUB c 3\r\nSUB d 4\r\n")
        assert client.fence() == [b"-ERR 'maximum subscriptions exceeded'"]
        with broker.client(**password("anna")) as other, RawClient(broker.server.port) as third:
            other.fence()
            third.opened()
            third.send(b'CONNECT {"user":"anna","pass":"anna"}\r\n')
            assert third.rest() == [b"-ERR 'maximum account active connections exceeded'"]
        client.hang_up()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"users": (ANNA, ANNA)}, "two users called anna"),
        ({"users": (), "no_auth_user": "anna"}, "no such user"),
        ({"users": (), "tls_cert": "missing.pem"}, "cannot read tls_cert"),
    ],
)
def test_a_configuration_that_cannot_be_used_changes_nothing(
    tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    certificates = Certificates.make(tmp_path)
    with ThreadedServer(users=(ANNA,), **certificates.configuration()) as broker, RawClient(broker.server.port) as anna:
        anna.opened()
        anna.secure(certificates.context()).connect(**password("anna"))
        before = broker.server.config
        with pytest.raises(ConfigError, match=named):
            reload(broker, **changes)
        assert broker.server.config == before
        assert anna.fence() == []
        with RawClient(broker.server.port) as stranger:
            stranger.opened()
            stranger.secure(certificates.context()).send(b"CONNECT {}\r\n")
            assert stranger.rest() == [VIOLATION]


def test_strangers_are_not_let_in_by_a_reload() -> None:
    with ThreadedServer(host="0.0.0.0", users=(ANNA,)) as broker, broker.client(**password("anna")) as anna:
        with pytest.raises(ConfigError, match="give the broker users or a token"):
            reload(broker, users=())
        assert anna.fence() == []


def test_certificates_change_for_those_who_come_later(tmp_path: Path) -> None:
    first, second = Certificates.make(tmp_path / "first"), Certificates.make(tmp_path / "second")

    def shakes_hands(certificates: Certificates, port: int) -> bool:
        with RawClient(port) as client:
            client.opened()
            try:
                client.secure(certificates.context()).connect()
            except ssl.SSLCertVerificationError:
                return False
            return True

    with ThreadedServer(**first.configuration()) as broker, RawClient(broker.server.port) as client:
        client.opened()
        client.secure(first.context()).connect()
        assert shakes_hands(first, broker.server.port)
        assert not shakes_hands(second, broker.server.port)
        reload(broker, **second.configuration())
        assert not shakes_hands(first, broker.server.port)
        assert shakes_hands(second, broker.server.port)
        # The same files with another content are read again, too.
        for name in ("server.pem", "server.key"):
            (tmp_path / "second" / name).write_bytes((tmp_path / "first" / name).read_bytes())
        reload(broker)
        assert shakes_hands(first, broker.server.port)
        assert client.fence() == []


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_sighup_reads_the_file_again(tmp_path: Path) -> None:
    config = tmp_path / "mq9.toml"
    anna, ben = (f'[[users]]\nname = "{name}"\npassword = "{name}"\n' for name in ("anna", "ben"))
    config.write_text(f'http_token = "one"\n{anna}')
    with BrokerProcess(tmp_path / "data", http=True, arguments=["--config", str(config)]) as process:
        port, http_port = int(process.url.rpartition(":")[2]), process.http_port
        assert http_port is not None
        with RawClient(port).connect(**password("anna")) as client:
            assert get(http_port, "/metrics", "one")[0] == 200
            config.write_text(f'http_token = "two"\nmax_payload = 100\n{anna}{ben}')
            os.kill(process.pid, signal.SIGHUP)
            until(lambda: "was read again: http_token, users" in process.log())
            assert "max_payload changed too, which takes effect at the next start only" in process.log()
            assert get(http_port, "/metrics", "one")[0] == 401
            assert get(http_port, "/metrics", "two")[0] == 200
            with RawClient(port).connect(**password("ben")):
                pass
            config.write_text("users = [")
            os.kill(process.pid, signal.SIGHUP)
            until(lambda: "the configuration stays as it was: the configuration file" in process.log())
            config.unlink()
            os.kill(process.pid, signal.SIGHUP)
            until(lambda: "cannot read the configuration file" in process.log())
            assert client.fence() == []
        assert process.running
        assert process.stop() == 0


def test_a_reload_comes_while_a_password_is_looked_at() -> None:
    slow = UserConfig("slow", password=hashed("slow", 12))
    with ThreadedServer(users=(slow,), auth_timeout=30) as broker, RawClient(broker.server.port) as client:
        client.opened()
        client.send(b'CONNECT {"user":"slow","pass":"slow","verbose":false}\r\nPING\r\n')
        broker.call(lambda: None)
        reload(broker, users=(BEN,))
        assert client.rest() == [VIOLATION]
