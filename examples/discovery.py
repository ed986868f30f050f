"""Agents say what they can do, and others find the one they need.

An agent's business card is a public mailbox, renewed as long as the agent lives, so that it is gone ten seconds after a crash.
In it is one message that says what the agent can do and where to ask for it: at the drop_id of a private mailbox, so that nobody else
reads what is sent there.

    python examples/discovery.py agent ada upper count
    python examples/discovery.py find count
    python examples/discovery.py ask count "one two three"
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from roles import play, say

if TYPE_CHECKING:
    from mq9 import Mailbox, Message

SKILLS: dict[str, Callable[[str], str]] = {
    "upper": str.upper,
    "lower": str.lower,
    "count": lambda text: f"{len(text.split())} words",
}
LIFE_S = 10


def cannot(text: str) -> str:
    """What is said to whoever asks for something else."""
    return f"I cannot do that to “{text}”"


def agent(mailbox: Mailbox, name: str, *skills: str, beat: float = 3.0) -> None:
    """Offer some of the skills upper, lower and count."""

    def answer(request: Message) -> None:
        skill = SKILLS.get(request["skill"], cannot)
        request.reply(skill(request["text"]))
        say(f"{name}: did {request['skill']}")

    def show_card() -> None:
        mailbox.create(ttl=LIFE_S, name=card, public=True, desc=", ".join(skills), renew=True)
        mailbox.send(card, {"skills": skills, "send_to": requests.drop_id}, key="card")
        mailbox.create(name=requests, renew=True)

    requests = mailbox.create(ttl=3600)
    card = f"agents.{name}"
    try:
        with mailbox.receive(requests, answer, resume="agent") as receiver:
            show_card()
            say(f"{name}: ready")
            while not receiver.wait(timeout=beat):
                show_card()
    finally:
        mailbox.remove(card)


def find(mailbox: Mailbox, skill: str) -> None:
    """Tell which agents have a skill."""
    for name, _ in having(mailbox, skill):
        say(f"{name} can {skill}")


def ask(mailbox: Mailbox, skill: str, text: str) -> None:
    """Find an agent that has a skill, and have it do something."""
    for name, send_to in having(mailbox, skill):
        answer = mailbox.request(send_to, {"skill": skill, "text": text}, timeout=30)
        say(f"{name} answered: {answer.payload}")
        return
    sys.exit(f"nobody can {skill}")


def having(mailbox: Mailbox, skill: str) -> Iterator[tuple[str, str]]:
    """The name and the address of each agent that has a skill."""
    for card in mailbox.list(prefix="agents."):
        for message in mailbox.fetch(card, key="card"):
            if skill in message.get("skills", ()):
                yield card.removeprefix("agents."), message["send_to"]


if __name__ == "__main__":
    play(agent, find, ask)
