"""Starts `mq9 serve` from the command line of a nats-server, for test suites that start one.

It understands the options and the parts of the configuration language that these use, and refuses everything else by name: a suite that
gets another server than it asked for tests nothing.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any, Final, NoReturn

from mq9.cli import mq9

_TOKEN: Final = re.compile(
    r"""\s*(?: (?P<comment>(?:\#|//)[^\n]*)
            | "(?P<text>[^"]*)" | '(?P<quoted>[^']*)'
            | (?P<mark>[{}\[\],:=])
            | (?P<word>[^\s{}\[\],:=]+) )""",
    re.VERBOSE,
)


class UnknownError(Exception):
    """Something that nats-server understands, and this does not."""


# the configuration language of nats-server


def parse(text: str) -> dict[str, Any]:
    """The keys of a configuration of nats-server: blocks become dicts, lists lists, all else is a string."""
    tokens = [(found.lastgroup, found[found.lastgroup]) for found in _TOKEN.finditer(text) if found.lastgroup]
    tokens = [(kind, value) for kind, value in tokens if kind != "comment"]
    tokens.append(("mark", "}"))
    value, rest = _block(tokens)
    if rest:
        raise UnknownError("there is more behind the end of the configuration")
    return value


Tokens = list[tuple[str, str]]


def _block(tokens: Tokens) -> tuple[dict[str, Any], Tokens]:
    """What stands up to the closing brace."""
    found: dict[str, Any] = {}
    while tokens[0] != ("mark", "}"):
        key, tokens = tokens[0][1], tokens[1:]
        if tokens[0] in {("mark", ":"), ("mark", "=")}:
            tokens = tokens[1:]
        found[key], tokens = _value(tokens)
        tokens = _past_commas(tokens)
    return found, tokens[1:]


def _value(tokens: Tokens) -> tuple[Any, Tokens]:
    kind, value = tokens[0]
    if kind != "mark":
        return value, tokens[1:]
    if value == "{":
        return _block(_past_commas(tokens[1:]))
    if value != "[":
        raise UnknownError(f"{value!r} stands where a value should")
    tokens = _past_commas(tokens[1:])
    found: list[Any] = []
    while tokens[0] != ("mark", "]"):
        item, tokens = _value(tokens)
        found.append(item)
        tokens = _past_commas(tokens)
    return found, tokens[1:]


def _past_commas(tokens: Tokens) -> Tokens:
    while tokens and tokens[0][1] == "," and tokens[0][0] == "mark":
        tokens = tokens[1:]
    return tokens


# from nats-server's keys to mq9's


def translate(configuration: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The keys of mq9 that say the same, and its users."""
    keys: dict[str, Any] = {}
    users: list[dict[str, Any]] = []
    for key, value in configuration.items():
        match key:
            case "port" | "http_port":
                keys[key] = int(value)
            case "no_auth_user":
                keys[key] = value
            case "authorization":
                users += [_user(user) for user in value.pop("users", [])]
                _rename(value, {"user": "user", "password": "password", "token": "token"}, keys, "authorization")
            case "tls":
                flags = {"verify": "tls_verify", "handshake_first": "tls_handshake_first"}
                files = {"cert_file": "tls_cert", "key_file": "tls_key", "ca_file": "tls_ca"}
                _rename(value, flags | files, keys, "tls")
                keys |= {name: keys[name] == "true" for name in flags.values() if name in keys}
            case _:
                raise UnknownError(f"the configuration key {key} is not known here")
    return keys, users


def _rename(block: dict[str, Any], names: dict[str, str], into: dict[str, Any], where: str) -> None:
    for key, value in block.items():
        if key not in names:
            raise UnknownError(f"the configuration key {where}.{key} is not known here")
        into[names[key]] = value


def _user(block: dict[str, Any]) -> dict[str, Any]:
    user: dict[str, Any] = {}
    _rename(
        block, {"user": "name", "password": "password", "nkey": "nkey", "permissions": "permissions"}, user, "users"
    )
    return user


# the command line


def options() -> argparse.ArgumentParser:
    """The options of nats-server that are understood; each may have one dash or two."""
    parser = argparse.ArgumentParser(prog="nats-server", allow_abbrev=False, add_help=False)
    for names in (
        *(("a", "addr", "net"), ("p", "port"), ("m", "http_port"), ("n", "name", "server_name"), ("c", "config")),
        *(("user",), ("pass",), ("auth",), ("tlscert",), ("tlskey",), ("tlscacert",)),
    ):
        kind = int if names[-1] in {"port", "http_port"} else str
        parser.add_argument(*(f"{dash}{name}" for name in names for dash in ("-", "--")), dest=names[-1], type=kind)
    for name in ("tls", "tlsverify", "D", "V", "DV"):
        parser.add_argument(f"-{name}", f"--{name}", action="store_true", dest=name)
    return parser


def configured(arguments: list[str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The keys of mq9, and its users, that a command line of nats-server asks for."""
    given = options().parse_args(arguments)
    keys: dict[str, Any] = {"host": "0.0.0.0", "port": 4222, "data_dir": "data"}
    users: list[dict[str, Any]] = []
    if given.config is not None:
        more, users = translate(parse(Path(given.config).read_text("utf-8")))
        keys |= more
    for key, value in {
        "host": given.net,
        "port": given.port,
        "http_port": given.http_port,
        "server_name": given.server_name,
        "user": given.user,
        "password": getattr(given, "pass"),
        "token": given.auth,
        "tls_cert": given.tlscert,
        "tls_key": given.tlskey,
        "tls_ca": given.tlscacert,
        "tls_verify": given.tlsverify or None,
    }.items():
        if value is not None:
            keys[key] = value
    if keys["port"] == -1:  # a free one
        keys["port"] = 0
    return keys, users


def toml(keys: dict[str, Any], users: list[dict[str, Any]]) -> str:
    """The configuration file of mq9."""
    lines = [f"{key} = {_toml(value)}" for key, value in keys.items()]
    for user in users:
        lines += ["[[users]]", *(f"{key} = {_toml(value)}" for key, value in user.items())]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[ " + ", ".join(map(_toml, value)) + " ]"
    return json.dumps(value)


def main() -> NoReturn:
    """Become `mq9 serve`."""
    try:
        text = toml(*configured(sys.argv[1:]))
    except UnknownError as error:
        sys.exit(str(error))
    file = Path("mq9.toml")
    file.write_text(text, "utf-8")
    # In this process: some tests give a server that they start again a second, and one interpreter begins sooner than two.
    sys.argv = ["mq9", "serve", "--config", str(file)]
    mq9()
    raise SystemExit


if __name__ == "__main__":
    main()
