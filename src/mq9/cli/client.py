"""What the client commands share: the options that say which broker, and the two ways of printing, for people and for programs."""

from __future__ import annotations

import base64
import json
import sys
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import click

from mq9 import Mailbox
from mq9.protocol import PRIORITIES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mq9.sdk.message import BaseMessage

ParametersT = ParamSpec("ParametersT")
ResultT = TypeVar("ResultT")

SERVER = "nats://localhost:4222"
PRIORITY = click.Choice([str(priority) for priority in PRIORITIES])


def client_options(command: Callable[ParametersT, ResultT]) -> Callable[ParametersT, ResultT]:
    """Decorate a command with the options that all client commands have: `server`, `timeout` and `as_json`."""
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
    mailbox = Mailbox(server, timeout=timeout, connect_timeout=min(timeout, 2.0))
    try:
        yield mailbox
    finally:
        mailbox.close(timeout=0.5)


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
