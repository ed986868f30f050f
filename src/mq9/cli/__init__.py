"""The `mq9` command: `mq9 serve` runs a broker, three commands look after its data, the others are clients of one.

`main` is the entry point. It is where every failure becomes one sentence on stderr and an exit code that scripts can rely on;
docs/command-line.md lists them. Each command is a file of this package, loaded when it is called: a client command never loads
the server.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Final, NoReturn

import click

from mq9.cli.exits import Exit, exit_of
from mq9.version import VERSION

# Each command with the line that `mq9 --help` shows for it, so that showing the list loads none of them.
COMMANDS: Final = {
    "serve": "Run a broker.",
    "backup": "Copy the data of a broker, which may go on meanwhile.",
    "restore": "Make a data directory of a backup.",
    "check": "Look for damage in a data directory or a backup.",
    "health": "Tell whether the broker of this machine stores messages.",
    "create": "Create a mailbox and print its mail_id.",
    "send": "Store a message in a mailbox.",
    "reply": "Answer a message.",
    "request": "Send a message and wait for the answer.",
    "receive": "Print the messages of a mailbox as they come.",
    "work": "Run a command for each message of a mailbox.",
    "fetch": "Show the messages that a mailbox holds.",
    "status": "Show what became of a message.",
    "revive": "Give dead messages back to their group.",
    "delete": "Delete a message, or a whole mailbox.",
    "list": "Show the public mailboxes.",
}


class Commands(click.Group):
    """The commands by name, each imported from its own module at its first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name them, in the order of the list above."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load one; None when there is no command of this name."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"mq9.cli.{'list_' if cmd_name == 'list' else cmd_name}")
        command = getattr(module, "list_" if cmd_name == "list" else cmd_name)
        assert isinstance(command, click.Command)  # noqa: S101 - each module defines the command it is named after
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Show the list without loading what is in it."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(VERSION, prog_name="mq9")
def mq9() -> None:
    """The mailbox for AI agents: one broker, and the commands to use it."""


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run `mq9` with `arguments` (those of the process by default) and leave the process with its exit code."""
    try:
        # Not by click's own `main`, which has its way with interrupts and broken pipes.
        with mq9.make_context("mq9", sys.argv[1:] if arguments is None else list(arguments)) as context:
            code = mq9.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as leaving:
        sys.exit(leaving.exit_code)
    except BrokenPipeError:
        # Whoever read the output has left. What is still buffered has nowhere to go, and must not be tried again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(Exit.PIPE)
    except (KeyboardInterrupt, click.Abort):
        sys.exit(Exit.INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except Exception as error:
        sentence, exit_code = exit_of(error)
        if sentence is None:
            raise
        click.echo(f"mq9: {sentence}", err=True)
        sys.exit(exit_code)
    sys.exit(code if isinstance(code, int) else Exit.OK)
