from mq9.mailboxes.blocks import Block
from mq9.mailboxes.effect import Effect
from mq9.mailboxes.group import Group, Handout
from mq9.mailboxes.mailbox import Mailbox
from mq9.mailboxes.rewriting import Rewriting
from mq9.store.contract import Table

class Batch:
    blocks: list[Block]
    count: int
    effects: list[tuple[int, Effect]]
    rows: list[tuple[Table, bytes, bytes | None]]
    dropped: list[int]
    expired: list[int]
    changes: list[tuple[bytes, tuple[object]]]
    groups: list[tuple[Group, set[Handout]]]
    ended: list[bytes]
    kills: list[tuple[Mailbox, int]]
    keyed: list[tuple[int, bytes]]
    overtaken: list[tuple[int, int]]
    def __bool__(self) -> bool: ...
    def drop_messages(self) -> None: ...
    def take_rewriting(self, rewriting: Rewriting) -> None: ...
    def drop_rewriting(self) -> None: ...
    def then(self, effect: Effect) -> None: ...
