"""`mq9 receive`: print messages as they come."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from mq9.cli.client import PRIORITY, body_text, client_options, connected, message_object, print_json
from mq9.cli.exits import Exit

if TYPE_CHECKING:
    from mq9 import Message, Receiver


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
@click.option("--body", "body_only", is_flag=True, help="Print the bodies only, exactly as they were sent.")
@client_options
def receive(
    mail_id: str,
    priority: str | None,
    count: int | None,
    wait: float | None,
    body_only: bool,
    server: str,
    timeout: float,
    as_json: bool,
) -> int:
    """Print everything that a mailbox holds, highest priority first, and then what comes, until interrupted.

    Nothing is consumed: the messages stay until they are deleted or expire. The command also ends when the mailbox does.
    """
    if body_only and as_json:
        raise click.UsageError("--body and --json exclude each other")
    with connected(server, timeout) as mailbox, mailbox.receive(mail_id, priority=priority) as receiver:
        printed = _print_all(receiver, count, wait, body_only=body_only, as_json=as_json)
        if printed == count or (count is None and receiver.ended is None):
            return Exit.OK
        if receiver.ended is not None:
            click.echo(f"mq9: the mailbox has ended ({receiver.ended})", err=True)
        return Exit.OK if count is None else Exit.TOO_FEW


def _print_all(receiver: Receiver, count: int | None, wait: float | None, *, body_only: bool, as_json: bool) -> int:
    """Print up to `count` messages; stop when none has come for `wait` seconds. Returns how many there were."""
    printed = 0
    while printed != count:
        message = receiver.next(timeout=wait)
        if message is None:
            break
        printed += 1
        if body_only:
            sys.stdout.buffer.write(message.data + b"\n")
        elif as_json:
            print_json(message_object(message))
        else:
            click.echo(_line(message))
        sys.stdout.flush()
    return printed


def _line(message: Message) -> str:
    when = "" if message.time is None else f"{message.time.astimezone():%H:%M:%S}  "
    return f"{message.msg_id:>6}  {message.priority:<8}  {when}{body_text(message)}"
