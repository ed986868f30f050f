"""`mq9 delete`: delete a message, or a whole mailbox."""

from __future__ import annotations

import click

from mq9.cli.client import client_options, connected, print_json
from mq9.cli.exits import Exit
from mq9.protocol import MSG_ID_MAX


@click.command()
@click.argument("mail_id")
@click.argument("msg_ids", metavar="[MSG_ID]...", type=click.IntRange(0, MSG_ID_MAX), nargs=-1)
@click.option("--mailbox", "whole_mailbox", is_flag=True, help="End the mailbox itself, with everything in it.")
@client_options
def delete(
    mail_id: str,
    msg_ids: tuple[int, ...],
    whole_mailbox: bool,
    server: str,
    timeout: float,
    as_json: bool,
) -> int:
    """Delete messages of a mailbox, or with --mailbox the mailbox itself.

    Fails with the exit code for "not found" when one of them was not there.
    """
    if whole_mailbox == bool(msg_ids):
        raise click.UsageError("give either one MSG_ID or more, or --mailbox")
    missing = 0
    with connected(server, timeout) as mailbox:
        if whole_mailbox:
            deleted = mailbox.remove(mail_id)
            missing += not deleted
            if as_json:
                print_json({"mail_id": mail_id, "deleted": deleted})
        for msg_id in msg_ids:
            deleted = mailbox.delete(mail_id, msg_id)
            missing += not deleted
            if as_json:
                print_json({"msg_id": msg_id, "deleted": deleted})
            elif not deleted:
                click.echo(f"mq9: there is no message {msg_id} in this mailbox", err=True)
    return Exit.NOT_FOUND if missing else Exit.OK
