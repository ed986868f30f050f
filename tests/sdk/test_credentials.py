"""Who a client is and whom it talks to: every way to be let in, what is said when it is not, and what is never sent in the clear."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from mq9 import AsyncMailbox, BadRequest, Conflict, ConnectionFailed, Forbidden, Mailbox, MailboxError
from mq9.server.config import Config
from mq9.server.embedded import Broker
from mq9.server.userconfig import PermissionsConfig, SubjectLists, UserConfig
from tests.support.broker import BrokerProcess
from tests.support.certificates import Certificates
from tests.support.secrets import CREDS, NKEY, SEED, hashed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

INBOX = "_INBOX.>"


def only(*words: str, **lists: Any) -> PermissionsConfig:
    return PermissionsConfig(mailboxes=words, **lists)


USERS = (
    UserConfig("anna", password="pass word:@/"),
    UserConfig("ben", password=hashed("ben")),
    UserConfig("tom", token="to/ken"),
    UserConfig("nina", nkey=NKEY),
    UserConfig("sender", password="s", permissions=only("send")),
    UserConfig("receiver", password="r", permissions=only("receive", publish=SubjectLists(()))),
    UserConfig("boxed", password="b", permissions=only("all", subscribe=SubjectLists(("_INBOX_boxed.>", "$mq9.>")))),
)


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    """A broker with users, on whose loop a bcrypt password has been looked at before."""
    with Broker(config=Config(users=USERS)) as running:
        with Mailbox(running.url, user="ben", password="ben") as mailbox:
            mailbox.list()
        yield running


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """The broker's certificate and a client's."""
    made = Certificates.make(tmp_path_factory.mktemp("certificates"))
    made.issue("client", "client.example")
    return made


@pytest.mark.parametrize(
    ("before_host", "said"),
    [
        ("", {"user": "anna", "password": "pass word:@/"}),
        ("anna:pass%20word%3A%40%2F@", {}),
        ("ben:wrong@", {"user": "anna", "password": "pass word:@/"}),
        ("", {"user": "ben", "password": "ben"}),
        ("", {"token": "to/ken"}),
        ("to%2Fken@", {}),
        ("", {"nkey": SEED}),
    ],
)
def test_every_way_to_be_let_in(broker: Broker, before_host: str, said: dict[str, Any]) -> None:
    url = broker.url.replace("//", f"//{before_host}")
    with Mailbox(url, **said) as mailbox:
        box = mailbox.create(ttl=60)
        assert mailbox.send(box, "hello") == mailbox.fetch(box)[0].msg_id

    async def again() -> str:
        async with AsyncMailbox(url, **said) as mailbox:
            return str((await mailbox.fetch(box))[0].payload)

    assert asyncio.run(again()) == "hello"


@pytest.mark.parametrize("text", [SEED, f"{SEED}\n", CREDS], ids=["seed", "line", "creds"])
def test_a_file_with_a_seed(broker: Broker, tmp_path: Path, text: str) -> None:
    file = tmp_path / "credentials"
    file.write_text(text)
    with Mailbox(broker.url, credentials=file) as mailbox:
        assert mailbox.create(owner_only=True, ttl=60).owner_only


@pytest.mark.parametrize("said", [{}, {"user": "anna", "password": "secret"}, {"token": "secret"}])
def test_who_is_not_let_in_is_told_so_at_once(broker: Broker, said: dict[str, Any]) -> None:
    with Mailbox(broker.url, connect_timeout=20, timeout=20, **said) as mailbox, pytest.raises(Forbidden) as caught:
        mailbox.create()
    assert str(caught.value).endswith("it does not accept these credentials")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ({"user": "anna"}, "user and password go together"),
        ({"password": "secret"}, "user and password go together"),
        ({"user": "anna", "password": "secret", "token": "secret"}, "user and token cannot be given together"),
        ({"token": "secret", "nkey": SEED}, "token and nkey cannot be given together"),
        ({"nkey": SEED, "credentials": "x"}, "nkey and credentials cannot be given together"),
        ({"nkey": "secret"}, "nkey must be the seed of a user's nkey"),
        ({"nkey": NKEY}, "nkey must be the seed of a user's nkey"),
        ({"credentials": "missing.creds"}, r"cannot read credentials missing\.creds: No such file"),
        ({"inbox_prefix": "a b"}, "inbox_prefix must be tokens"),
        ({"inbox_prefix": "a.>"}, "inbox_prefix must be tokens"),
        ({"tls_ca": "missing.pem"}, r"cannot read tls_ca missing\.pem"),
        ({"tls_cert": "missing.pem"}, r"cannot read tls_cert missing\.pem"),
    ],
)
def test_what_cannot_be_right_is_refused_at_once(said: dict[str, Any], named: str) -> None:
    with pytest.raises(BadRequest, match=named) as caught:
        Mailbox("nats://localhost:4222", **said)
    assert "secret" not in str(caught.value)
    assert SEED not in str(caught.value)


def test_files_that_hold_something_else_are_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("secret")
    for said in ({"credentials": file}, {"tls_ca": file}, {"tls_cert": file}):
        with pytest.raises(BadRequest, match=str(file)) as caught:
            Mailbox("nats://localhost:4222", **said)  # type: ignore[arg-type]
        assert "secret" not in str(caught.value)


def test_no_secret_is_shown() -> None:
    with pytest.raises(BadRequest) as caught:
        Mailbox("http://anna:secret@localhost:4222")
    assert "secret" not in str(caught.value)
    with pytest.raises(BadRequest) as caught:
        Mailbox("nats://anna:sec ret@localhost:4222")
    assert "ret" not in str(caught.value).replace("secret", "")
    mailbox = Mailbox("nats://anna:secret@localhost:1", connect_timeout=0.1, timeout=0.1)
    assert "secret" not in repr(mailbox)
    assert "secret" not in repr(mailbox._arguments)
    with mailbox, pytest.raises(ConnectionFailed) as failed:
        mailbox.create()
    assert "secret" not in str(failed.value)


def test_what_a_user_may_not_is_forbidden(broker: Broker) -> None:
    with Mailbox(broker.url, user="anna", password="pass word:@/") as anna:
        box = anna.create(ttl=60)
        with Mailbox(broker.url, user="sender", password="s") as sender:
            msg_id = sender.send(box, "hello")
            assert sender.status(box, msg_id).state == "stored"
            for forbidden in (
                lambda: sender.create(),
                lambda: sender.fetch(box),
                lambda: sender.delete(box, msg_id),
                lambda: sender.remove(box),
                lambda: sender.list(),
                lambda: sender.receive(box, print),
                lambda: sender.list(print),
            ):
                with pytest.raises(Forbidden):
                    forbidden()


def test_a_user_who_may_only_receive_does(broker: Broker) -> None:
    """Neither a probe for a broker nor the fence behind a subscription may need more than that."""
    with (
        Mailbox(broker.url, user="anna", password="pass word:@/") as anna,
        Mailbox(broker.url, user="receiver", password="r") as receiver,
    ):
        box = anna.create(ttl=60)
        anna.send(box, "one")
        with receiver.receive(box) as messages:
            assert next(messages).payload == "one"
            anna.send(box, "two")
            assert next(messages).payload == "two"
        with receiver.receive(box, resume="workers") as messages:
            assert next(messages).payload == "one"
        with pytest.raises(Forbidden):
            receiver.send(box, "three")


def test_answers_come_in_where_the_user_may_subscribe(broker: Broker) -> None:
    with Mailbox(broker.url, user="boxed", password="b", inbox_prefix="_INBOX_boxed") as boxed:
        box = boxed.create(ttl=60)
        boxed.send(box, "hello")
        with boxed.receive(box) as messages:
            assert next(messages).payload == "hello"
    with Mailbox(broker.url, user="boxed", password="b", timeout=20) as deaf:
        for what in (
            deaf.create,
            lambda: deaf.receive(box, print),
            lambda: deaf.receive(box, print, resume="w").wait(10),
        ):
            with pytest.raises(Forbidden, match=r"does not let this client subscribe to _INBOX\.>"):
                what()


def test_owner_only(broker: Broker) -> None:
    with (
        Mailbox(broker.url, user="anna", password="pass word:@/") as anna,
        Mailbox(broker.url, user="ben", password="ben") as ben,
    ):
        diary = anna.create(name="anna.diary", owner_only=True, ttl=60)
        assert diary.owner_only
        assert not anna.create(name="anna.open", ttl=60).owner_only
        ben.send(diary, "hello anna")
        for forbidden in (
            lambda: ben.fetch(diary),
            lambda: ben.receive(diary, print),
            lambda: ben.remove(diary),
            lambda: ben.create(name="anna.diary"),
            lambda: ben.create(name="anna.diary", owner_only=True),
        ):
            with pytest.raises(Forbidden, match="another user's"):
                forbidden()
        with pytest.raises(Conflict, match="not owner_only"):
            anna.create(name="anna.open", owner_only=True)
        assert anna.fetch(diary)[0].payload == "hello anna"


def test_tls(certificates: Certificates) -> None:
    with Broker(config=Config(token="t", **certificates.configuration())) as broker:
        localhost = broker.url.replace("127.0.0.1", "localhost")
        for url in (localhost, localhost.replace("tls:", "nats:"), broker.url):
            with Mailbox(url, token="t", tls_ca=certificates.ca) as mailbox:
                box = mailbox.create(ttl=60)
                mailbox.send(box, "x" * 100_000)
                assert mailbox.fetch(box)[0].size == 100_000
        # The system does not trust this authority, and whoever says nothing of TLS does not trust anybody else.
        for url in (localhost, localhost.replace("tls:", "nats:")):
            with (
                Mailbox(url, token="t") as mailbox,
                pytest.raises(ConnectionFailed, match="certificate is not to be trusted"),
            ):
                mailbox.create()
        with (
            Mailbox(localhost, token="t", tls_ca=certificates.ca, tls_hostname="other.example") as mailbox,
            pytest.raises(ConnectionFailed, match="not to be trusted: Hostname mismatch"),
        ):
            mailbox.create()


def test_tls_with_a_certificate_of_the_clients(certificates: Certificates) -> None:
    config = Config(
        **certificates.configuration(of_clients=True),
        tls_handshake_first=True,
        tls_verify_and_map=True,
        users=(UserConfig("client.example"),),
    )
    cert, key = certificates.folder / "client.pem", certificates.folder / "client.key"
    both = certificates.folder / "both.pem"
    both.write_bytes(cert.read_bytes() + key.read_bytes())
    with Broker(config=config) as broker:
        ways: list[dict[str, Any]] = [{"tls_cert": cert, "tls_key": key}, {"tls_cert": both}]
        for files in ways:
            with Mailbox(broker.url, tls_ca=certificates.ca, tls_first=True, **files) as mailbox:
                assert mailbox.create(owner_only=True, ttl=60).owner_only
        with Mailbox(broker.url, tls_ca=certificates.ca, tls_first=True) as mailbox, pytest.raises(MailboxError):
            mailbox.create()


class PlainServer:
    """Something that greets like a NATS server without TLS, and writes down what it is told."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.heard = b""
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        info = {
            "server_id": "x",
            "version": "2.12.0",
            "max_payload": 1000,
            "headers": True,
            "auth_required": True,
            "nonce": "n",
        }
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                connection.sendall(b"INFO " + json.dumps(info).encode() + b"\r\n")
                while data := connection.recv(65_536):
                    self.heard += data

    def close(self) -> None:
        """Stop listening."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@pytest.mark.parametrize("by_url", [True, False])
def test_nothing_is_said_to_who_offers_no_tls_when_it_was_asked_for(certificates: Certificates, by_url: bool) -> None:
    server = PlainServer()
    options: dict[str, Any] = {} if by_url else {"tls_ca": certificates.ca}
    url = f"{'tls' if by_url else 'nats'}://127.0.0.1:{server.port}"
    with (
        Mailbox(url, user="anna", password="secret", **options) as mailbox,
        pytest.raises(ConnectionFailed, match="it does not offer TLS"),
    ):
        mailbox.create()
    server.close()
    assert server.heard == b""


def test_a_client_that_is_cut_off_comes_back_when_it_may(tmp_path: Path) -> None:
    config = tmp_path / "mq9.toml"
    config.write_text('user = "anna"\npassword = "one"\n')
    with (
        BrokerProcess(tmp_path / "data", arguments=["--config", str(config)]) as process,
        Mailbox(process.url, user="anna", password="one", timeout=1) as mailbox,
    ):
        box = mailbox.create(ttl=0)
        process.stop()
        config.write_text('user = "anna"\npassword = "two"\n')
        process.start()
        with pytest.raises(ConnectionFailed, match="it does not accept these credentials"):
            mailbox.send(box, "x")
        process.stop()
        config.write_text('user = "anna"\npassword = "one"\n')
        process.start()
        assert mailbox.send(box, "x", timeout=10)
