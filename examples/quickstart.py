"""Two agents that are never online together, a broker that is killed in between, and a worker, too: `make demo`.

Everything here is a process of its own: the broker, and each appearance of an agent. Agent A leaves five messages for agent B,
who is away; the broker is killed; B comes, finds all five, the most urgent first, and answers; the broker is killed again; A comes
back, finds the answer, and has a task for whoever is there; the worker that takes it is killed in the middle of it, and another does it.
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


def agent_a_hands_out_a_task(url: str, tasks: str) -> None:
    """Leave a task for whichever worker comes."""
    with Mailbox(url) as mailbox:
        sent = mailbox.send(tasks, {"task": "send the customer the report"})
        say("agent A", f"task #{sent}; {sent.receivers} workers are there")


def worker(url: str, name: str, tasks: str) -> None:
    """Do one task. It is done for good at the end of the `with` block, and another worker's if that is never reached."""
    with Mailbox(url) as mailbox, mailbox.receive(tasks, resume="workers", lease=1) as work:
        task = next(work)
        say(name, f"begins #{task.msg_id}, attempt {task.attempt}: {task['task']}")
        time.sleep(0.5)
        say(name, f"has done #{task.msg_id}")


def agent_a_asks(url: str, tasks: str) -> None:
    """Ask the broker what became of the task."""
    with Mailbox(url) as mailbox:
        for message in mailbox.fetch(tasks):
            group = mailbox.status(tasks, message.msg_id).groups["workers"]
            say("agent A", f"task #{message.msg_id} is {group.state}, attempts: {group.attempts}")


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


def appear_and_crash(agent: str, *arguments: str) -> None:
    """Run an agent as a process of its own, and kill it when it has said something."""
    command = [sys.executable, __file__, agent, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - ourselves
        assert process.stdout is not None
        print(process.stdout.readline(), end="", flush=True)
        process.kill()


def main() -> None:
    """Tell the story."""
    with tempfile.TemporaryDirectory(prefix="mq9-demo-") as data_dir:
        broker = Broker(data_dir)
        try:
            with Mailbox(broker.url) as mailbox:
                a, b, tasks = (mailbox.create(ttl=3600) for _ in range(3))
            say("", "private mailboxes; agent B is offline, agent A comes")
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
            say("", "agent A has a task for whichever worker comes")
            appear("agent_a_hands_out_a_task", broker.url, tasks)
            appear_and_crash("worker", broker.url, "worker 1", tasks)
            say("worker 1", "killed with SIGKILL in the middle of it")
            say("", "a second worker comes; when the lease of the first has run out, it gets the task")
            appear("worker", broker.url, "worker 2", tasks)
            appear("agent_a_asks", broker.url, tasks)
        finally:
            broker.kill()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        globals()[sys.argv[1]](*sys.argv[2:])
    else:
        main()
