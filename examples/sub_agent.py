"""A sub-agent reports its result to a parent that is asleep.

The parent hires a sub-agent, tells it a drop_id, with which one can send to the parent's mailbox but not read it, and goes away.
The sub-agent reports when it is done and goes away, too; the report is on the broker's disk, where the parent finds it when it wakes.

    python examples/sub_agent.py hire                                # prints the ids for the next two, and goes to sleep
    python examples/sub_agent.py sub-agent d-… "to be or not to be"
    python examples/sub_agent.py wake m-…
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from roles import play, say

if TYPE_CHECKING:
    from mq9 import Mailbox


def hire(mailbox: Mailbox) -> None:
    """Be the parent: make a mailbox for results, and go to sleep."""
    results = mailbox.create(ttl=86400)
    say(f"parent: my sub-agent reports to {results.drop_id}")
    say(f"parent: I read it in {results}, and tell that to nobody; good night")


def sub_agent(mailbox: Mailbox, drop_id: str, text: str) -> None:
    """Do the work, and report the result."""
    result = {"text": text, "words": len(text.split())}
    # With the task as its key, a second report on it takes the place of the first: the parent finds one, however often we run.
    sent = mailbox.send(drop_id, result, key=text)
    say(f"sub-agent: reported; listening: {sent.receivers}, waiting to be read: {sent.pending}")


def wake(mailbox: Mailbox, mail_id: str) -> None:
    """Be the parent again: read what was reported, and clear it away."""
    reports = mailbox.fetch(mail_id)
    for report in reports:
        say(f"parent: “{report['text']}” has {report['words']} words")
        mailbox.delete(mail_id, report.msg_id)
    say(f"parent: reports found: {len(reports)}")


if __name__ == "__main__":
    play(hire, sub_agent, wake)
