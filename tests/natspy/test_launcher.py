"""The launcher says to mq9 what it was told in nats-server's words, and refuses what it does not know."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

import pytest

from tests.natspy.fetching import CONFIGURATIONS, NKEY
from tests.natspy.launcher import UnknownError, configured, parse, toml

if TYPE_CHECKING:
    from pathlib import Path


def started(*arguments: str) -> dict[str, Any]:
    """The configuration that mq9 is started with."""
    return tomllib.loads(toml(*configured(list(arguments))))


def test_the_options() -> None:
    assert started("-a", "127.0.0.1", "-p", "4223", "-m=8223", "--user", "foo", "--pass", "b ar") == {
        "host": "127.0.0.1",
        "port": 4223,
        "data_dir": "data",
        "http_port": 8223,
        "user": "foo",
        "password": "b ar",
    }
    assert started("--addr=::1", "-p", "-1", "--auth", "token", "-n", "me", "-DV") == {
        "host": "::1",
        "port": 0,
        "data_dir": "data",
        "server_name": "me",
        "token": "token",
    }
    files = {"tlscert": "c", "tlskey": "k", "tlscacert": "a"}
    told = started("--tls", "--tlsverify", *(f"--{name}={file}" for name, file in files.items()))
    assert told == {
        "host": "0.0.0.0",
        "port": 4222,
        "data_dir": "data",
        "tls_cert": "c",
        "tls_key": "k",
        "tls_ca": "a",
        "tls_verify": True,
    }


@pytest.mark.parametrize("option", ["-js", "--routes=a", "--cluster_name=a", "--signal=ldm"])
def test_an_option_that_is_not_known_is_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        started(option)
    assert option in capsys.readouterr().err


def test_the_configuration_language() -> None:
    text = """
        # a comment
        port: 4222 // another
        server_name = "a name"
        one { two { three: [1, 'two', { four: five }] }, six: yes }
        list [
          a
          b
        ]
    """
    assert parse(text) == {
        "port": "4222",
        "server_name": "a name",
        "one": {"two": {"three": ["1", "two", {"four": "five"}]}, "six": "yes"},
        "list": ["a", "b"],
    }


def test_the_configurations_of_the_suite(tmp_path: Path) -> None:
    told = {}
    for name, text in CONFIGURATIONS.items():
        file = tmp_path / "server.conf"
        file.write_text(text)
        told[name] = started("-p", "4000", "--config", str(file))
    common = {"host": "0.0.0.0", "port": 4000, "data_dir": "data"}
    allowed = {"allow": ["help", "_INBOX.>"], "deny": ["foo"]}
    permissions = {"publish": allowed, "subscribe": allowed}
    assert told["nkeys/nkeys_server.conf"] == common | {"users": [{"nkey": NKEY, "permissions": permissions}]}
    assert told["conf/no_auth_user.conf"] == common | {
        "no_auth_user": "foo",
        "users": [
            {"name": "foo", "password": "foo"},
            {"name": "bar", "password": "bar", "permissions": {"subscribe": {"deny": ["foo"]}}},
        ],
    }
    assert told["conf/tls_handshake_first.conf"] == common | {
        "tls_cert": "<folder>/certs/server-cert.pem",
        "tls_key": "<folder>/certs/server-key.pem",
        "tls_ca": "<folder>/certs/ca.pem",
        "tls_verify": True,
        "tls_handshake_first": True,
    }


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("jetstream { store_dir: a }", "jetstream"),
        ("tls { pinned_certs: [a] }", "tls.pinned_certs"),
        ("authorization { timeout: 1 }", "authorization.timeout"),
        ("authorization { users: [ { user: a, account: b } ] }", "users.account"),
    ],
)
def test_a_key_that_is_not_known_is_refused(text: str, named: str, tmp_path: Path) -> None:
    file = tmp_path / "server.conf"
    file.write_text(text)
    with pytest.raises(UnknownError, match=named):
        started("-c", str(file))
