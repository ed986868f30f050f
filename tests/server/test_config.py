"""Where a configuration comes from, and what is said of one that cannot be used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mq9.server.config import Config, ConfigError

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


@pytest.mark.parametrize(
    ("name", "value"), [("MQ9_PORT", "high"), ("MQ9_MEMORY", "maybe"), ("MQ9_PING_INTERVAL", "-1")]
)
def test_a_variable_that_cannot_be_used_is_named(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=name.removeprefix("MQ9_").lower() + "|" + name):
        Config.load(environment={name: value})


@pytest.mark.parametrize(("key", "value"), [("http_port", None), ("port", 0), ("default_ttl", 0), ("ping_max", 0)])
def test_the_least_values_are_accepted(key: str, value: Any) -> None:
    assert getattr(Config(**{key: value}), key) == value
