"""An orchestrator knows which workers are online and what they are doing, without asking them.

Each worker has a public mailbox with a short life and renews it every few seconds, which is its heartbeat; in the mailbox is
one message, replaced whenever the worker's state changes.
A worker that crashes cannot say so, but its mailbox expires, and the orchestrator is told.

    python examples/worker_state.py orchestrator
    python examples/worker_state.py worker alpha                     # end it with Ctrl-C, or with kill -9
"""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING

from roles import play, say

from mq9 import NotFound

if TYPE_CHECKING:
    from mq9 import Mailbox, MailboxEvent

LIFE_S = 10


def worker(mailbox: Mailbox, name: str, *, beat: float = 3.0) -> None:
    """Be busy and idle by turns, with a heartbeat every few seconds."""
    box = mailbox.create(ttl=LIFE_S, name=f"workers.{name}", public=True, desc="a worker's heartbeat")
    try:
        for state in itertools.cycle(("busy", "idle")):
            mailbox.send(box, state, key="state")
            mailbox.create(ttl=LIFE_S, name=box, public=True, renew=True)
            say(f"{name}: {state}")
            time.sleep(beat)
    finally:
        mailbox.remove(box)  # going is told at once; only a crash has to be found out


def orchestrator(mailbox: Mailbox) -> None:
    """Tell what becomes of the workers, as it happens."""
    states: dict[str, str] = {}

    def told(event: MailboxEvent) -> None:
        name = event.mailbox.removeprefix("workers.")
        known = states.get(name)
        if event.event == "expired":
            states[name] = f"offline: no heartbeat for {LIFE_S} seconds"
        elif event.event == "removed":
            states[name] = "offline: it said goodbye"
        else:
            states[name] = state_of(mailbox, event.mailbox)
        if states[name] != known:
            say(f"orchestrator: {name} is {states[name]}")

    mailbox.list(told, prefix="workers.").wait()


def state_of(mailbox: Mailbox, box: str) -> str:
    """What a worker says that it is doing."""
    try:
        newest = mailbox.fetch(box, key="state")
    except NotFound:
        return "gone"
    return str(newest[0].payload) if newest else "online"


if __name__ == "__main__":
    play(orchestrator, worker)
