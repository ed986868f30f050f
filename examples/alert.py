"""An alert reaches every handler, also those that are offline when it is raised.

Each handler reads the same mailbox as a group of its own: it gets every alert, once however often it restarts, and when it comes back
what it has missed, unless that has expired because nobody needs to hear of it any more.
Whoever raised the alert can ask who has handled it.

    python examples/alert.py handler pager                           # and mail, in another terminal; stop one of them
    python examples/alert.py raise-alert "the disk is full"
    python examples/alert.py who 1
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from roles import play, say

if TYPE_CHECKING:
    from mq9 import Mailbox, Message

ALERTS = "alerts"


def handler(mailbox: Mailbox, name: str) -> None:
    """Handle every alert."""

    def handle(alert: Message) -> None:
        say(f"{name}: {alert.priority}: {alert.payload}")

    mailbox.create(ttl=0, name=ALERTS)
    with mailbox.receive(ALERTS, handle, resume=name) as alerts:
        say(f"{name}: ready")
        alerts.wait()


def raise_alert(mailbox: Mailbox, text: str, *, priority: str = "high") -> None:
    """Raise an alert that matters for an hour."""
    mailbox.create(ttl=0, name=ALERTS)
    sent = mailbox.send(ALERTS, text, priority=priority, ttl=3600)
    say(f"alert {sent} is raised; handlers online: {sent.receivers}")


def who(mailbox: Mailbox, msg_id: str) -> None:
    """Tell what each handler has made of an alert."""
    for name, group in sorted(mailbox.status(ALERTS, int(msg_id)).groups.items()):
        say(f"alert {msg_id}: {group.state} for {name}")


if __name__ == "__main__":
    play(handler, raise_alert, who)
