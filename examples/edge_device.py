"""The cloud sends commands to a device that is offline, and the device carries them out when it comes back, the urgent ones first.

A command with a key takes the place of the one that was sent before it, so the device never carries out what the cloud has
thought better of; one with a ttl is gone when it comes too late.
The device works through its mailbox as a group, so a command that it was in the middle of when its battery failed comes again,
and one that it has done does not.

    python examples/edge_device.py register                          # prints the ids for the next two
    python examples/edge_device.py cloud d-…
    python examples/edge_device.py device m-…
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from roles import play, say

if TYPE_CHECKING:
    from mq9 import Mailbox, Message


def register(mailbox: Mailbox) -> None:
    """Make the mailbox of a device."""
    box = mailbox.create(ttl=30 * 86400)
    say(f"the device reads {box}")
    say(f"the cloud sends to {box.drop_id}")


def cloud(mailbox: Mailbox, drop_id: str) -> None:
    """Send commands, and change our mind about one of them."""
    sent = mailbox.send(drop_id, "upload the logs", priority="low")
    if not sent.receivers:
        say("cloud: the device is offline; it will find this")
    mailbox.send(drop_id, "measure every 60 seconds", key="interval")
    mailbox.send(drop_id, "blink, so that the technician finds you", ttl=600)
    mailbox.send(drop_id, "close the valve", priority="high")
    sent = mailbox.send(drop_id, "measure every 5 seconds", key="interval")
    say(f"cloud: {sent.pending} commands are waiting")


def device(mailbox: Mailbox, mail_id: str) -> None:
    """Carry out commands, those that have waited first."""

    def carry_out(command: Message) -> None:
        say(f"device: {command.priority}: {command.payload}")

    with mailbox.receive(mail_id, carry_out, resume="device") as commands:
        commands.wait()


if __name__ == "__main__":
    play(register, cloud, device)
