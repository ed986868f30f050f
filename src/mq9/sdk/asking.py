"""Request and reply between parties that need not be online together: a mailbox for one answer."""

from __future__ import annotations

import asyncio
import math
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from mq9.protocol import HEADER_CORRELATION_ID, HEADER_REPLY_TO
from mq9.sdk.errors import MailboxError, Timeout
from mq9.sdk.inflow import Inflow

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mq9.sdk.message import Record
    from mq9.sdk.operations import Operations

GRACE_S: Final = 60
CLEAR_UP_S: Final = 1.0


async def request(
    operations: Operations,
    mail_id: str,
    payload: Any,
    priority: str | None,
    headers: Mapping[str, str] | None,
    options: Mapping[str, Any],
    timeout: float | None,
) -> Record:
    """Send a message with a reply mailbox of its own, and wait for the answer; see `AsyncMailbox.request`.

    Arguments:
        options: headers of the message by their protocol names; a correlation id is made up when there is none.
    """
    timeout_s = operations.limit(timeout)
    deadline = asyncio.get_running_loop().time() + timeout_s
    box = await operations.create({"ttl": math.ceil(timeout_s) + GRACE_S}, timeout_s, spare=True)
    feed = Inflow(operations, box, None, operations.timeout_s)
    try:
        await feed.start()
        correlation_id = options.get(HEADER_CORRELATION_ID) or secrets.token_urlsafe(12)
        told = {**options, HEADER_REPLY_TO: box.drop_id, HEADER_CORRELATION_ID: correlation_id}
        remaining_s = max(0.001, deadline - asyncio.get_running_loop().time())
        sent = await operations.send(mail_id, payload, priority, headers, told, remaining_s)
        answer = await _answer(feed, correlation_id, deadline)
    finally:
        await feed.finish()
        # When there is no broker just now, its ttl ends it.
        with suppress(MailboxError):
            await operations.remove(box, CLEAR_UP_S)
    if answer is None:
        raise Timeout(f"message {int(sent)} was not answered within {timeout_s:g} s")
    return answer


async def _answer(feed: Inflow, correlation_id: str, deadline: float) -> Record | None:
    """The answer, or None when it has not come by `deadline` (of the event loop's clock)."""
    while await feed.ready(max(0.0, deadline - asyncio.get_running_loop().time())):
        record = feed.take()
        # Whoever answers by hand may leave the correlation id out: nobody else knows this mailbox.
        if record is not None and record.header(HEADER_CORRELATION_ID) in {None, correlation_id}:
            return record
    return None
