from collections.abc import Buffer

class StoredMessage:
    msg_id: int
    rank: int
    time_ms: int
    headers: dict[str, list[str]]
    payload: bytes
    def header(self, name: str) -> str | None: ...

def read_message(data: Buffer, offset: int) -> StoredMessage: ...
