"""Commands at a broker that knows its users: what says who one is, and that no secret has to be on a command line."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click
import pytest

from mq9.cli.exits import Exit
from mq9.server.config import Config
from mq9.server.embedded import Broker
from mq9.server.userconfig import UserConfig
from tests.cli.support import Command, objects
from tests.house.test_documents import COMMANDS
from tests.support.certificates import Certificates
from tests.support.secrets import CREDS, NKEY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

USERS = (
    UserConfig("anna", password="anna's secret"),
    UserConfig("tom", token="tom's secret"),
    UserConfig("nina", nkey=NKEY),
)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A broker with users."""
    with Broker(config=Config(users=USERS)) as broker:
        yield broker.url


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with the secrets in files."""
    for name, text in (("password", "anna's secret\n"), ("token", "tom's secret"), ("creds", CREDS), ("wrong", "no\n")):
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("options", "environment"),
    [
        (["--user", "anna", "--password-file", "FILES/password"], {}),
        (["--user", "anna"], {"MQ9_PASSWORD": "anna's secret"}),
        (["--user", "anna"], {"MQ9_PASSWORD_FILE": "FILES/password"}),
        ([], {"MQ9_USER": "anna", "MQ9_PASSWORD": "anna's secret", "MQ9_TOKEN": "somebody's"}),
        (["--token-file", "FILES/token"], {}),
        ([], {"MQ9_TOKEN": "tom's secret"}),
        ([], {"MQ9_TOKEN_FILE": "FILES/token"}),
        (["--credentials", "FILES/creds"], {"MQ9_TOKEN": "somebody's"}),
        ([], {"MQ9_CREDENTIALS": "FILES/creds"}),
        (["--token-file", "FILES/token", "--inbox-prefix", "my.inbox"], {}),
    ],
)
def test_every_way_to_say_who_one_is(url: str, files: Path, options: list[str], environment: dict[str, str]) -> None:
    command = Command(url)
    command.environment |= {name: value.replace("FILES", str(files)) for name, value in environment.items()}
    [made] = objects(
        command(
            "create", "--ttl", "60", "--owner-only", "--json", *(text.replace("FILES", str(files)) for text in options)
        )
    )
    assert made["owner_only"] is True


@pytest.mark.parametrize(
    "options", [[], ["--user", "anna", "--password-file", "FILES/wrong"], ["--token-file", "FILES/wrong"]]
)
def test_who_is_not_let_in_is_told_so(url: str, files: Path, options: list[str]) -> None:
    ran = Command(url).run("create", *(text.replace("FILES", str(files)) for text in options))
    assert ran.returncode == Exit.ERROR
    assert ran.stderr.startswith("mq9: cannot use the broker at 127.0.0.1:")
    assert ran.stderr.endswith("it does not accept these credentials\n")


def test_what_is_missing_is_named(url: str, files: Path) -> None:
    command = Command(url)
    assert "user and password go together" in command.run("create", "--user", "anna").stderr
    assert "missing" in command.run("create", "--token-file", str(files / "missing")).stderr


def test_no_secret_has_an_option() -> None:
    options = {
        option
        for command in COMMANDS.values()
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for option in parameter.opts
    }
    assert {"--password-file", "--token-file", "--credentials"} <= options
    assert not {"--password", "--pass", "--token", "--nkey", "--seed", "--http-token"} & options


def test_a_command_that_works_on_a_message_is_the_same_user(url: str, files: Path) -> None:
    command = Command(url)
    who = ("--user", "anna", "--password-file", str(files / "password"))
    answers = command("create", "--ttl", "60", *who).strip()
    box = command("create", "--ttl", "60", "--owner-only", *who).strip()
    command("send", box, "question", *who)
    command.environment["ANSWERS"] = answers
    again = f'{sys.executable} -m mq9 send "$ANSWERS" answered'
    command("work", box, "--group", "workers", "--exec", f"{again} >/dev/null", "--count", "1", "--json", *who)
    assert command("receive", answers, "--count", "1", "--body", *who) == "answered\n"


def test_tls(tmp_path: Path) -> None:
    certificates = Certificates.make(tmp_path / "certificates")
    cert, key = certificates.issue("client", "client.example")
    config = Config(
        **certificates.configuration(of_clients=True),
        tls_handshake_first=True,
        tls_verify_and_map=True,
        users=(UserConfig("client.example"),),
    )
    with Broker(config=config) as broker:
        command = Command(broker.url)
        options = ("--ca", str(certificates.ca), "--cert", str(cert), "--cert-key", str(key), "--tls-first")
        assert command("create", "diary", "--owner-only", *options) == "diary\n"
        command.environment |= {
            "MQ9_CA": str(certificates.ca),
            "MQ9_CERT": str(cert),
            "MQ9_CERT_KEY": str(key),
            "MQ9_TLS_FIRST": "1",
        }
        assert command("create", "diary", "--owner-only") == "diary\n"
        del command.environment["MQ9_CA"]
        ran = command.run("create", "diary")
        assert ran.returncode == Exit.UNREACHABLE
        assert "its certificate is not to be trusted" in ran.stderr
