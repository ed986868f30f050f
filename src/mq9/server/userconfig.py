"""The tables of a configuration that say who there is: `[[users]]`, and `[default_permissions]` for those that have none of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from mq9.routing.subjects import valid_for_subscribe
from mq9.server.permissions import OPERATIONS, Permissions

# By default a message may be answered once, within two minutes.
RESPONSES_MAX: Final = 1
RESPONSES_EXPIRE_S: Final = 120.0
_LIMIT_MAX: Final = 1 << 46
# What a user may show; one of them each.
_PROOFS: Final = ("password", "token", "nkey")


class ConfigError(Exception):
    """A configuration that cannot be used; the text names the key and what was wrong with it."""


@dataclass(frozen=True, slots=True)
class SubjectLists:
    """What may be published, or subscribed to: entries of `allow` (None: everything) but for those of `deny`."""

    allow: tuple[str, ...] | None = None
    deny: tuple[str, ...] = ()

    @classmethod
    def parse(cls, value: object, where: str, *, queues: bool) -> Self:
        """From a subject, a list of them, or a table of `allow` and `deny`. With `queues` a queue name may follow a subject."""
        if not isinstance(value, Mapping):
            return cls(_subjects(value, where, queues=queues))
        _check_keys(value, ("allow", "deny"), where)
        allow, deny = value.get("allow"), value.get("deny", ())
        return cls(
            None if allow is None else _subjects(allow, f"{where}.allow", queues=queues),
            _subjects(deny, f"{where}.deny", queues=queues),
        )


@dataclass(frozen=True, slots=True)
class Responses:
    """That a message with a reply subject may be answered: `max` times within `expires` seconds, 0 for without limit."""

    max: int = RESPONSES_MAX
    expires: float = RESPONSES_EXPIRE_S

    @classmethod
    def parse(cls, value: object, where: str) -> Self | None:
        """From true, false, or a table."""
        if isinstance(value, bool):
            return cls() if value else None
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where} must be true, false or a table")
        _check_keys(value, ("max", "expires"), where)
        return cls(
            _whole(value.get("max", RESPONSES_MAX), f"{where}.max"),
            _number(value.get("expires", RESPONSES_EXPIRE_S), f"{where}.expires"),
        )


@dataclass(frozen=True, slots=True)
class PermissionsConfig:
    """What a user may do; docs/configuration.md explains the keys."""

    mailboxes: tuple[str, ...] | None = None
    publish: SubjectLists = SubjectLists()
    subscribe: SubjectLists = SubjectLists()
    allow_responses: Responses | None = None

    @classmethod
    def parse(cls, value: object, where: str) -> Self:
        """From a table."""
        table = _table(value, cls.__slots__, where)
        words = table.get("mailboxes")
        if words is not None:
            words = _texts(words, f"{where}.mailboxes")
            for word in words:
                if word not in OPERATIONS:
                    raise ConfigError(f"{where}.mailboxes has {word!r}; it may have {', '.join(OPERATIONS)}")
        return cls(
            words,
            SubjectLists.parse(table.get("publish", {}), f"{where}.publish", queues=False),
            SubjectLists.parse(table.get("subscribe", {}), f"{where}.subscribe", queues=True),
            Responses.parse(table.get("allow_responses", False), f"{where}.allow_responses"),
        )

    def compiled(self) -> Permissions:
        """The same as it is looked at for each message."""
        responses = self.allow_responses
        return Permissions(
            (self.publish.allow, self.publish.deny),
            (self.subscribe.allow, self.subscribe.deny),
            self.mailboxes,
            None if responses is None else (responses.max, responses.expires),
        )


@dataclass(frozen=True, slots=True)
class UserConfig:
    """A user; docs/configuration.md explains the keys. Limits of 0 are none."""

    name: str
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    nkey: str | None = None
    permissions: PermissionsConfig | None = None
    max_mailboxes: int = 0
    max_stored: int = 0
    max_rate: float = 0.0
    max_connections: int = 0
    max_subscriptions: int = 0

    @classmethod
    def parse(cls, value: object, where: str) -> Self:
        """From a table. Raises ConfigError, which names no secret."""
        table = _table(value, cls.__slots__, where)
        values: dict[str, Any] = {
            key: _text(table[key], f"{where}.{key}") for key in ("name", *_PROOFS) if key in table
        }
        proofs = [key for key in _PROOFS if key in table]
        if len(proofs) > 1:
            raise ConfigError(f"{where} has {' and '.join(proofs)}; a user has one of them")
        if "name" not in table and "nkey" not in table:
            raise ConfigError(f"{where} needs a name")
        values.setdefault("name", values.get("nkey"))
        if "permissions" in table:
            values["permissions"] = PermissionsConfig.parse(table["permissions"], f"{where}.permissions")
        values["max_rate"] = _number(table.get("max_rate", 0), f"{where}.max_rate")
        for key in ("max_mailboxes", "max_stored", "max_connections", "max_subscriptions"):
            values[key] = _whole(table.get(key, 0), f"{where}.{key}")
        return cls(**values)


def parse_users(value: object, where: str) -> tuple[UserConfig, ...]:
    """The users of a list of tables."""
    if not isinstance(value, list):
        raise ConfigError(f"{where} must be a list of tables")
    return tuple(UserConfig.parse(each, f"{where}[{number}]") for number, each in enumerate(value))


def _table(value: object, keys: tuple[str, ...], where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where} must be a table")
    _check_keys(value, keys, where)
    return value


def _check_keys(table: Mapping[str, Any], keys: tuple[str, ...], where: str) -> None:
    for key in table:
        if key not in keys:
            raise ConfigError(f"{where} has the unknown key {key}")


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{where} must be a string")
    return value


def _texts(value: object, where: str) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
        raise ConfigError(f"{where} must be a string or a list of strings")
    return tuple(value)


def _subjects(value: object, where: str, *, queues: bool) -> tuple[str, ...]:
    entries = _texts(value, where)
    for entry in entries:
        subject, space, queue = entry.partition(" ")
        fits = valid_for_subscribe(subject.encode()) and (not space or (queues and queue and " " not in queue))
        if not fits:
            raise ConfigError(
                f"{where} has {entry!r}, which is no subject" + (" and no subject with a queue name" if queues else "")
            )
    return entries


def _whole(value: object, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _LIMIT_MAX:
        raise ConfigError(f"{where} must be a whole number from 0 to {_LIMIT_MAX}")
    return value


def _number(value: object, where: str) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= _LIMIT_MAX:
        raise ConfigError(f"{where} must be a number from 0 to {_LIMIT_MAX}")
    return float(value)
