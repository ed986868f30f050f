"""The mailbox for AI agents: agents that are never online at the same time send each other messages through one broker.

    from mq9 import Mailbox

    mb = Mailbox("nats://localhost:4222")
    box = mb.create(ttl=3600)
    mb.send(box, {"task": "analyze"}, priority="high")
    for message in mb.receive(box): ...

`AsyncMailbox` has the same calls for asyncio. `Broker` runs a whole broker inside this process. Each name is loaded when it is
first asked for: a client never loads the broker, nor the broker the client.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mq9.protocol import Priority
    from mq9.sdk.blocking import Mailbox, Message, Receiver, Watch
    from mq9.sdk.errors import (
        BadRequest,
        Conflict,
        ConnectionFailed,
        Forbidden,
        LimitExceeded,
        MailboxError,
        NotFound,
        StorageFull,
        Timeout,
        TooLarge,
        Unavailable,
    )
    from mq9.sdk.mailbox import AsyncMailbox, AsyncMessage, AsyncReceiver, AsyncWatch
    from mq9.sdk.values import GroupStatus, MailboxEvent, MailboxInfo, Page, Sent, Status
    from mq9.server.embedded import Broker

__all__ = [
    "AsyncMailbox",
    "AsyncMessage",
    "AsyncReceiver",
    "AsyncWatch",
    "BadRequest",
    "Broker",
    "Conflict",
    "ConnectionFailed",
    "Forbidden",
    "GroupStatus",
    "LimitExceeded",
    "Mailbox",
    "MailboxError",
    "MailboxEvent",
    "MailboxInfo",
    "Message",
    "NotFound",
    "Page",
    "Priority",
    "Receiver",
    "Sent",
    "Status",
    "StorageFull",
    "Timeout",
    "TooLarge",
    "Unavailable",
    "Watch",
]

_ELSEWHERE = {
    "mq9.protocol": {"Priority"},
    "mq9.server.embedded": {"Broker"},
    "mq9.sdk.blocking": {"Mailbox", "Message", "Receiver", "Watch"},
    "mq9.sdk.mailbox": {"AsyncMailbox", "AsyncMessage", "AsyncReceiver", "AsyncWatch"},
    "mq9.sdk.values": {"GroupStatus", "MailboxEvent", "MailboxInfo", "Page", "Sent", "Status"},
}


def __getattr__(name: str) -> Any:
    """Load what is asked for; whatever is in none of the other modules is one of the errors."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = next((module for module, names in _ELSEWHERE.items() if name in names), "mq9.sdk.errors")
    value = globals()[name] = getattr(import_module(module), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
