"""`mq9 send`: store a message."""

from __future__ import annotations

import json
import sys

import click

from mq9.cli.client import PRIORITY, client_options, connected, print_json
from mq9.sdk.message import BINARY, JSON, TEXT


@click.command()
@click.argument("mail_id")
@click.argument("body", required=False)
@click.option("--priority", type=PRIORITY, help="How urgent it is.  [default: normal]")
@click.option(
    "--ttl", type=click.IntRange(0), metavar="SECONDS", help="How long the message lives.  [default: as its mailbox]"
)
@click.option("--header", "headers", multiple=True, metavar="NAME:VALUE", help="A header; may be given several times.")
@click.option("--content-type", metavar="TYPE", help="What the body is.  [default: JSON, text or binary, as it looks]")
@click.option("--reply-to", metavar="MAIL_ID", help="The mailbox for answers.")
@click.option("--correlation-id", metavar="TEXT", help="What answers are to be recognised by.")
@client_options
def send(
    mail_id: str,
    body: str | None,
    priority: str | None,
    ttl: int | None,
    headers: tuple[str, ...],
    content_type: str | None,
    reply_to: str | None,
    correlation_id: str | None,
    server: str,
    timeout: float,
    as_json: bool,
) -> None:
    """Store a message in a mailbox and print its msg_id, once it is on the broker's disk.

    The BODY is taken from standard input when it is missing or `-`.
    """
    if body is None and sys.stdin.isatty():
        raise click.UsageError("there is no BODY, and nothing on standard input")
    data = sys.stdin.buffer.read() if body in {None, "-"} else str(body).encode("utf-8", "surrogateescape")
    all_headers = _parsed(headers)
    all_headers["content-type"] = content_type or all_headers.get("content-type") or _looks_like(data)
    with connected(server, timeout) as mailbox:
        msg_id = mailbox.send(
            mail_id,
            data,
            priority=priority,
            ttl=ttl,
            headers=all_headers,
            reply_to=reply_to,
            correlation_id=correlation_id,
        )
    if as_json:
        print_json({"msg_id": msg_id})
    else:
        click.echo(msg_id)


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
