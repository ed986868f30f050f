"""`mq9 fetch`: look at what a mailbox holds."""

from __future__ import annotations

from typing import Any

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
@click.option("--key", metavar="TEXT", help="Only the message with this key.")
@click.option(
    "--tag", "tags", multiple=True, metavar="TEXT", help="Only messages with this tag; with several: all of them."
)
@click.option("--dead", "dead_for", metavar="GROUP", help="Only messages that are dead for this group, and why.")
@click.option("--no-payload", is_flag=True, help="Leave the bodies out.")
@client_options
def fetch(
    mail_id: str,
    limit: int,
    everything: bool,
    after: int,
    priority: str | None,
    since: float | None,
    key: str | None,
    tags: tuple[str, ...],
    dead_for: str | None,
    no_payload: bool,
    server: str,
    timeout: float,
    as_json: bool,
) -> None:
    """Show the messages that a mailbox holds, oldest first. Nothing is consumed."""
    filters: dict[str, Any] = {"priority": priority, "since": since, "key": key, "tags": tags or None}
    if dead_for is not None and any(value is not None for value in filters.values()):
        raise click.UsageError("--dead excludes --priority, --since, --key and --tag")
    which: dict[str, Any] = {"limit": None if everything else limit, "after": after, "payload": not no_payload}
    with connected(server, timeout) as mailbox:
        page = (
            mailbox.fetch(mail_id, **filters, **which) if dead_for is None else mailbox.dead(mail_id, dead_for, **which)
        )
    if as_json:
        for message in page:
            print_json(message_object(message, payload=not no_payload))
        return
    head = ["MSG_ID", "PRIORITY", "TIME", "BYTES", *(["ATTEMPTS", "REASON"] if dead_for else [])]
    rows = []
    for message in page:
        row: list[object] = [message.msg_id, message.priority, message.time, message.size]
        row += [message.attempts, message.reason] if dead_for else []
        rows.append(row if no_payload else [*row, body_text(message)])
    print_table(head if no_payload else [*head, "BODY"], rows)
    if page.next is not None:
        click.echo(f"there are more: --after {page.next}", err=True)
