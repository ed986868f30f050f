"""An agent asks a human for permission, and the human answers from the command line when there is time.

The agent asks in a mailbox that the whole team knows, names the drop_id of its own mailbox for the answer, and need not run until that
comes, an hour or a day later.
The human sees what is pending, and answers with one short command, which finds out by itself where the answer belongs.

    python examples/approval.py ask "delete the staging database"    # prints the mail_id for the last line
    mq9 fetch approvals
    mq9 reply approvals 1 yes --delete
    python examples/approval.py act m-…
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from roles import play, say

if TYPE_CHECKING:
    from mq9 import Mailbox

APPROVALS = "approvals"
WEEK_S = 7 * 86400


def ask(mailbox: Mailbox, action: str) -> None:
    """Ask for permission to do something."""
    mailbox.create(ttl=0, name=APPROVALS)
    answers = mailbox.create(ttl=WEEK_S)
    msg_id = mailbox.send(APPROVALS, f"May I {action}?", ttl=WEEK_S, reply_to=answers.drop_id, correlation_id=action)
    say(f"agent: question {msg_id} is asked; the answer will be in {answers}")


def act(mailbox: Mailbox, mail_id: str) -> None:
    """Wait for the answer, and do as it says."""
    with mailbox.receive(mail_id) as answers:
        say("agent: waiting for the answer")
        answer = next(answers)
    if answer.payload == "yes":
        say(f"agent: I {answer.correlation_id}")
    else:
        say(f"agent: I do not {answer.correlation_id}: {answer.payload}")
    mailbox.remove(mail_id)


if __name__ == "__main__":
    play(ask, act)
