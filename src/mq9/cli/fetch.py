"""`mq9 fetch`: look at what a mailbox holds."""

from __future__ import annotations

import click

from mq9.cli.client import PRIORITY, body_text, client_options, connected, message_object, print_json, print_table
from mq9.protocol import FETCH_LIMIT_DEFAULT


@click.command()
@click.argument("mail_id")
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=FETCH_LIMIT_DEFAULT,
    show_default=True,
    metavar="N",
    help="At most N messages.",
)
@click.option("--all", "everything", is_flag=True, help="All messages, however many.")
@click.option("--after", type=click.IntRange(0), default=0, metavar="MSG_ID", help="Only messages after this one.")
@click.option("--priority", type=PRIORITY, help="Only this level.")
@click.option("--since", type=float, metavar="UNIX_SECONDS", help="Only messages from this time on.")
@click.option("--no-payload", is_flag=True, help="Leave the bodies out.")
@client_options
def fetch(
    mail_id: str,
    limit: int,
    everything: bool,
    after: int,
    priority: str | None,
    since: float | None,
    no_payload: bool,
    server: str,
    timeout: float,
    as_json: bool,
) -> None:
    """Show the messages that a mailbox holds, oldest first. Nothing is consumed."""
    with connected(server, timeout) as mailbox:
        page = mailbox.fetch(
            mail_id,
            limit=None if everything else limit,
            after=after,
            priority=priority,
            since=since,
            payload=not no_payload,
        )
    if as_json:
        for message in page:
            print_json(message_object(message, payload=not no_payload))
        return
    rows = [
        (message.msg_id, message.priority, message.time, message.size, "" if no_payload else body_text(message))
        for message in page
    ]
    print_table(("MSG_ID", "PRIORITY", "TIME", "BYTES", "" if no_payload else "BODY"), rows)
    if page.next is not None:
        click.echo(f"there are more: --after {page.next}", err=True)
