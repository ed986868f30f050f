"""Each way to be let in, with nats-py and the `nats` command as people use them; they must see no difference to nats-server."""

from __future__ import annotations

import asyncio
import re
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import nats
import pytest
from nats.aio.client import Client

from tests.clients.command import Tool
from tests.clients.conftest import SERVERS
from tests.support.broker import BrokerProcess
from tests.support.certificates import Certificates
from tests.support.peers import DEBIAN_NATS_SERVER, NatsServer, free_port
from tests.support.secrets import NKEY, SEED, hashed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True)
class Way:
    """A way to be let in: what each server is configured by, and what a client says, rightly and wrongly.

    In the texts, CERT, KEY and CA stand for the server's files, MINE and MY-KEY for a client's, SEED for a file with a seed.
    """

    toml: str
    conf: str
    right: dict[str, Any]
    wrong: dict[str, Any] | None
    flags: list[str]
    wrong_flags: list[str] | None = None
    tls: bool = False
    url: dict[str, str] = field(default_factory=dict)


TOML_TLS = 'tls_cert = "CERT"\ntls_key = "KEY"\n'
CONF_TLS = 'cert_file: "CERT", key_file: "KEY"'
PASSWORD, TOKEN = hashed("pass word"), hashed("to ken")
WAYS = {
    "password": Way(
        '[[users]]\nname = "anna"\npassword = "pass word"\n',
        'authorization { users = [{ user: "anna", password: "pass word" }] }',
        {"user": "anna", "password": "pass word"},
        {"user": "anna", "password": "password"},
        ["--user", "anna", "--password", "pass word"],
        ["--user", "anna", "--password", "password"],
    ),
    "bcrypt": Way(
        f'[[users]]\nname = "anna"\npassword = "{PASSWORD}"\n',
        f'authorization {{ users = [{{ user: "anna", password: "{PASSWORD}" }}] }}',
        {"user": "anna", "password": "pass word"},
        {"user": "anna", "password": PASSWORD},
        ["--user", "anna", "--password", "pass word"],
        ["--user", "anna", "--password", PASSWORD],
    ),
    "single user": Way(
        'user = "anna"\npassword = "pass"\n',
        'authorization { user: "anna", password: "pass" }',
        {"user": "anna", "password": "pass"},
        {"user": "ben", "password": "pass"},
        ["--user", "anna", "--password", "pass"],
        ["--user", "ben", "--password", "pass"],
    ),
    "url": Way(
        'user = "anna"\npassword = "pass"\n',
        'authorization { user: "anna", password: "pass" }',
        {},
        None,
        [],
        url={"right": "anna:pass@", "wrong": "anna:no@"},
    ),
    "token": Way(
        'token = "token"\n',
        'authorization { token: "token" }',
        {"token": "token"},
        {"token": "tokens"},
        ["--token", "token"],
        ["--token", "tokens"],
    ),
    "bcrypt token": Way(
        f'token = "{TOKEN}"\n',
        f'authorization {{ token: "{TOKEN}" }}',
        {"token": "to ken"},
        {"token": TOKEN},
        ["--token", "to ken"],
        ["--token", TOKEN],
    ),
    "token in the url": Way(
        'token = "token"\n',
        'authorization { token: "token" }',
        {},
        None,
        [],
        url={"right": "token@", "wrong": "other@"},
    ),
    "nkey": Way(
        f'[[users]]\nnkey = "{NKEY}"\n[[users]]\nname = "anna"\npassword = "pass"\n',
        f'authorization {{ users = [{{ nkey: "{NKEY}" }}, {{ user: "anna", password: "pass" }}] }}',
        {"nkeys_seed_str": SEED},
        {"nkeys_seed_str": "SUAEL6G37KYWYSB74NFNHLZXFDJHDY6DNTNJMBPKRGL2MYMK5DOMGDU6PY"},
        ["--nkey", "SEED"],
        ["--user", "anna", "--password", "word"],
    ),
    "no_auth_user": Way(
        'no_auth_user = "guest"\n[[users]]\nname = "guest"\npassword = "x"\n',
        'no_auth_user: "guest"\nauthorization { users = [{ user: "guest", password: "x" }] }',
        {},
        {"user": "guest", "password": "y"},
        [],
        ["--user", "guest", "--password", "y"],
    ),
    "tls": Way(
        TOML_TLS + 'user = "anna"\npassword = "pass"\n',
        f'tls {{ {CONF_TLS} }}\nauthorization {{ user: "anna", password: "pass" }}',
        {"user": "anna", "password": "pass"},
        {"user": "anna", "password": "no"},
        ["--tlsca", "CA", "--user", "anna", "--password", "pass"],
        ["--tlsca", "CA", "--user", "anna", "--password", "no"],
        tls=True,
    ),
    "tls handshake first": Way(
        TOML_TLS + "tls_handshake_first = true\n",
        f"tls {{ {CONF_TLS}, handshake_first: true }}",
        {"tls_handshake_first": True},
        None,
        ["--tlsca", "CA", "--tlsfirst"],
        tls=True,
    ),
    "tls verify": Way(
        TOML_TLS + 'tls_ca = "CA"\ntls_verify = true\n',
        f'tls {{ {CONF_TLS}, ca_file: "CA", verify: true }}',
        {"certificate": True},
        {},
        ["--tlsca", "CA", "--tlscert", "MINE", "--tlskey", "MY-KEY"],
        ["--tlsca", "CA"],
        tls=True,
    ),
    "tls verify and map": Way(
        TOML_TLS + 'tls_ca = "CA"\ntls_verify_and_map = true\n[[users]]\nname = "anna@agents.example"\n',
        f'tls {{ {CONF_TLS}, ca_file: "CA", verify_and_map: true }}\n'
        'authorization { users = [{ user: "anna@agents.example" }] }',
        {"certificate": True},
        {},
        ["--tlsca", "CA", "--tlscert", "MINE", "--tlskey", "MY-KEY"],
        ["--tlsca", "CA"],
        tls=True,
    ),
}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """The server's and a client's."""
    made = Certificates.make(tmp_path_factory.mktemp("certificates"))
    made.issue("anna", "anna@agents.example")
    (made.folder / "seed").write_text(SEED)
    return made


