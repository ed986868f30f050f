"""What a figure may ask of whoever is measured."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Storage:
    """Where to send durable messages, and what the reply to a send promises.

    `id_key` is the reply's key for the message's number, which with `ids_per_subject` is distinct within its subject
    only.
    """

    subjects: list[str]
    id_key: str
    ids_per_subject: bool


class Server(abc.ABC):
    """One started server, with nothing stored in it yet, on 127.0.0.1:`port`."""

    port: int

    def open_storage(self, count: int) -> Storage:
        """Make `count` mailboxes, or what is nearest to that. Raises NotImplementedError where nothing is stored."""
        raise NotImplementedError

    def read_back(self, storage: Storage) -> list[str]:
        """Return the subjects to subscribe to in order to get all that was stored; none when it cannot be got back."""
        raise NotImplementedError


class Peer(abc.ABC):
    """A broker in one configuration.

    `name` is what the table calls it, `promise` what an answer from it means. `pace` is the share of a figure's
    messages that it is given: less than 1 for a broker that would take minutes. A `yardstick` measures the generator
    and is not compared with.
    """

    name: str
    promise: str
    pace: float = 1.0
    yardstick: bool = False

    def missing(self) -> str | None:
        """Return why it cannot be measured on this machine, or None when it can. May install it."""
        return None

    @abc.abstractmethod
    def version(self) -> str:
        """Return what it calls its own version."""

    @abc.abstractmethod
    def start(self, directory: Path) -> AbstractContextManager[Server]:
        """Start it with `directory`, which is empty, for everything that it writes.

        Entering raises RunFailedError when it does not start; leaving stops it.
        """
