"""A task is told to all workers, one of them picks it up, and it gets done even when that worker is killed.

The workers share a group, so each task is leased to one of them at a time and is acknowledged when it is done; the lease of a worker
that crashes runs out, and the task goes to the next one.
The boss asks the broker for a receipt, and is told how often the task was begun and whether it is done.

    python examples/worker_crash.py worker alpha                     # and beta, in another terminal
    python examples/worker_crash.py boss cat.jpg dog.jpg
    python examples/worker_crash.py receipt 1                        # kill -9 a worker, and ask again
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from roles import play, say

if TYPE_CHECKING:
    from mq9 import Mailbox, Message

TASKS = "tasks.resize"


def boss(mailbox: Mailbox, *pictures: str) -> None:
    """Hand out tasks."""
    mailbox.create(ttl=0, name=TASKS)
    for picture in pictures:
        sent = mailbox.send(TASKS, {"picture": picture})
        say(f"boss: task {sent} is {picture}; workers waiting: {sent.receivers}")


def receipt(mailbox: Mailbox, msg_id: str) -> None:
    """Ask what became of a task."""
    status = mailbox.status(TASKS, int(msg_id))
    for name, group in status.groups.items():
        say(f"boss: task {msg_id} is {group.state} in the group {name}, attempts: {group.attempts}")
    if not status.groups:
        say(f"boss: task {msg_id} is {status.state}; no worker has ever come")


def worker(mailbox: Mailbox, name: str, *, seconds: float = 5.0, lease: float = 10.0) -> None:
    """Work on one task after the other; each takes `seconds`."""

    def resize(task: Message) -> None:
        say(f"{name}: begins with task {task.msg_id}, {task['picture']}, attempt {task.attempt}")
        time.sleep(seconds)  # while this runs, the lease is extended
        say(f"{name}: task {task.msg_id} is done")

    mailbox.create(ttl=0, name=TASKS)  # whoever is first makes it; for the others it is there already
    with mailbox.receive(TASKS, resize, resume="workers", lease=lease) as work:
        say(f"{name}: ready")
        work.wait()


if __name__ == "__main__":
    play(boss, receipt, worker)
