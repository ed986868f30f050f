"""`mq9 list`: show the public mailboxes, and watch them."""

from __future__ import annotations

import queue
import sys
from typing import TYPE_CHECKING, Any

import click

from mq9.cli.client import client_options, connected, print_json, print_table

if TYPE_CHECKING:
    from mq9 import Mailbox, MailboxEvent, MailboxInfo


@click.command("list")
@click.option("--prefix", default="", metavar="TEXT", help="Only those whose name begins with this.")
@click.option("--watch", is_flag=True, help="Go on, and tell what happens to them, until interrupted.")
@client_options
def list_(prefix: str, watch: bool, server: str, timeout: float, as_json: bool) -> None:
    """Show the public mailboxes."""
    with connected(server, timeout) as mailbox:
        if watch:
            _watch(mailbox, prefix, as_json=as_json)
            return
        found = mailbox.list(prefix=prefix)
    if as_json:
        for box in found:
            print_json(_object(box))
        return
    print_table(
        ("MAIL_ID", "MESSAGES", "CREATED", "EXPIRES", "DESCRIPTION"),
        [(box, box.messages, box.created_at, box.expires_at, box.desc) for box in found],
    )


def _watch(mailbox: Mailbox, prefix: str, *, as_json: bool) -> None:
    # All printing is on this thread, so that a broken pipe is noticed here.
    events: queue.SimpleQueue[MailboxEvent] = queue.SimpleQueue()
    with mailbox.list(events.put, prefix=prefix):
        while True:
            event = events.get()
            if as_json:
                print_json({"event": event.event, **_object(event.mailbox)})
            else:
                click.echo(f"{event.event:<8}  {event.mailbox}")
            sys.stdout.flush()


def _object(box: MailboxInfo) -> dict[str, Any]:
    """A mailbox for programs; docs/command-line.md explains the keys."""
    keys = ("mail_id", "desc", "ttl", "created_at", "expires_at", "messages")
    return {key: box.get(key) for key in keys}
