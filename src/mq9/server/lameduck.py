"""Going away so that clients hardly notice: nats-server's lame duck mode, in which clients are sent off one after the other.

Who reconnects does so to another address, or to the broker that takes this one's place, and not all in the same moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mq9.mailboxes.office import PostOffice
    from mq9.protocol import ProtocolError
    from mq9.server.mail import MailHub
    from mq9.server.session import Session

log = logging.getLogger("mq9")

REASON = "Server Shutdown"
_PAUSE_MAX_S = 1.0
# How long a client's unanswered requests may keep it here.
_DURABLE_TIMEOUT_S = 5.0


class LameDuck:
    """The way out of a broker that no longer listens.

    Arguments:
        hub: its clients.
        office: what they have asked for.
        grace_s: seconds in which nobody is sent off yet.
        duration_s: seconds that all of it may take, the grace included.
    """

    def __init__(self, hub: MailHub, office: PostOffice, grace_s: float, duration_s: float) -> None:
        self._hub = hub
        self._office = office
        self._grace_s = grace_s
        self._closing_s = max(duration_s - grace_s, _PAUSE_MAX_S)

    async def leave(self) -> None:
        """Tell the clients, wait, and end their connections, each when everything that it asked for is durable and answered."""
        log.info("lame duck mode: no new clients; %d are asked to leave", len(self._hub.sessions))
        for session in list(self._hub.sessions.values()):
            session.tell_lame_duck()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._hub.all_gone.wait(), self._grace_s)
        sessions = list(self._hub.sessions.values())
        pause_s = min(self._closing_s / max(len(sessions), 1), _PAUSE_MAX_S)
        loop = asyncio.get_running_loop()
        began, gone = loop.time(), 0
        while gone < len(sessions):
            # As many as should be gone by now: with very many clients, or a slow disk, it is several at a time.
            due = math.ceil(len(sessions) * (loop.time() - began) / self._closing_s)
            leaving = sessions[gone : max(due, gone + 1)]
            await self._send_off(leaving)
            gone += len(leaving)
            if gone < len(sessions):
                await asyncio.sleep(random.uniform(pause_s / 2, pause_s))  # noqa: S311 - nobody gains from guessing it
        log.info("lame duck mode: all clients are gone")

    async def _send_off(self, sessions: list[Session]) -> None:
        for session in sessions:
            session.pause_reading()
        durable = asyncio.Event()
        self._office.then(_Durable(durable))
        try:
            await asyncio.wait_for(durable.wait(), _DURABLE_TIMEOUT_S)
        except TimeoutError:
            log.warning("lame duck mode: the storage is unavailable; clients leave without their answers")
        self._hub.flush()
        for session in sessions:
            session.close(REASON)


class _Durable:
    """An effect that says that everything asked for before it is durable, or refused."""

    def __init__(self, event: asyncio.Event) -> None:
        self._event = event

    def apply(self, _now: int) -> None:
        self._event.set()

    def fail(self, _error: ProtocolError) -> None:
        self._event.set()
