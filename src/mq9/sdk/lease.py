"""A message that was leased to this worker: extended in the background until it has been settled (docs/protocol.md §4).

Everything here happens on the event loop, but for `drop`.
"""

from __future__ import annotations

import asyncio
import logging
import math
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from mq9.protocol import NACK_DELAY_MAX_MS
from mq9.sdk.errors import BadRequest, Conflict, MailboxError, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mq9.sdk.operations import Operations

logger = logging.getLogger("mq9")

EXTENSIONS_PER_LEASE: Final = 3
RETRY_S: Final = 0.5
GIVE_BACK_S: Final = 1.0
_DONE: Final = {"ack": "has been acked", "nack": "has been given back", "dead": "has been declared dead"}


class Lease:
    """See the module. It is extended from the beginning, at a third of its time.

    Arguments:
        operations: the way to the broker.
        mail_id: the mailbox.
        group: the group.
        msg_id: the message.
        attempt: which attempt this is, as the broker counts.
        lease_s: how long the lease is, and how long it is again after each extension, in seconds.
        let_go: called with the lease when it has ended.

    Attributes:
        ended: what became of it, as the end of a sentence about the message; None while it is held.
        busy: a callback is at work on the message.
    """

    def __init__(
        self,
        operations: Operations,
        mail_id: str,
        group: str,
        msg_id: int,
        attempt: int,
        lease_s: float,
        let_go: Callable[[Lease], None],
    ) -> None:
        self.msg_id = msg_id
        self.attempt = attempt
        self.ended: str | None = None
        self.busy = False
        self._operations = operations
        self._mail_id = mail_id
        self._group = group
        self._lease_s = lease_s
        self._let_go = let_go
        self._loop = asyncio.get_running_loop()
        self._settled_by: str | None = None
        self._settling = 0
        self._timer: asyncio.TimerHandle | None = None
        self._extension: asyncio.Task[None] | None = None
        self._extend_in(lease_s / EXTENSIONS_PER_LEASE)

    async def settle(self, op: str, details: Mapping[str, Any], timeout: float | None) -> None:
        """Say what has become of the message: `op` is "ack", "nack" or "dead". Saying the same twice is fine.

        Raises:
            Conflict: the lease was lost, or something else was said of the message before.
            NotFound: the message or its mailbox is gone.
            MailboxError: it could not be said; the lease is still held.
        """
        if self.ended is not None:
            if self._settled_by == op:
                return
            raise Conflict(f"message {self.msg_id} {self.ended}")
        try:
            await self._tell(op, details, timeout)
        except (Conflict, NotFound) as error:
            self.end(f"is not this worker's any more: {error.sentence}")
            raise
        self._settled_by = op
        self.end(_DONE[op])

    async def extend(self, timeout: float | None) -> None:
        """Begin the lease anew.

        Raises:
            Conflict: the lease was lost, or the message was settled before.
            NotFound: the message or its mailbox is gone.
            MailboxError: it could not be said.
        """
        if self.ended is not None:
            raise Conflict(f"message {self.msg_id} {self.ended}")
        try:
            await self._tell("extend", {"lease_ms": milliseconds(self._lease_s)}, timeout)
        except (Conflict, NotFound) as error:
            self.end(f"is not this worker's any more: {error.sentence}")
            raise

    async def give_back(self, reason: str | None = None) -> None:
        """Let somebody else have the message at once, as far as the broker can be told within a second."""
        details = {"delay_ms": 0} if reason is None else {"delay_ms": 0, "reason": reason}
        if self.ended is None:
            try:
                await self.settle("nack", details, GIVE_BACK_S)
            except MailboxError as error:
                logger.info("message %d was not given back, so its lease runs out: %s", self.msg_id, error)
            self.end(_DONE["nack"])

    def drop(self) -> None:
        """Nobody holds the message any more who could settle it. From any thread."""
        if self.ended is None and not self._loop.is_closed():
            # RuntimeError: the loop was closed in this very moment, and nobody extends anything any more.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._dropped)

    def end(self, how: str) -> None:
        """Extend it no more. `how`: see `ended`."""
        if self.ended is None:
            self.ended = how
            self._stop_timer()
            self._let_go(self)

    async def _tell(self, op: str, details: Mapping[str, Any], timeout: float | None) -> None:
        """Tell the broker, and let no extension come between."""
        self._stop_timer()
        self._settling += 1
        try:
            body = {"op": op, "attempt": self.attempt, **details}
            await self._operations.settle(self._mail_id, self._group, self.msg_id, body, timeout)
        finally:
            self._settling -= 1
            self._extend_in(self._lease_s / EXTENSIONS_PER_LEASE)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _extend_in(self, seconds: float) -> None:
        if self.ended is None and not self._settling and not self._loop.is_closed():
            self._stop_timer()
            self._timer = self._loop.call_later(seconds, self._extend_soon)

    def _extend_soon(self) -> None:
        self._timer = None
        self._extension = self._loop.create_task(self._extend(), name="mq9 lease")

    async def _extend(self) -> None:
        details = {"op": "extend", "attempt": self.attempt, "lease_ms": milliseconds(self._lease_s)}
        try:
            await self._operations.settle(self._mail_id, self._group, self.msg_id, details, self._lease_s)
        except (Conflict, NotFound) as error:
            if self.ended is None and not self._settling:
                level = logging.WARNING if isinstance(error, Conflict) else logging.INFO
                logger.log(level, "message %d is no longer leased to this worker: %s", self.msg_id, error)
                self.end(f"is not this worker's any more: {error.sentence}")
        except MailboxError as error:
            logger.debug("the lease of message %d could not be extended: %s", self.msg_id, error)
            self._extend_in(min(RETRY_S, self._lease_s / (2 * EXTENSIONS_PER_LEASE)))
        else:
            self._extend_in(self._lease_s / EXTENSIONS_PER_LEASE)

    def _dropped(self) -> None:
        if self.ended is None:
            logger.warning(
                "message %d was let go of without ack(), nack() or dead(); another worker gets it when its lease runs out",
                self.msg_id,
            )
            self.end("has been let go of")


def milliseconds(seconds: float) -> int:
    """Whole milliseconds, not less than `seconds`."""
    return math.ceil(round(seconds * 1000, 3))


def nack_details(delay: float, reason: str | None) -> dict[str, Any]:
    """What belongs to a nack; raises BadRequest for what cannot be said."""
    if isinstance(delay, bool) or not isinstance(delay, (int, float)) or not 0 <= delay <= NACK_DELAY_MAX_MS / 1000:
        raise BadRequest(f"delay must be a number of seconds from 0 to {NACK_DELAY_MAX_MS // 1000}")
    return {"delay_ms": milliseconds(delay), "reason": reason}
