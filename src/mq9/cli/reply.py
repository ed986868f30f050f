"""`mq9 reply`: answer a message."""

from __future__ import annotations

from typing import Any

import click

from mq9.cli.client import client_options, connected
from mq9.cli.outgoing import message_options, read_body, send_arguments
from mq9.cli.send import print_sent
from mq9.protocol import MSG_ID_MAX
from mq9.sdk.errors import BadRequest, NotFound


@click.command()
@click.argument("mail_id")
@click.argument("msg_id", type=click.IntRange(1, MSG_ID_MAX))
@click.argument("body", required=False)
@message_options
@click.option(
    "--delete", "delete_it", is_flag=True, help="Delete the message that was answered, once the answer is stored."
)
@client_options
def reply(
    mail_id: str,
    msg_id: int,
    body: str | None,
    delete_it: bool,
    server: str,
    timeout: float,
    as_json: bool,
    **options: Any,
) -> None:
    """Answer message MSG_ID of a mailbox, where its sender wants the answer, and print the answer's msg_id.

    The BODY is taken from standard input when it is missing or `-`.
    """
    with connected(server, timeout) as mailbox:
        # The question first: whoever types the answer on standard input learns before that there is nothing to answer.
        asked = mailbox.fetch(mail_id, after=msg_id - 1, limit=1, payload=False)
        if not asked or asked[0].msg_id != msg_id:
            raise NotFound(f"there is no message {msg_id} in this mailbox")
        if asked[0].reply_to is None:
            raise BadRequest(f"message {msg_id} cannot be answered: its sender named no reply_to")
        data = read_body(body)
        arguments = send_arguments(data, **options)
        sent = mailbox.send(asked[0].reply_to, data, correlation_id=asked[0].correlation_id, **arguments)
        if delete_it:
            mailbox.delete(mail_id, msg_id)
    print_sent(sent, as_json=as_json)