@dataclass(frozen=True)
class Setting:
    """A running server and how one is let in there."""

    server: str
    way: Way
    host: str
    certificates: Certificates

    @property
    def url(self) -> str:
        """Where clients connect."""
        return self.url_of("right")

    def url_of(self, kind: str) -> str:
        """The URL with what is `right` or `wrong` to say in it."""
        return f"{'tls' if self.way.tls else 'nats'}://{self.way.url.get(kind, '')}{self.host}"

    def filled(self, text: str) -> str:
        """The text with the files in the place of what stands for them."""
        return filled(text, self.certificates)

    def options(self, said: dict[str, Any]) -> dict[str, Any]:
        """The same for nats-py, with what TLS needs."""
        said = dict(said)
        mine = (self.certificates.folder / "anna.pem", self.certificates.folder / "anna.key")
        shown = mine if said.pop("certificate", False) else None
        return said | ({"tls": self.certificates.context(shown)} if self.way.tls else {})


def filled(text: str, certificates: Certificates) -> str:
    files = {
        "CERT": certificates.cert,
        "MY-KEY": certificates.folder / "anna.key",
        "KEY": certificates.key,
        "CA": certificates.ca,
        "MINE": certificates.folder / "anna.pem",
        "SEED": certificates.folder / "seed",
    }
    return re.sub(r"\b(CERT|MY-KEY|KEY|CA|MINE|SEED)\b", lambda found: str(files[found[1]]), text)


@contextmanager
def running(name: str, way: Way, certificates: Certificates, folder: Path) -> Iterator[str]:
    """The host and port of the server `name`, configured for `way`."""
    if name == "mq9":
        config = folder / "mq9.toml"
        config.write_text(filled(way.toml, certificates))
        with BrokerProcess(None, free_port(), arguments=["--config", str(config)]) as broker:
            yield broker.url.rpartition("/")[2].replace("127.0.0.1", "localhost")
    else:
        config = folder / "server.conf"
        config.write_text(filled(way.conf, certificates))
        with NatsServer(name, "-c", str(config)) as peer:
            yield f"localhost:{peer.port}"


