"""What the client commands share: the options that say which broker, and the two ways of printing, for people and for programs."""

from __future__ import annotations

import base64
import json
import os
import sys
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

import click

from mq9 import Mailbox
from mq9.protocol import PRIORITIES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mq9.sdk.message import BaseMessage

ParametersT = ParamSpec("ParametersT")
ResultT = TypeVar("ResultT")

SERVER = "nats://localhost:4222"
_SECURITY = "mq9.security"
# What says who the client is: the argument of Mailbox, its option, its variable, and what that is. Secrets have no option: whoever
# may list the processes of a machine sees the command lines of all of them.
_FILE = click.Path(exists=True, dir_okay=False, readable=True)
_OPTIONS: Final = (
    ("user", "--user", "MQ9_USER", "NAME", "The user to be; MQ9_PASSWORD or --password-file has the password."),
    ("password_file", "--password-file", "MQ9_PASSWORD_FILE", "FILE", "A file with the user's password."),
    ("token_file", "--token-file", "MQ9_TOKEN_FILE", "FILE", "A file with a token; MQ9_TOKEN may have it, too."),
    ("credentials", "--credentials", "MQ9_CREDENTIALS", "FILE", "A file with the seed of an nkey, or a .creds file."),
    ("inbox_prefix", "--inbox-prefix", "MQ9_INBOX_PREFIX", "SUBJECT", "Where answers come in.  [default: _INBOX]"),
    ("tls_ca", "--ca", "MQ9_CA", "FILE", "Whose certificates to trust.  [default: the system's]"),
    ("tls_cert", "--cert", "MQ9_CERT", "FILE", "A certificate to show to the broker."),
    ("tls_key", "--cert-key", "MQ9_CERT_KEY", "FILE", "Its key, unless that is in the same file."),
)
PRIORITY = click.Choice([str(priority) for priority in PRIORITIES])


def client_options(command: Callable[ParametersT, ResultT]) -> Callable[ParametersT, ResultT]:
    """Decorate a command with the options that all client commands have: `server`, `timeout` and `as_json`.

    Those that say who the client is are no arguments of the command: `connected` knows them.
    """
    for name, flag, variable, metavar, text in reversed(_OPTIONS):
        kind = _FILE if metavar == "FILE" else click.STRING
        command = click.option(flag, name, type=kind, envvar=variable, show_envvar=True, metavar=metavar, help=text,
                               expose_value=False, callback=_remember)(command)  # fmt: skip
    command = click.option("--tls-first", is_flag=True, envvar="MQ9_TLS_FIRST", show_envvar=True, expose_value=False,
                           callback=_remember, help="Begin with TLS, before the broker has said anything.")(command)  # fmt: skip
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line, for programs."),
        click.option("--timeout", type=click.FloatRange(0, min_open=True), default=5.0, show_default=True, metavar="SECONDS",
                     help="How long to wait for the broker."),
        click.option("--server", envvar="MQ9_URL", default=SERVER, show_default=True, show_envvar=True, metavar="URL",
                     help="Where the broker is."),
    ):  # fmt: skip
        command = option(command)
    return command


@contextmanager
def connected(server: str, timeout: float) -> Iterator[Mailbox]:
    """A mailbox client for one command."""
    mailbox = Mailbox(server, timeout=timeout, connect_timeout=min(timeout, 2.0), **_credentials())
    try:
        yield mailbox
    finally:
        mailbox.close(timeout=0.5)


def client_environment(server: str) -> dict[str, str]:
    """What to put into the environment of a program so that its client commands talk to the same broker as the same user."""
    given = click.get_current_context().meta.get(_SECURITY, {})
    files = {variable: str(given[name]) for name, _, variable, _, _ in _OPTIONS if given.get(name)}
    return {"MQ9_URL": server} | files | ({"MQ9_TLS_FIRST": "1"} if given.get("tls_first") else {})


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    context.meta.setdefault(_SECURITY, {})[parameter.name] = value


def _credentials() -> dict[str, Any]:
    """The arguments for Mailbox that say who the client is."""
    given = {key: value for key, value in click.get_current_context().meta.get(_SECURITY, {}).items() if value}
    for secret in ("password", "token"):
        if path := given.pop(f"{secret}_file", None):
            given[secret] = _first_line(path)
    if "user" in given and "password" not in given and (password := os.environ.get("MQ9_PASSWORD")):
        given["password"] = password
    # What the environment has for everybody does not get in the way of what this command was told.
    if given.keys().isdisjoint(("user", "token", "credentials")) and (token := os.environ.get("MQ9_TOKEN")):
        given["token"] = token
    return given


def _first_line(path: str) -> str:
    return (Path(path).read_text("utf-8").splitlines() or [""])[0]


def print_json(value: dict[str, Any]) -> None:
    """Print one line for programs."""
    click.echo(json.dumps(value, ensure_ascii=False))


def print_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table for people, in columns as wide as what is in them."""
    cells = [list(head), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    for row in cells:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo(line.rstrip())


def message_object(message: BaseMessage, *, payload: bool = True) -> dict[str, Any]:
    """A message for programs; docs/command-line.md explains the keys."""
    described = {
        "msg_id": message.msg_id,
        "priority": str(message.priority),
        "time": None if message.time is None else message.time.isoformat(),
        "size": message.size,
        "headers": message.headers,
        "reply_to": message.reply_to,
        "correlation_id": message.correlation_id,
        "pending": message.pending,
    }
    if message.attempt is not None:
        described["attempt"] = message.attempt
    elif message.attempts is not None:
        described |= {"attempts": message.attempts, "reason": message.reason}
    if payload:
        value = message.payload
        described["encoding"] = "base64" if isinstance(value, bytes) else "text" if isinstance(value, str) else "json"
        described["payload"] = base64.b64encode(value).decode() if isinstance(value, bytes) else value
    return described


def print_message(message: BaseMessage, *, body_only: bool, as_json: bool) -> None:
    """Print one message at once: its body exactly as it was sent, or all of it on one line, for programs or for people."""
    if as_json:
        print_json(message_object(message))
    elif body_only:
        sys.stdout.buffer.write(message.data + b"\n")
    else:
        when = "" if message.time is None else f"{message.time.astimezone():%H:%M:%S}  "
        click.echo(f"{message.msg_id:>6}  {message.priority:<8}  {when}{body_text(message)}")
    sys.stdout.flush()


def body_text(message: BaseMessage) -> str:
    """A message's body on one line for people, without what could take over a terminal."""
    value = message.payload
    if isinstance(value, bytes):
        return f"({message.size} bytes) {value[:32].hex(' ')}{' …' if message.size > len(value[:32]) else ''}"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    return "".join(character if character.isprintable() else " " for character in str(value))
