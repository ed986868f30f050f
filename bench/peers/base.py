"""What a figure may ask of whoever is measured."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Storage:
    """Where to send durable messages, and what the answer to a send promises.

    `dialect` is what the generator calls the way to speak to this broker. `id_key` is the reply's key for the message's
    number, which with `ids_per_subject` is distinct within its subject only.
    """

    subjects: list[str]
    dialect: str
    id_key: str = "msg_id"
    ids_per_subject: bool = False

    @property
    def options(self) -> dict[str, str | bool]:
        """The generator's options for it."""
        return {"dialect": self.dialect, "id_key": self.id_key, "ids_per_subject": self.ids_per_subject}


@dataclass(frozen=True, slots=True)
class Creation:
    """How something like a mailbox is made, and how one that was made is asked for.

    `subject` and `body` are the request, % being its number, and `key` where the answer has the name of what was made.
    `look_subject`, with that name behind it, and `look_body` are a request that is answered with the same.
    """

    subject: str
    body: str
    key: str
    look_subject: str
    look_body: str


class Server(abc.ABC):
    """One started server, with nothing stored in it yet, on 127.0.0.1:`port`, in the process `pid`."""

    port: int
    pid: int

    def open_storage(self, count: int) -> Storage:
        """Make `count` mailboxes, or what is nearest to that. Raises NotImplementedError where nothing is stored."""
        raise NotImplementedError

    def read_back(self, storage: Storage) -> list[str]:
        """Return the subjects to receive from in order to get all that was stored; none when it cannot be got back."""
        raise NotImplementedError

    def listen(self, storage: Storage) -> str:
        """Return the subject to subscribe to for what is sent to the first subject from now on."""
        raise NotImplementedError

    def open_queue(self, storage: Storage) -> str:
        """Return what workers are to work on, which is what was sent to the first subject."""
        raise NotImplementedError

    def check_worked(self, storage: Storage) -> None:
        """Raise RunFailedError when something is left for workers, or was given to them and is not acked."""
        del storage

    def creation(self) -> Creation:
        """Say how a mailbox is made, or what is nearest to that."""
        raise NotImplementedError


class Peer(abc.ABC):
    """A broker in one configuration, used in one way.

    `name` is what the table calls it, `promise` what an answer from it means. `pace` is the share of a figure's
    messages that it is given: less than 1 for a broker that would take minutes. A `yardstick` measures the generator
    and is not compared with. `setting` is what a figure does in another way for this one.
    """

    name: str
    promise: str
    pace: float = 1.0
    yardstick: bool = False
    syncs: bool | None = None
    setting: Any = None

    def missing(self) -> str | None:
        """Return why it cannot be measured on this machine, or None when it can. May install it."""
        return None

    @abc.abstractmethod
    def version(self) -> str:
        """Return what it calls its own version."""

    @abc.abstractmethod
    def start(self, directory: Path) -> AbstractContextManager[Server]:
        """Start it with `directory` for everything that it writes.

        Entering raises RunFailedError when it does not start; leaving stops it.
        """
