"""What the operations answer with, apart from messages: mailboxes, what happened to them, what was sent, pages of messages."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from mq9.protocol import PRIVATE_PREFIX, masked
from mq9.sdk.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Self

ItemT = TypeVar("ItemT")


def moment(unix_s: float | None) -> datetime | None:
    """Unix seconds as a UTC datetime; None for None and for what no datetime can hold."""
    if not isinstance(unix_s, (int, float)):
        return None
    try:
        return datetime.fromtimestamp(unix_s, UTC)
    except (ValueError, OverflowError, OSError):
        return None


class MailboxInfo(str):
    """A mailbox as the broker described it: the mail_id itself, with the rest of the description on it.

    It is a `str`, so it goes wherever a mail_id is expected, into an f-string and into JSON. `box["mail_id"]` reads the
    broker's answer as it came (times in Unix seconds); the attributes are the same, typed.

    Arguments:
        description: the broker's JSON object for one mailbox (docs/protocol.md §3, create and list).
    """

    __slots__ = ("_description",)
    _description: dict[str, Any]

    def __new__(cls, description: Mapping[str, Any]) -> Self:
        """Take the mail_id for the string, and keep the rest."""
        self = super().__new__(cls, description["mail_id"])
        self._description = dict(description)
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._description,)

    @property
    def mail_id(self) -> str:
        """The address of the mailbox; for a private one also the credential to it."""
        return str(self)

    @property
    def drop_id(self) -> str:
        """The address to give to senders: whoever has it can send and ask for `status`, and cannot read the mailbox.

        Raises:
            BadRequest: the broker has not told it; only `create` does, not `list`.
        """
        found = self._description.get("drop_id")
        if not isinstance(found, str):
            raise BadRequest("the broker has not told the drop_id of this mailbox: create does, list does not")
        return found

    @property
    def owner_only(self) -> bool:
        """Whether only the user who created it may do more with it than send; of `list` it is not known, and False."""
        return bool(self._description.get("owner_only", False))

    @property
    def is_new(self) -> bool:
        """False when create found a mailbox of this name that was already there."""
        return bool(self._description.get("is_new", False))

    @property
    def public(self) -> bool:
        """Whether `list` shows it."""
        return bool(self._description.get("public", not self.startswith(PRIVATE_PREFIX)))

    @property
    def ttl(self) -> int:
        """Seconds from its creation, or its last renewal, to its end; 0 for a mailbox that never ends."""
        return int(self._description.get("ttl") or 0)

    @property
    def desc(self) -> str:
        """What its creator wrote about it."""
        return str(self._description.get("desc") or "")

    @property
    def messages(self) -> int | None:
        """How many messages it held when it was listed; None when the broker was not asked (create)."""
        return self._description.get("messages")

    @property
    def created_at(self) -> datetime | None:
        """When it was created, in UTC."""
        return moment(self._description.get("created_at"))

    @property
    def expires_at(self) -> datetime | None:
        """When it ends, in UTC; None for a mailbox that never ends."""
        return moment(self._description.get("expires_at") or None)

    def get(self, key: str, default: Any = None) -> Any:
        """One key of the broker's answer as it came."""
        return self._description.get(key, default)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return self._description[key]
        return super().__getitem__(key)

    def __repr__(self) -> str:
        shown = masked(str(self)) if self.startswith(PRIVATE_PREFIX) else str(self)
        return f"<mailbox {shown} ttl={self.ttl}{' public' if self.public else ''}>"


class Sent(int):
    """The msg_id of a message that was sent, with what else the broker said of it (docs/protocol.md §3, send).

    Arguments:
        answer: the broker's JSON object.

    Attributes:
        duplicate: a message with this `dedup_id` had been sent before (or the answer to it was lost, and it was sent again);
            this is the msg_id of the first, and nothing was stored again.
        pending: how many messages the mailbox now holds, delayed ones included; None when the broker did not say.
        receivers: how many were listening to the mailbox; None when the broker did not say.
    """

    duplicate: bool
    pending: int | None
    receivers: int | None

    def __new__(cls, answer: Mapping[str, Any]) -> Self:
        """Take the msg_id for the number, and keep the rest."""
        self = super().__new__(cls, answer["msg_id"])
        self.duplicate = bool(answer.get("duplicate", False))
        self.pending = answer.get("pending")
        self.receivers = answer.get("receivers")
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        told = {"duplicate": self.duplicate, "pending": self.pending, "receivers": self.receivers}
        return type(self), ({"msg_id": int(self), **told},)


@dataclass(frozen=True, slots=True)
class GroupStatus:
    """What has become of a message in one group: one of the values of `Status.groups`.

    `state` is "waiting", "leased", "done" or "dead"; `attempts` is how often it was handed to a worker of the group.
    """

    state: str
    attempts: int


@dataclass(frozen=True, slots=True)
class Status:
    """What has become of a message (docs/protocol.md §4, STATUS).

    `state` is "stored", "delayed" (it is not visible yet) or "gone" (deleted, expired or replaced). `offered` says whether it
    was written to at least one receiver since the broker was started. `groups` has an entry for each group on the mailbox.
    """

    msg_id: int
    state: str
    offered: bool
    groups: dict[str, GroupStatus]

    @classmethod
    def told(cls, answer: Mapping[str, Any]) -> Self:
        """The status in the broker's JSON object."""
        groups = {
            name: GroupStatus(str(group["state"]), int(group["attempts"]))
            for name, group in (answer.get("groups") or {}).items()
        }
        return cls(int(answer["msg_id"]), str(answer["state"]), bool(answer.get("offered")), groups)


class MailboxEvent:
    """What happened to a public mailbox: one item of `list` with a callback (docs/protocol.md §3).

    Arguments:
        event: "created", "renewed", "expired" or "removed".
        mailbox: the mailbox as the broker described it.
    """

    __slots__ = ("event", "mailbox")

    def __init__(self, event: str, mailbox: MailboxInfo) -> None:
        self.event = event
        self.mailbox = mailbox

    def __repr__(self) -> str:
        return f"<{self.event} {self.mailbox!r}>"


class Page(list[ItemT], Generic[ItemT]):
    """A list that knows how to go on: `next` is the `after` of the following page, or None after the last one."""

    __slots__ = ("next",)

    def __init__(self, items: Iterable[ItemT] = (), following: int | None = None) -> None:
        super().__init__(items)
        self.next = following
