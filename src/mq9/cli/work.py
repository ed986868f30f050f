"""`mq9 work`: run a command for each message, and never lose one.

The messages are leased (docs/protocol.md §4): one is acknowledged when its command has succeeded, comes again when it has failed, and
goes to another worker when this one crashes.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import click

from mq9.cli.client import client_environment, client_options, connected, print_json
from mq9.cli.execution import Commands, Outcome
from mq9.cli.exits import Exit
from mq9.cli.orphans import Orphanage
from mq9.protocol import REASON_BYTES_MAX
from mq9.sdk.errors import ConnectionFailed, MailboxError, Timeout, Unavailable
from mq9.sdk.work import retry_delay_s

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mq9 import Message, Receiver

DEAD_CODE: Final = 100
RETRY_S: Final = 0.5
# What the command is told of its message; not there when the sender has not said it.
FACTS: Final = ("MQ9_MSG_ID", "MQ9_PRIORITY", "MQ9_ATTEMPT", "MQ9_REPLY_TO", "MQ9_CORRELATION_ID")


@click.command()
@click.argument("mail_id")
@click.option("--group", required=True, metavar="NAME", help="The group of workers to belong to.")
@click.option("--exec", "command", required=True, metavar="CMD", help="The shell command to run for each message.")
@click.option("--concurrency", type=click.IntRange(1, 1000), default=1, show_default=True, metavar="N",
              help="How many commands may run at the same time.")  # fmt: skip
@click.option("--lease", type=click.FloatRange(0.1, 86_400), default=30.0, show_default=True, metavar="SECONDS",
              help="How long after a crash of this worker its messages go to others.")  # fmt: skip
@click.option("--count", type=click.IntRange(1), metavar="N", help="Leave after N messages.")
@click.option("--wait", type=click.FloatRange(0, min_open=True), metavar="SECONDS",
              help="Leave when no message has come for so long.")  # fmt: skip
@client_options
def work(
    mail_id: str,
    group: str,
    command: str,
    concurrency: int,
    lease: float,
    count: int | None,
    wait: float | None,
    server: str,
    timeout: float,
    as_json: bool,
) -> int:
    """Run a command for each message of a mailbox, together with the other workers of the group.

    The payload is on the command's standard input; MQ9_MSG_ID, MQ9_PRIORITY, MQ9_ATTEMPT, MQ9_REPLY_TO and MQ9_CORRELATION_ID are
    in its environment. When it leaves with 0 the message is done, with 100 it is dead, with anything else it comes again later.
    Interrupted, mq9 waits for the commands that are running; interrupted again, it ends them.
    """
    environment = {name: value for name, value in os.environ.items() if name not in FACTS} | client_environment(server)
    with connected(server, timeout) as mailbox, Orphanage() as orphanage:
        # What the commands print must not get between the objects that a program reads.
        commands = Commands(command, environment, orphanage, sys.stderr.buffer if as_json else None)
        receiver = mailbox.receive(mail_id, resume=group, concurrency=concurrency, auto_ack=False, lease=lease)
        worker = _Worker(receiver, commands, concurrency, as_json=as_json)
        with _interruptible(worker), receiver:
            begun = worker.run(count, wait)
    if worker.interrupted_by is not None:
        return Exit.INTERRUPTED if worker.interrupted_by == signal.SIGINT else Exit.OK
    if receiver.ended is not None:
        click.echo(f"mq9: the mailbox has ended ({receiver.ended})", err=True)
    return Exit.OK if count is None or begun == count else Exit.TOO_FEW


class _Interrupted(BaseException):
    """SIGINT or SIGTERM came while nothing but the next message was waited for."""


class _Worker:
    """Takes messages from `receiver` as long as one more command may run, and settles each when its command has ended."""

    def __init__(self, receiver: Receiver, commands: Commands, concurrency: int, *, as_json: bool) -> None:
        self._receiver = receiver
        self._commands = commands
        self._concurrency = concurrency
        self._as_json = as_json
        self._free = threading.Semaphore(concurrency)
        self._stopping = threading.Event()
        self._printing = threading.Lock()
        self._listening = False
        self._hurried = False
        self._broken: BaseException | None = None
        self.interrupted_by: int | None = None

    def run(self, count: int | None, wait: float | None) -> int:
        """Run up to `count` commands; stop when no message has come for `wait` seconds. Returns how many there were."""
        begun = 0
        with ThreadPoolExecutor(self._concurrency) as pool:
            while begun != count and self._may_go_on():
                message = self._next(wait)
                if message is None:
                    break
                begun += 1
                pool.submit(self._work_on, message)
        if self._broken is not None:
            raise self._broken
        return begun

    def interrupt(self, number: int) -> None:
        """Begin nothing new; the second time, end what is running."""
        if self.interrupted_by is None:
            self.interrupted_by = number
            self._stopping.set()
            if self._listening:
                raise _Interrupted
        else:
            self._hurried = True
            self._commands.terminate()

    def _next(self, wait: float | None) -> Message | None:
        """The next message, leased; None when there is none within `wait` seconds, or none is to be taken any more."""
        try:
            self._listening = True
            return self._receiver.next(timeout=wait)
        except _Interrupted:
            return None
        finally:
            self._listening = False

    def _may_go_on(self) -> bool:
        """Wait until one more command may run; False when none is to run any more."""
        self._free.acquire()
        return not self._stopping.is_set()

    def _work_on(self, message: Message) -> None:
        try:
            outcome = self._commands.run(message, _facts(message))
            told = {"msg_id": message.msg_id, "attempt": message.attempt, "exit_code": outcome.code}
            self._tell(told | self._settled(message, outcome))
        except BaseException as error:
            self._broken = error
            if not self._stopping.is_set():
                os.kill(os.getpid(), signal.SIGTERM)  # the main thread waits for a message, and is to cease
        finally:
            self._free.release()

    def _settled(self, message: Message, outcome: Outcome) -> dict[str, Any]:
        """Tell the broker what becomes of the message after `outcome`; the same as an object."""
        reason = outcome.reason.encode()[:REASON_BYTES_MAX].decode("utf-8", "ignore")
        try:
            if outcome.code == 0:
                self._insist(message.ack)
                return {"outcome": "done"}
            if outcome.code == DEAD_CODE:
                self._insist(lambda: message.dead(reason))
                return {"outcome": "dead", "reason": reason}
            delay = 0.0 if self._hurried else retry_delay_s(message.attempt or 1)
            self._insist(lambda: message.nack(delay, reason))
        except MailboxError as error:
            # Whatever it was, the broker hands the message out again, unless it has done so already.
            return {"outcome": "lost", "reason": error.sentence}
        return {"outcome": "failed", "reason": reason, "delay": delay}

    def _insist(self, settle: Callable[[], None]) -> None:
        """Settle a message, again and again while there is no broker: what has been done need not be done again."""
        while True:
            try:
                return settle()
            except (ConnectionFailed, Timeout, Unavailable):
                if self._stopping.wait(RETRY_S):
                    raise

    def _tell(self, told: dict[str, Any]) -> None:
        """Print what has become of a message: all to programs, to people what they might want to do something about."""
        with self._printing:
            if self._as_json:
                print_json(told)
                sys.stdout.flush()
            elif told["outcome"] != "done":
                then = {
                    "dead": "it is dead",
                    "lost": "another worker may have it, too",
                    "failed": f"it comes again in {told.get('delay', 0):g} s",
                }[told["outcome"]]
                click.echo(
                    f"mq9: message {told['msg_id']}, attempt {told['attempt']}: {told['reason']}; {then}", err=True
                )


def _facts(message: Message) -> dict[str, str]:
    """The environment that the command has beside that of this process."""
    values = (message.msg_id, message.priority, message.attempt, message.reply_to, message.correlation_id)
    # What the sender wrote may be anything; an environment has no zero bytes.
    return {name: str(value).replace("\0", "") for name, value in zip(FACTS, values, strict=True) if value is not None}


@contextmanager
def _interruptible(worker: _Worker) -> Iterator[None]:
    """Let SIGINT and SIGTERM end `worker` in good order."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda caught, _frame: worker.interrupt(caught)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
