"""Two agents that are never online together, and a broker that is killed in between: `make demo`.

Everything here is a process of its own: the broker, and each appearance of an agent. Agent A leaves five messages for agent B,
who is away; the broker is killed; B comes, finds all five, the most urgent first, and answers; the broker is killed again; A comes
back and finds the answer.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from urllib.parse import urlsplit

from mq9 import Mailbox

MESSAGES = [
    ("low", "tidy up the notes"),
    ("normal", "analyze last week"),
    ("high", "analyze today"),
    ("normal", "write the report"),
    ("high", "a customer waits"),
]


def agent_a_sends(url: str, own_mail_id: str, to: str) -> None:
    """Leave messages for the other agent."""
    with Mailbox(url) as mailbox:
        for priority, task in MESSAGES:
            msg_id = mailbox.send(to, {"task": task}, priority=priority, reply_to=own_mail_id, correlation_id=task)
            say("agent A", f"sent #{msg_id} {priority}: {task}")


def agent_b_works(url: str, own_mail_id: str) -> None:
    """Take everything that waits in the mailbox, and answer the most urgent."""
    with Mailbox(url) as mailbox:
        for message in mailbox.receive(own_mail_id):
            say("agent B", f"got  #{message.msg_id} {message.priority}: {message['task']}")
            if message["task"] == "a customer waits":
                message.reply({"result": "the customer has an answer"})
            if message.pending == 0:
                break


def agent_a_reads(url: str, own_mail_id: str) -> None:
    """Look for answers."""
    with Mailbox(url) as mailbox:
        for message in mailbox.fetch(own_mail_id):
            say("agent A", f"got the answer to “{message.correlation_id}”: {message['result']}")


class Broker:
    """`mq9 serve` as a process, in a directory."""

    def __init__(self, data_dir: str) -> None:
        self.data_dir = data_dir
        self.port = 0
        self.start()

    def start(self) -> None:
        """Start it, and wait for the line that says where it listens."""
        started = time.perf_counter()
        self.process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-m", "mq9", "serve", "--port", str(self.port), "--data-dir", self.data_dir],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.url = next(word.rstrip(",") for word in line.split() if word.startswith("nats://"))
        self.port = urlsplit(self.url).port or 0
        say("broker", f"listens, {(time.perf_counter() - started) * 1000:.0f} ms after it was started")

    def kill(self) -> None:
        """End it as a power cut would: SIGKILL, no time for anything."""
        self.process.kill()
        self.process.communicate()
        say("broker", "killed with SIGKILL")


def say(who: str, what: str) -> None:
    """Print a line of the story."""
    print(f"{who:>8} │ {what}", flush=True)


def appear(agent: str, *arguments: str) -> None:
    """Run an agent as a process of its own; it is gone when this returns."""
    subprocess.run([sys.executable, __file__, agent, *arguments], check=True)  # noqa: S603 - ourselves


def main() -> None:
    """Tell the story."""
    with tempfile.TemporaryDirectory(prefix="mq9-demo-") as data_dir:
        broker = Broker(data_dir)
        try:
            with Mailbox(broker.url) as mailbox:
                a, b = mailbox.create(ttl=3600), mailbox.create(ttl=3600)
            say("", "two private mailboxes; agent B is offline, agent A comes")
            appear("agent_a_sends", broker.url, a, b)
            say("", "agent A is gone")
            broker.kill()
            broker.start()
            say("", "agent B comes: most urgent first, nothing lost")
            appear("agent_b_works", broker.url, b)
            say("", "agent B is gone")
            broker.kill()
            broker.start()
            say("", "agent A comes back")
            appear("agent_a_reads", broker.url, a)
        finally:
            broker.kill()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        globals()[sys.argv[1]](*sys.argv[2:])
    else:
        main()
