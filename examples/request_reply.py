"""A client asks and a service answers, and the two are never online at the same time.

The client leaves its question together with the drop_id of a mailbox for the answer, and goes; the service finds the question when
it comes up, answers, and goes; the client finds the answer when it is back.
A question is acknowledged after its answer is stored: a crash in between costs nobody an answer, and the second one, if it is sent within
two minutes, is not stored again, because it has the dedup_id of the first.

    python examples/request_reply.py ask 17 21                       # prints the mail_id for the last line
    python examples/request_reply.py service                         # end it with Ctrl-C
    python examples/request_reply.py collect m-…
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from roles import play, say

if TYPE_CHECKING:
    from mq9 import Mailbox, Message

QUESTIONS = "service.is-prime"


def ask(mailbox: Mailbox, *numbers: str) -> None:
    """Be the client: leave questions."""
    mailbox.create(ttl=0, name=QUESTIONS)
    answers = mailbox.create(ttl=86400)
    for number in numbers:
        mailbox.send(QUESTIONS, {"number": int(number)}, reply_to=answers.drop_id, correlation_id=number)
    say(f"client: asked; I shall look for the answers in {answers}")


def service(mailbox: Mailbox) -> None:
    """Answer every question that was left, and those that come."""

    def answer(question: Message) -> None:
        number = question["number"]
        prime = number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))
        question.reply({"prime": prime}, dedup_id=f"answer to {question.msg_id}")
        say(f"service: answered question {question.msg_id}")

    mailbox.create(ttl=0, name=QUESTIONS)
    with mailbox.receive(QUESTIONS, answer, resume="service") as questions:
        questions.wait()


def collect(mailbox: Mailbox, mail_id: str) -> None:
    """Be the client again: read the answers."""
    for answer in mailbox.fetch(mail_id):
        say(f"client: {answer.correlation_id} is {'' if answer['prime'] else 'not '}prime")


if __name__ == "__main__":
    play(ask, service, collect)
