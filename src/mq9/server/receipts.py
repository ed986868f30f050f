"""Receipts: what became of a message, for whoever sent it (docs/protocol.md §5)."""

from __future__ import annotations

from typing import Any

from mq9.mailboxes.mailbox import Mailbox
from mq9.mailboxes.office import PostOffice
from mq9.protocol import PRIORITIES, ProtocolError


def receipt(office: PostOffice, mailbox: Mailbox, msg_id: int, now: int) -> dict[str, Any]:
    """What there is to say of a message at `now` (Unix ms), from the index and from each group of its mailbox.

    Raises ProtocolError 404 for a msg_id that was never given out.
    """
    if not 0 < msg_id <= office.last_msg_id:
        raise ProtocolError(404, "no such message")
    found = mailbox.look_up(msg_id, now)
    rank, offered = (None, False) if found is None else found
    groups = {}
    for group in () if mailbox.groups is None else mailbox.groups.by_name.values():
        if rank is not None or msg_id in group.open:
            state, attempts = group.state_of(msg_id, len(PRIORITIES) if rank is None else rank)
            groups[group.name.decode()] = {"state": state, "attempts": attempts}
    return {
        "msg_id": msg_id,
        "state": "gone" if rank is None else "delayed" if rank == len(PRIORITIES) else "stored",
        "offered": offered,
        "groups": groups,
    }
