"""Loads that several figures are made of."""

from __future__ import annotations

import contextlib
import subprocess
from typing import TYPE_CHECKING

from bench import generator
from bench.generator import RunFailedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.generator import Load
    from bench.peers.base import Server, Storage

SIZE = 128
CONNECTIONS = 16
IN_FLIGHT = 256
SUBSCRIPTIONS_MAX = 50_000  # of one client; mq9's own limit is twice that


def store(
    server: Server,
    storage: Storage,
    count: int,
    connections: int = CONNECTIONS,
    in_flight: int = IN_FLIGHT,
    *,
    spread: bool = False,
) -> Load:
    """Have `count` messages stored by each of `connections`, as fast as that can be answered with so many `in_flight` on each.

    With `spread` each goes round over its share of the subjects, otherwise it has one of them.
    """
    return generator.run(
        "requests",
        storage.subjects,
        port=server.port,
        connections=connections,
        in_flight=in_flight,
        count=count,
        size=SIZE,
        spread=spread,
        **storage.options,
    )


def create(server: Server, count: int, names: Path, first: int = 0) -> Load:
    """Make `count` mailboxes, rounded up to a multiple of the connections; their names go to a file, one on a line.

    `first` is the number of the first, where names are made of numbers.
    """
    creation = server.creation()
    return generator.run(
        "ask",
        [creation.subject],
        port=server.port,
        connections=CONNECTIONS,
        in_flight=IN_FLIGHT,
        count=-(-count // CONNECTIONS),
        first=first,
        body=creation.body,
        id_key=creation.key,
        values_file=str(names),
    )


def look_at(server: Server, names: Path) -> None:
    """See that everything in the file of names is there. Raises RunFailedError for the first that is not."""
    creation = server.creation()
    with names.open() as lines:
        count = sum(1 for _ in lines)
    generator.run(
        "ask",
        [creation.look_subject],
        port=server.port,
        connections=CONNECTIONS,
        in_flight=16,
        count=count // CONNECTIONS,
        body=creation.look_body,
        id_key=creation.key,
        subjects_file=str(names),
    )


@contextlib.contextmanager
def idle(server: Server, count: int) -> Iterator[None]:
    """Hold `count` connections that do nothing while the block runs; raise RunFailedError when one is gone in the end."""
    words = generator.command("idle", [], port=server.port, connections=count)
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        if process.stdout.readline() != "ready\n":
            raise RunFailedError("the idle connections could not be opened")
        yield
    finally:
        # Its input ends, upon which it looks whether all are there, and ends.
        _, errors = process.communicate()
    if process.returncode != 0:
        raise RunFailedError(errors.strip() or f"the load generator ended with status {process.returncode}")
