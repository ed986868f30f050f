"""`mq9 status`: what became of a message."""

from __future__ import annotations

import click

from mq9.cli.client import client_options, connected, print_json, print_table
from mq9.protocol import MSG_ID_MAX


@click.command()
@click.argument("mail_id")
@click.argument("msg_id", type=click.IntRange(0, MSG_ID_MAX))
@client_options
def status(mail_id: str, msg_id: int, server: str, timeout: float, as_json: bool) -> None:
    """Show what became of a message: a receipt for its sender.

    MAIL_ID may be the drop_id that it was sent to. The first line says whether the message is stored, delayed or gone, and
    whether any receiver was given it; then comes each group that works on the mailbox.
    """
    with connected(server, timeout) as mailbox:
        found = mailbox.status(mail_id, msg_id)
    if as_json:
        groups = {name: {"state": group.state, "attempts": group.attempts} for name, group in found.groups.items()}
        print_json({"msg_id": msg_id, "state": found.state, "offered": found.offered, "groups": groups})
        return
    offered = "offered to a receiver" if found.offered else "not offered to anybody yet"
    # Of what is gone, the broker does not remember whether anybody was given it.
    click.echo("gone" if found.state == "gone" else f"{found.state}, {offered}")
    if found.groups:
        rows = [(name, group.state, group.attempts) for name, group in sorted(found.groups.items())]
        print_table(("GROUP", "STATE", "ATTEMPTS"), rows)
