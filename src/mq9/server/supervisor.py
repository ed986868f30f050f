"""Telling systemd how the broker is: the sd_notify protocol, a datagram to the socket that NOTIFY_SOCKET names.

Whatever else started the broker has not set NOTIFY_SOCKET, and is told nothing.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Mapping


class Supervisor:
    """Who started the broker, and wants to know when it is ready.

    Arguments:
        environment: of the process.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # One that begins with @ is abstract: it has no file.
        self._address = "\0" + address[1:] if address.startswith("@") else address

    def ready(self, status: str) -> None:
        """The broker is there for clients; `status` is one line for people."""
        self._tell(f"READY=1\nSTATUS={' '.join(status.splitlines())}")

    def reloading(self) -> None:
        """The broker reads its configuration again; `ready` says when it has."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The broker is about to end, when everything is on disk."""
        self._tell("STOPPING=1")

    def _tell(self, message: str) -> None:
        if not self._address:
            return
        # Who does not listen any more misses nothing that the broker should fail for.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
            told.connect(self._address)
            told.sendall(message.encode())
