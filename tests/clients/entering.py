"""The ways to come in that a server may ask for: how nats-server and mq9 are told, and who then comes in and who does not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import trustme
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

if TYPE_CHECKING:
    from pathlib import Path

TOKEN: Final = "an-open-sesame"
PASSWORD: Final = "a-secret-word"
# bcrypt of PASSWORD.
HASH: Final = "$2b$10$t63Eh9kMBy0.4B.WYbeeQ.jZizjA.GMmMViqqk9GMqCB3H0VvkYHO"
# A key of nobody's, for tests.
NKEY: Final = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"
NKEY_SEED: Final = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"


class Papers:
    """Certificates and keys, as files below `folder`: `files` has their paths by name."""

    def __init__(self, folder: Path) -> None:
        authority, other = trustme.CA(key_type=trustme.KeyType.ECDSA), trustme.CA()
        server = authority.issue_cert("localhost", "127.0.0.1", key_type=trustme.KeyType.ECDSA)
        client = authority.issue_cert("client@mq9.test", key_type=trustme.KeyType.ECDSA)
        contents = {
            "ca": authority.cert_pem.bytes(),
            "other_ca": other.cert_pem.bytes(),
            "server_cert": server.cert_chain_pems[0].bytes(),
            "server_key": _pkcs8(server.private_key_pem.bytes()),
            "client_cert": client.cert_chain_pems[0].bytes(),
            "client_key": _pkcs8(client.private_key_pem.bytes()),
            "nkey_seed": NKEY_SEED.encode(),
        }
        self.files: dict[str, str] = {}
        for name, data in contents.items():
            path = folder / f"{name}.pem"
            path.write_bytes(data)
            self.files[name] = str(path)

    def fill_in(self, text: str) -> str:
        """`text` with paths in the place of their names."""
        for name, path in self.files.items():
            text = text.replace(f"<{name}>", path)
        return text


def _pkcs8(key: bytes) -> bytes:
    """The form of a private key that every language reads."""
    return load_pem_private_key(key, None).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@dataclass(frozen=True)
class Visit:
    """A program that plays `scenario`, with what it shows in its environment."""

    scenario: str
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Mode:
    """A way to come in.

    Attributes:
        name: of the mode.
        nats_server, mq9: configuration files of the two, with names of files in angle brackets.
        visits: who comes, and how that ends.
        is_secured: whether it is TLS.
    """

    name: str
    nats_server: str
    mq9: str
    visits: tuple[Visit, ...]
    is_secured: bool = False


_TLS: Final = 'cert_file: "<server_cert>", key_file: "<server_key>"'
_MQ9_TLS: Final = 'tls_cert = "<server_cert>"\ntls_key = "<server_key>"\n'
_KNOWN_CA: Final = {"NATS_CA": "<ca>"}

MODES: Final = (
    Mode(
        "token",
        f'authorization {{ token: "{TOKEN}" }}',
        f'token = "{TOKEN}"',
        (
            Visit("round_trip", {"NATS_TOKEN": TOKEN}),
            Visit("refused", {"NATS_TOKEN": "wrong"}),
            Visit("refused"),
        ),
    ),
    Mode(
        "password",
        f'authorization {{ user: alice, password: "{PASSWORD}" }}',
        f'user = "alice"\npassword = "{PASSWORD}"',
        (
            Visit("round_trip", {"NATS_USER": "alice", "NATS_PASSWORD": PASSWORD}),
            Visit("refused", {"NATS_USER": "alice", "NATS_PASSWORD": "wrong"}),
            Visit("refused", {"NATS_USER": "bob", "NATS_PASSWORD": PASSWORD}),
        ),
    ),
    Mode(
        "password_bcrypt",
        f'authorization {{ users: [ {{ user: alice, password: "{HASH}" }} ] }}',
        f'[[users]]\nname = "alice"\npassword = "{HASH}"',
        (
            Visit("round_trip", {"NATS_USER": "alice", "NATS_PASSWORD": PASSWORD}),
            Visit("refused", {"NATS_USER": "alice", "NATS_PASSWORD": HASH}),
        ),
    ),
    Mode(
        "nkey",
        f"authorization {{ users: [ {{ nkey: {NKEY} }} ] }}",
        f'[[users]]\nnkey = "{NKEY}"',
        (
            Visit("round_trip", {"NATS_NKEY_SEED_FILE": "<nkey_seed>", "NATS_NKEY": NKEY}),
            Visit("refused"),
        ),
    ),
    Mode(
        "permissions",
        f"""authorization {{ users: [ {{
            user: alice, password: "{PASSWORD}"
            permissions: {{ publish: ["open.>"], subscribe: ["open.>", "_INBOX.>"] }}
        }} ] }}""",
        f"""[[users]]
            name = "alice"
            password = "{PASSWORD}"
            [users.permissions]
            publish = ["open.>"]
            subscribe = ["open.>", "_INBOX.>"]""",
        (Visit("permissions", {"NATS_USER": "alice", "NATS_PASSWORD": PASSWORD}),),
    ),
    Mode(
        "tls",
        f"tls {{ {_TLS} }}",
        _MQ9_TLS,
        (
            Visit("round_trip", _KNOWN_CA),
            Visit("refused", {"NATS_CA": "<other_ca>"}),
            Visit("refused"),
        ),
        is_secured=True,
    ),
    Mode(
        "tls_client_certificate",
        f'tls {{ {_TLS}, ca_file: "<ca>", verify: true }}',
        _MQ9_TLS + 'tls_ca = "<ca>"\ntls_verify = true\n',
        (
            Visit("round_trip", _KNOWN_CA | {"NATS_CERT": "<client_cert>", "NATS_KEY": "<client_key>"}),
            Visit("refused", _KNOWN_CA),
        ),
        is_secured=True,
    ),
    Mode(
        "tls_handshake_first",
        f"tls {{ {_TLS}, handshake_first: true }}",
        _MQ9_TLS + "tls_handshake_first = true\n",
        (Visit("round_trip", _KNOWN_CA | {"NATS_TLS_FIRST": "1"}),),
        is_secured=True,
    ),
)
