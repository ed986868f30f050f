"""The broker's configuration: every key with its default, from a TOML file, the environment and the command line.

`docs/configuration.md` explains each key; a test fails when one is missing there.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

from mq9.protocol import TTL_DEFAULT_S, TTL_MAX_S
from mq9.server.logs import FORMATS, LEVELS
from mq9.server.userconfig import ConfigError, PermissionsConfig, UserConfig, parse_users

__all__ = ["ENVIRONMENT_PREFIX", "Config", "ConfigError"]

ENVIRONMENT_PREFIX = "MQ9_"


@dataclass(frozen=True, slots=True)
class Config:
    """What a broker is started with. Sizes are in bytes, times in seconds."""

    host: str = "127.0.0.1"
    port: int = 4222
    data_dir: str = "mq9-data"
    memory: bool = False
    http_port: int | None = None
    server_name: str = ""
    max_payload: int = 1024 * 1024
    max_control_line: int = 4096
    max_header_size: int = 65_536
    max_connections: int = 65_536
    max_address_connections: int = 0
    max_subscriptions: int = 100_000
    max_subject: int = 4096
    max_rate: int = 0
    max_create_rate: int = 0
    max_requests: int = 64
    max_total_requests: int = 100_000
    max_pending: int = 64 * 1024 * 1024
    max_backlog: int = 64 * 1024 * 1024
    max_store: int = 1 << 40
    max_mailboxes: int = 10_000_000
    max_messages: int = 100_000_000
    max_mailbox_messages: int = 20_000_000
    max_mailbox_bytes: int = 1 << 40
    max_message_ids: int = 20_000_000
    max_groups: int = 10_000
    max_total_groups: int = 1_000_000
    max_unfinished: int = 100_000
    max_closed_clients: int = 10_000
    ping_interval: float = 120.0
    ping_max: int = 2
    lame_duck_grace_period: float = 10.0
    lame_duck_duration: float = 120.0
    default_ttl: int = TTL_DEFAULT_S
    log_level: str = "info"
    log_format: str = "text"
    insecure: bool = False
    token: str = field(default="", repr=False)
    user: str = ""
    password: str = field(default="", repr=False)
    no_auth_user: str = ""
    auth_timeout: float = 2.0
    http_token: str = field(default="", repr=False)
    tls_cert: str = ""
    tls_key: str = ""
    tls_ca: str = ""
    tls_verify: bool = False
    tls_verify_and_map: bool = False
    tls_handshake_first: bool = False
    tls_min_version: str = "1.2"
    tls_timeout: float = 2.0
    users: tuple[UserConfig, ...] = ()
    default_permissions: PermissionsConfig | None = None

    def __post_init__(self) -> None:
        """Raises ConfigError for a value out of its bounds."""
        for key, (least, most) in _BOUNDS.items():
            value = getattr(self, key)
            if value is not None and not least <= value <= most:
                raise ConfigError(f"{key} must be from {least} to {most}, not {value}")
        for key, words in _WORDS.items():
            if getattr(self, key) not in words:
                raise ConfigError(f"{key} must be one of {', '.join(words)}, not {getattr(self, key)!r}")

    @classmethod
    def load(
        cls,
        file: Path | None = None,
        environment: Mapping[str, str] | None = None,
        given: Mapping[str, Any] | None = None,
    ) -> Self:
        """The configuration of a broker: `given` wins over `environment` (MQ9_PORT …), which wins over the TOML `file`.

        Values of None in `given` count as not given. Raises ConfigError, naming the key, for whatever cannot be used.
        """
        values: dict[str, Any] = {}
        if file is not None:
            values.update(_from_file(file))
        values.update(_from_environment(environment or {}))
        values.update({key: value for key, value in (given or {}).items() if value is not None})
        return replace(cls(), **values)


# Those that are tables, and only a file can have.
_TABLES: dict[str, Callable[[Any, str], Any]] = {
    "users": parse_users,
    "default_permissions": PermissionsConfig.parse,
}
_TYPES: dict[str, type] = {
    each.name: {"str": str, "bool": bool, "float": float}.get(str(each.type), int)
    for each in fields(Config)
    if each.name not in _TABLES
}

_BOUNDS: dict[str, tuple[float, float]] = {
    "port": (0, 65_535),
    "http_port": (0, 65_535),
    "max_payload": (1, 64 * 1024 * 1024),
    "max_control_line": (512, 1024 * 1024),
    "max_header_size": (0, 64 * 1024 * 1024),
    "max_connections": (1, 1_000_000),
    "max_address_connections": (0, 1_000_000),
    "max_subscriptions": (1, 10_000_000),
    "max_rate": (0, 1_000_000_000),
    "max_create_rate": (0, 1_000_000_000),
    "max_requests": (1, 10_000),
    "max_total_requests": (1, 100_000_000),
    "max_subject": (64, 1024 * 1024),
    "max_pending": (65_536, 1 << 40),
    "max_backlog": (65_536, 1 << 40),
    "max_store": (1024 * 1024, 1 << 46),
    "max_mailboxes": (1, 1 << 40),
    "max_messages": (1, 1 << 40),
    "max_mailbox_messages": (1, 1 << 40),
    "max_mailbox_bytes": (1, 1 << 46),
    "max_message_ids": (0, 1 << 40),
    "max_groups": (1, 1_000_000),
    "max_total_groups": (1, 1_000_000_000),
    "max_unfinished": (1, 1_000_000_000),
    "max_closed_clients": (0, 1_000_000),
    "ping_interval": (0.1, 86_400.0),
    "ping_max": (0, 1_000),
    "lame_duck_grace_period": (0.0, 86_400.0),
    "lame_duck_duration": (0.0, 86_400.0),
    "default_ttl": (0, TTL_MAX_S),
    "auth_timeout": (0.05, 60.0),
    "tls_timeout": (0.05, 60.0),
}


_WORDS: dict[str, tuple[str, ...]] = {"log_level": LEVELS, "log_format": FORMATS}


def _from_file(file: Path) -> dict[str, Any]:
    try:
        table = tomllib.loads(file.read_text())
    except OSError as error:
        raise ConfigError(f"cannot read the configuration file {file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"the configuration file {file} is not valid TOML: {error}") from None
    for key, value in table.items():
        if key in _TABLES:
            table[key] = _TABLES[key](value, key)
            continue
        if key not in _TYPES:
            raise ConfigError(f"the configuration file {file} has the unknown key {key}")
        wanted = _TYPES[key]
        fits = isinstance(value, (int, float)) if wanted is float else isinstance(value, wanted)
        if not fits or (isinstance(value, bool) and wanted is not bool):
            raise ConfigError(f"{key} in {file} must be {_describe(wanted)}")
    return table


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, wanted in _TYPES.items():
        text = environment.get(ENVIRONMENT_PREFIX + key.upper())
        if text is None:
            continue
        try:
            values[key] = _flag(text) if wanted is bool else wanted(text)
        except ValueError:
            raise ConfigError(f"{ENVIRONMENT_PREFIX}{key.upper()} must be {_describe(wanted)}, not {text!r}") from None
    return values


def _flag(text: str) -> bool:
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    try:
        return words[text.lower()]
    except KeyError:
        raise ValueError(text) from None


def _describe(wanted: type) -> str:
    return {str: "a string", bool: "true or false", float: "a number", int: "a whole number"}[wanted]
