from mq9.mailboxes.blocks import Block, BlockCache
from mq9.mailboxes.group import Handout

def compose(
    handout: Handout, holder: int, cache: BlockCache, now: int, bytes_max: int
) -> tuple[bytes, bool, set[int] | None] | int: ...
def leased_item(data: bytes | Block, offset: int, attempt: int) -> bytes: ...
