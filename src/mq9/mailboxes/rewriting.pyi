from collections.abc import Callable

from mq9.mailboxes.blocks import Block, BlockTable
from mq9.mailboxes.numbers import Numbers

class Source: ...

class Rewriting:
    blocks: list[Block]
    sources: dict[int, Source]
    def __init__(
        self, table: BlockTable, mailboxes: Numbers, next_block: int, ended: Callable[[bool], None]
    ) -> None: ...
    def add(self, number: int, data: Block | bytes, now: int) -> bool: ...
    def copy_of(self, number: int, offset: int) -> tuple[int, int] | None: ...
