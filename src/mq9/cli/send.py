"""`mq9 send`: store a message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mq9.cli.client import client_options, connected, print_json
from mq9.cli.outgoing import message_options, read_body, send_arguments

if TYPE_CHECKING:
    from mq9 import Sent


@click.command()
@click.argument("mail_id")
@click.argument("body", required=False)
@message_options
@click.option("--reply-to", metavar="MAIL_ID", help="The mailbox for answers; better its drop_id.")
@click.option("--correlation-id", metavar="TEXT", help="What answers are to be recognised by.")
@client_options
def send(
    mail_id: str,
    body: str | None,
    reply_to: str | None,
    correlation_id: str | None,
    server: str,
    timeout: float,
    as_json: bool,
    **options: Any,
) -> None:
    """Store a message in a mailbox and print its msg_id, once it is on the broker's disk.

    MAIL_ID may be a drop_id. The BODY is taken from standard input when it is missing or `-`.
    """
    data = read_body(body)
    arguments = send_arguments(data, **options)
    with connected(server, timeout) as mailbox:
        sent = mailbox.send(mail_id, data, reply_to=reply_to, correlation_id=correlation_id, **arguments)
    print_sent(sent, as_json=as_json)


def print_sent(sent: Sent, *, as_json: bool) -> None:
    """Print what became of a message that was sent."""
    if as_json:
        print_json(
            {"msg_id": int(sent), "duplicate": sent.duplicate, "pending": sent.pending, "receivers": sent.receivers}
        )
    else:
        click.echo(int(sent))