# What Debian's nats-server cannot do yet.
NEWER = {"tls handshake first"}
EVERYWHERE = [(name, way) for way in WAYS for name in SERVERS if name != DEBIAN_NATS_SERVER or way not in NEWER]


@pytest.fixture(params=EVERYWHERE, ids=lambda param: f"{param[1]} at {param[0]}")
def setting(request: pytest.FixtureRequest, certificates: Certificates, tmp_path: Path) -> Iterator[Setting]:
    """Each way in turn, at each server."""
    name, way = request.param
    with running(name, WAYS[way], certificates, tmp_path) as host:
        yield Setting(name, WAYS[way], host, certificates)


async def talk(setting: Setting) -> bytes:
    """Connect as one should, and hear oneself."""
    client = await nats.connect(setting.url, allow_reconnect=False, **setting.options(setting.way.right))
    try:
        subscription = await client.subscribe("a.*")
        await client.publish("a.b", b"heard")
        return (await subscription.next_msg(10)).data
    finally:
        await client.close()


async def fail(setting: Setting) -> str:
    """Connect as one should not; what is said of it."""
    said = setting.options(setting.way.wrong or {})
    complaints: list[Exception] = []

    async def complain(error: Exception) -> None:
        complaints.append(error)

    client = Client()
    try:
        await client.connect(setting.url_of("wrong"), allow_reconnect=False, error_cb=complain, **said)
        # A certificate that is missing is told only after the handshake, with TLS 1.3.
        await client.flush(5)
    except Exception as error:
        return f"{error!r} {complaints}"
    finally:
        await client.close()
    return ""


def test_nats_py(setting: Setting) -> None:
    assert asyncio.run(talk(setting)) == b"heard"
    if setting.way.wrong is not None or setting.way.url:
        said = asyncio.run(fail(setting))
        assert said, "it was let in"
        assert setting.way.tls or re.search("(?i)authorization violation", said), said


def test_the_nats_command(setting: Setting, tmp_path: Path) -> None:
    tool = Tool(setting, tmp_path)
    assert "OK Connection OK" in tool("server", "check", "connection", *map(setting.filled, setting.way.flags))
    if setting.way.wrong_flags is not None:
        words = "authorization|violation|certificate|tls|EOF"
        if setting.server != "mq9":
            # nats-server hangs up while the client still writes, which may then not hear why.
            words += "|reset|broken pipe"
        with pytest.raises((AssertionError, subprocess.TimeoutExpired), match=f"(?i){words}"):
            tool("server", "check", "connection", *map(setting.filled, setting.way.wrong_flags))


@pytest.mark.parametrize("server", SERVERS)
def test_permissions_as_nats_py_sees_them(server: str, certificates: Certificates, tmp_path: Path) -> None:
    way = Way(
        '[[users]]\nname = "anna"\npassword = "a"\n[users.permissions]\npublish = "open.>"\n'
        'subscribe = ["open.>", "_INBOX.>"]\n',
        'authorization { users = [{ user: "anna", password: "a", permissions: '
        '{ publish: "open.>", subscribe: ["open.>", "_INBOX.>"] } }] }',
        {"user": "anna", "password": "a"},
        None,
        [],
    )

    async def complaints(url: str) -> list[str]:
        said: list[str] = []
        told = asyncio.Event()

        async def complain(error: Exception) -> None:
            said.append(str(error))
            told.set()

        client = await nats.connect(url, error_cb=complain, **way.right)
        for action in (client.publish("closed", b"x"), client.subscribe("closed")):
            told.clear()
            await action
            await asyncio.wait_for(told.wait(), 10)
        heard = await client.subscribe("open.*")
        await client.publish("open.a", b"still there")
        assert (await heard.next_msg(10)).data == b"still there"
        await client.close()
        return said

    with running(server, way, certificates, tmp_path) as host:
        assert asyncio.run(complaints(f"nats://{host}")) == [
            'nats: permissions violation for publish to "closed"',
            'nats: permissions violation for subscription to "closed"',
        ]
