"""`mq9 request`: send a message and wait for the answer."""

from __future__ import annotations

from typing import Any

import click

from mq9.cli.client import client_options, connected, print_message
from mq9.cli.exits import Exit
from mq9.cli.outgoing import message_options, read_body, send_arguments
from mq9.sdk.errors import Timeout


@click.command()
@click.argument("mail_id")
@click.argument("body", required=False)
@message_options
@click.option("--wait", type=click.FloatRange(0, min_open=True), default=60.0, show_default=True, metavar="SECONDS",
              help="How long to wait for the answer.")  # fmt: skip
@client_options
def request(
    mail_id: str, body: str | None, wait: float, server: str, timeout: float, as_json: bool, **options: Any
) -> int:
    """Send a message with a mailbox for the answer, wait for that, and print its body, exactly as it was sent.

    MAIL_ID may be a drop_id. The BODY is taken from standard input when it is missing or `-`.
    """
    data = read_body(body)
    arguments = send_arguments(data, **options)
    with connected(server, timeout) as mailbox:
        try:
            answer = mailbox.request(mail_id, data, timeout=wait, **arguments)
        except Timeout:
            click.echo(f"mq9: no answer came within {wait:g} seconds", err=True)
            return Exit.TOO_FEW
    print_message(answer, body_only=True, as_json=as_json)
    return Exit.OK
