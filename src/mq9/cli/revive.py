"""`mq9 revive`: give dead messages back to their group."""

from __future__ import annotations

import click

from mq9.cli.client import client_options, connected, print_json
from mq9.cli.exits import Exit
from mq9.protocol import MSG_ID_MAX
from mq9.sdk.errors import Conflict, NotFound


@click.command()
@click.argument("mail_id")
@click.argument("msg_ids", metavar="[MSG_ID]...", type=click.IntRange(0, MSG_ID_MAX), nargs=-1)
@click.option("--group", required=True, metavar="NAME", help="The group for which they are dead.")
@click.option("--all", "everything", is_flag=True, help="All that are dead for the group.")
@client_options
def revive(
    mail_id: str, msg_ids: tuple[int, ...], group: str, everything: bool, server: str, timeout: float, as_json: bool
) -> int:
    """Give dead messages back to their group, as if it had never tried them. `mq9 fetch --dead` shows which are dead.

    Fails with the exit code for "not found" when one of them was not dead.
    """
    if everything == bool(msg_ids):
        raise click.UsageError("give either one MSG_ID or more, or --all")
    missing = 0
    with connected(server, timeout) as mailbox:
        for msg_id in [message.msg_id for message in mailbox.dead(mail_id, group)] if everything else msg_ids:
            try:
                mailbox.revive(mail_id, group, msg_id)
                revived = True
            except (Conflict, NotFound) as error:
                click.echo(f"mq9: {error.sentence}", err=True)
                revived = False
            missing += not revived
            if as_json:
                print_json({"msg_id": msg_id, "revived": revived})
    return Exit.NOT_FOUND if missing else Exit.OK
