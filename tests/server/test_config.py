"""Where a configuration comes from, and what is said of one that cannot be used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from mq9.mailboxes.owner import Owner
from mq9.server.config import Config, ConfigError
from mq9.server.user import User
from mq9.server.users import Users
from tests.house.source import ROOT

if TYPE_CHECKING:
    from pathlib import Path


def test_an_option_wins_over_the_environment_which_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "mq9.toml"
    file.write_text('port = 1\nhost = "::1"\nmax_payload = 1000\nping_interval = 7\nmemory = true\n')
    environment = {"MQ9_PORT": "2", "MQ9_MAX_PAYLOAD": "2000", "MQ9_MEMORY": "no", "OTHER": "x"}
    config = Config.load(file, environment, {"port": 3, "host": None})
    assert (config.port, config.max_payload, config.host, config.ping_interval) == (3, 2000, "::1", 7)
    assert config.memory is False
    assert config.max_pending == Config().max_pending


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("prot = 1", "prot"),
        ("port = 'x'", "port"),
        ("port = true", "port"),
        ("memory = 1", "memory"),
        ("port = 70000", "port"),
        ("max_payload = 0", "max_payload"),
        ("[server]\nport = 1", "server"),
        ("port = ", "TOML"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_by_the_key(tmp_path: Path, text: str, named: str) -> None:
    file = tmp_path / "mq9.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=named):
        Config.load(file)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.toml: No such file"):
        Config.load(tmp_path / "missing.toml")


def test_the_example_of_the_documentation_can_be_used(tmp_path: Path) -> None:
    said = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    file = tmp_path / "mq9.toml"
    file.write_text(said.partition("```toml\n")[2].partition("```")[0], "utf-8")
    config = Config.load(file)
    users = Users(config, Owner)
    assert users.required
    camera = users.identify({"auth_token": "…"}, "", None)
    assert isinstance(camera, User)
    assert camera.permissions is not None
    assert camera.permissions.publishes(b"$mq9.AI.MAILBOX.MSG.reports")
    assert not camera.permissions.publishes(b"$mq9.AI.MAILBOX.LIST.reports")
    assert not camera.permissions.publishes(b"reports")


@pytest.mark.parametrize(("key", "value"), [("auth_timeout", 0.01), ("auth_timeout", 61), ("tls_timeout", 0)])
def test_times_out_of_their_bounds_are_refused(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{key} must be from"):
        Config(**cast("Any", {key: value}))


def test_secrets_come_from_the_environment_too() -> None:
    config = Config.load(environment={"MQ9_TOKEN": "secret-word", "MQ9_HTTP_TOKEN": "secret-word", "MQ9_INSECURE": "1"})
    assert (config.token, config.http_token, config.insecure) == ("secret-word", "secret-word", True)
    assert "secret-word" not in repr(config)


@pytest.mark.parametrize(
    ("name", "value"), [("MQ9_PORT", "high"), ("MQ9_MEMORY", "maybe"), ("MQ9_PING_INTERVAL", "-1")]
)
def test_a_variable_that_cannot_be_used_is_named(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=name.removeprefix("MQ9_").lower() + "|" + name):
        Config.load(environment={name: value})


@pytest.mark.parametrize(("key", "value"), [("http_port", None), ("port", 0), ("default_ttl", 0), ("ping_max", 0)])
def test_the_least_values_are_accepted(key: str, value: Any) -> None:
    assert getattr(Config(**{key: value}), key) == value
