"""What `send`, `reply` and `request` share: the body, and the options of a message that is to be stored."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import click

from mq9.cli.client import PRIORITY
from mq9.sdk.message import BINARY, JSON, TEXT

if TYPE_CHECKING:
    from collections.abc import Callable

ParametersT = ParamSpec("ParametersT")
ResultT = TypeVar("ResultT")

OPTIONS = (
    click.option("--priority", type=PRIORITY, help="How urgent it is.  [default: normal]"),
    click.option("--ttl", type=click.IntRange(0), metavar="SECONDS",
                 help="How long the message lives.  [default: as its mailbox]"),
    click.option("--delay", type=click.FloatRange(0), metavar="SECONDS", help="Let nobody see it before so long."),
    click.option("--key", metavar="TEXT", help="Replace every earlier message of the mailbox that has this key."),
    click.option("--tag", "tags", multiple=True, metavar="TEXT", help="A tag, for fetch; may be given several times."),
    click.option("--dedup-id", metavar="TEXT", help="Store it once, however often it is sent with this within two minutes."),
    click.option("--header", "headers", multiple=True, metavar="NAME:VALUE", help="A header; may be given several times."),
    click.option("--content-type", metavar="TYPE", help="What the body is.  [default: JSON, text or binary, as it looks]"),
)  # fmt: skip


def message_options(command: Callable[ParametersT, ResultT]) -> Callable[ParametersT, ResultT]:
    """Decorate a command with the options of a message; it takes them together, as keywords for `send_arguments`."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def read_body(body: str | None) -> bytes:
    """The bytes of the BODY argument, or of standard input when it is missing or `-`."""
    if body is None and sys.stdin.isatty():
        raise click.UsageError("there is no BODY, and nothing on standard input")
    return sys.stdin.buffer.read() if body in {None, "-"} else str(body).encode("utf-8", "surrogateescape")


def send_arguments(
    data: bytes, *, headers: tuple[str, ...], content_type: str | None, tags: tuple[str, ...], **options: Any
) -> dict[str, Any]:
    """What `Mailbox.send` is to be called with, beside the mailbox and `data`, for the options of the command line."""
    all_headers = _parsed(headers)
    all_headers["content-type"] = content_type or all_headers.get("content-type") or _looks_like(data)
    return {**options, "headers": all_headers, "tags": tags or None}


def _parsed(headers: tuple[str, ...]) -> dict[str, str]:
    parsed = {}
    for header in headers:
        name, colon, value = header.partition(":")
        if not colon or not name.strip():
            raise click.BadParameter(f"{header!r} is not of the form NAME:VALUE", param_hint="--header")
        name = name.strip()
        parsed[name.lower() if name.lower() == "content-type" else name] = value.strip()
    return parsed


def _looks_like(data: bytes) -> str:
    """The content type of a body that nobody has named: JSON only for an object or an array."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return BINARY
    if text.lstrip()[:1] in {"{", "["}:
        try:
            json.loads(text)
        except (ValueError, RecursionError):
            return TEXT
        return JSON
    return TEXT
