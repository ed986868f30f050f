"""What a figure is."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.generator import Load
    from bench.peers.base import Peer, Server


class Figure(abc.ABC):
    """One piece of work, done by each of `peers` in turn, mq9 being the first of them.

    `key` is its number in docs/design.md, with a letter where that has several; `title` and `conditions` say what is
    done, `unit` what is counted.
    """

    key: str
    title: str
    conditions: str
    unit: str
    peers: tuple[Peer, ...]

    @abc.abstractmethod
    def measure(self, server: Server, scale: float) -> Load:
        """Do the work once on a server that was started for it; `scale` 1.0 is the whole of it.

        Raises RunFailedError when anything was not as promised.
        """
