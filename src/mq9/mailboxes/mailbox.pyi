from collections.abc import Callable

from mq9.mailboxes.format import MailboxRow
from mq9.mailboxes.groups import MailboxGroups
from mq9.mailboxes.owner import Owner
from mq9.native.bytemap import Named
from mq9.protocol import ProtocolError

class Mailbox(Named):
    number: int
    created_ms: int
    expires_ms: int
    size: int
    count: int
    ttl_s: int
    public: bool
    owner_only: bool
    owner: Owner | None
    gone: bool
    desc: bytes
    receivers: list[Receiver] | None
    groups: MailboxGroups | None
    watchers: list[Callable[[str], None]] | None
    def __init__(self, row: MailboxRow, owner: Owner | None = None) -> None: ...
    def set_end(self, ttl_s: int, expires_ms: int) -> None: ...
    def is_expired(self, now: int) -> bool: ...
    def last_id(self, now: int) -> int: ...
    def where(self, msg_id: int, now: int) -> tuple[int, int] | None: ...
    def look_up(self, msg_id: int, now: int) -> tuple[int, bool] | None: ...
    def page(self, after: int, mask: int, limit: int, now: int) -> list[tuple[int, int, int, int, int]]: ...
    def watch(self, watcher: Callable[[str], None]) -> None: ...
    def unwatch(self, watcher: Callable[[str], None]) -> None: ...
    def tell(self, event: str) -> None: ...

class Receiver:
    mailbox: Mailbox

class Sender: ...

class Told(Sender):
    def __init__(self, told: Callable[[int | ProtocolError, bool], None]) -> None: ...
