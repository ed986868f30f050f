"""`mq9 receive`: print messages as they come."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mq9.cli.client import PRIORITY, client_options, connected, print_message
from mq9.cli.exits import Exit

if TYPE_CHECKING:
    from mq9 import Mailbox, Receiver


@click.command()
@click.argument("mail_id")
@click.option("--priority", type=PRIORITY, help="Only this level.")
@click.option("--count", type=click.IntRange(1), metavar="N", help="Leave after N messages.")
@click.option(
    "--wait",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="Leave when no message has come for so long.",
)
@click.option(
    "--group", metavar="NAME", help="Take the messages as a worker of this group: each is done once it is printed."
)
@click.option("--body", "body_only", is_flag=True, help="Print the bodies only, exactly as they were sent.")
@client_options
def receive(
    mail_id: str,
    priority: str | None,
    count: int | None,
    wait: float | None,
    group: str | None,
    body_only: bool,
    server: str,
    timeout: float,
    as_json: bool,
) -> int:
    """Print everything that a mailbox holds, highest priority first, and then what comes, until interrupted.

    Nothing is consumed: the messages stay until they are deleted or expire. With --group, each goes to one worker of the group,
    and it is remembered what is done. The command also ends when the mailbox does.
    """
    if body_only and as_json:
        raise click.UsageError("--body and --json exclude each other")
    if group is not None and priority is not None:
        raise click.UsageError("--group and --priority exclude each other: a worker takes messages of every level")
    with connected(server, timeout) as mailbox, _receiver(mailbox, mail_id, priority, group) as receiver:
        printed = _print_all(receiver, count, wait, body_only=body_only, as_json=as_json)
        if printed == count or (count is None and receiver.ended is None):
            return Exit.OK
        if receiver.ended is not None:
            click.echo(f"mq9: the mailbox has ended ({receiver.ended})", err=True)
        return Exit.OK if count is None else Exit.TOO_FEW


def _receiver(mailbox: Mailbox, mail_id: str, priority: str | None, group: str | None) -> Receiver:
    if group is None:
        return mailbox.receive(mail_id, priority=priority)
    return mailbox.receive(mail_id, resume=group, auto_ack=False)


def _print_all(receiver: Receiver, count: int | None, wait: float | None, *, body_only: bool, as_json: bool) -> int:
    """Print up to `count` messages; stop when none has come for `wait` seconds. Returns how many there were."""
    printed = 0
    while printed != count:
        message = receiver.next(timeout=wait)
        if message is None:
            break
        printed += 1
        print_message(message, body_only=body_only, as_json=as_json)
        if message.attempt is not None:
            message.ack()
    return printed
