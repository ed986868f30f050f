"""How the programs here are called: `python examples/PROGRAM.py ROLE [ARGUMENT]... [--OPTION VALUE]... [--server URL]`.

A role is a function whose first argument is a client of the broker. The others are what stands on the command line, and those that
can only be given by name are its options.
"""

from __future__ import annotations

import argparse
import inspect
import os
import signal
import sys
from typing import TYPE_CHECKING

from mq9 import Mailbox, MailboxError

if TYPE_CHECKING:
    from collections.abc import Callable


def say(line: str) -> None:
    """Print a line at once, also when nobody is looking at a terminal."""
    print(line, flush=True)


def play(*roles: Callable[..., None]) -> None:
    """Play the role that the command line names, until it is over or Ctrl-C or SIGTERM ends it."""
    parser = argparse.ArgumentParser(
        description=sys.modules["__main__"].__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(metavar="ROLE", required=True)
    for role in roles:
        summary = (role.__doc__ or "").partition("\n")[0]
        command = commands.add_parser(role.__name__.replace("_", "-"), help=summary, description=role.__doc__)
        command.set_defaults(role=role)
        command.add_argument("--server", default=os.environ.get("MQ9_URL", "nats://localhost:4222"), metavar="URL")
        for parameter in list(inspect.signature(role).parameters.values())[1:]:
            _add(command, parameter)
    given = vars(parser.parse_args())
    role, server = given.pop("role"), given.pop("server")
    arguments: list[str] = []
    options = {}
    for parameter in list(inspect.signature(role).parameters.values())[1:]:
        value = given[parameter.name]
        if parameter.kind is parameter.KEYWORD_ONLY:
            options[parameter.name] = value
        else:
            arguments.extend(value if parameter.kind is parameter.VAR_POSITIONAL else [value])

    # SIGTERM ends a role as Ctrl-C does: cleanly, so that what it was working on is another's at once.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with Mailbox(server) as mailbox:
            role(mailbox, *arguments, **options)
    except KeyboardInterrupt:
        sys.exit(130)
    except MailboxError as error:
        sys.exit(str(error))


def _add(command: argparse.ArgumentParser, parameter: inspect.Parameter) -> None:
    if parameter.kind is parameter.KEYWORD_ONLY:
        kind = type(parameter.default)
        command.add_argument(f"--{parameter.name}", type=kind, default=parameter.default, metavar=kind.__name__.upper())
    elif parameter.kind is parameter.VAR_POSITIONAL:
        command.add_argument(parameter.name, nargs="+")
    else:
        command.add_argument(parameter.name)
