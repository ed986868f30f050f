from mq9.mailboxes.blocks import Block

class StoredMessage:
    msg_id: int
    rank: int
    time_ms: int
    headers: dict[str, list[str]]
    header_block: bytes
    payload: bytes
    def header(self, name: str) -> str | None: ...

def read_message(data: bytes | Block, offset: int) -> StoredMessage: ...
