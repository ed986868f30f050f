"""Receipts: what became of a message, for whoever sent it (docs/protocol.md §5)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from mq9.mailboxes.mailbox import Mailbox
from mq9.mailboxes.office import PostOffice
from mq9.protocol import PRIORITIES, ProtocolError, StatusRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mq9.mailboxes.group import Group

# Groups in one reply: a slice of time.
GROUPS_MAX = 1_000
# What there is in a reply beside its groups, and around the name of one, at most.
_REPLY_OVERHEAD = 128
_GROUP_OVERHEAD = 48


def receipt(
    office: PostOffice, mailbox: Mailbox, msg_id: int, request: StatusRequest, payload_max: int, now: int
) -> dict[str, Any]:
    """What there is to say of a message at `now` (Unix ms), from the index and from the groups of its mailbox that are asked for.

    With more groups than go into a reply of `payload_max` bytes it has those that come first, and `next`.

    Raises ProtocolError 404 for a msg_id that was never given out.
    """
    if not 0 < msg_id <= office.last_msg_id:
        raise ProtocolError(404, "no such message")
    found = mailbox.look_up(msg_id, now)
    rank, offered = (None, False) if found is None else found
    reply: dict[str, Any] = {
        "msg_id": msg_id,
        "state": "gone" if rank is None else "delayed" if rank == len(PRIORITIES) else "stored",
        "offered": offered,
        "groups": {},
    }
    by_name: Mapping[bytes, Group] = {} if mailbox.groups is None else mailbox.groups.by_name
    names = _names(by_name, request)
    size, last = _REPLY_OVERHEAD, ""
    for count, key in enumerate(names):
        name = key.decode()
        shown = len(json.dumps(name))
        size += shown + _GROUP_OVERHEAD
        if count == GROUPS_MAX or (count and size + shown > payload_max):  # it may be the one named in `next`
            reply["next"] = last
            break
        last = name
        group = by_name[key]
        if rank is not None or msg_id in group.open:
            state, attempts = group.state_of(msg_id, len(PRIORITIES) if rank is None else rank)
            reply["groups"][name] = {"state": state, "attempts": attempts}
    return reply


def _names(by_name: Mapping[bytes, Group], request: StatusRequest) -> Iterable[bytes]:
    """The names of the groups that are asked for, in their order."""
    if request.group is not None:
        name = request.group.encode()
        return (name,) if name in by_name else ()
    if request.after is None:
        return sorted(by_name)
    after = request.after.encode()
    return sorted(name for name in by_name if name > after)
