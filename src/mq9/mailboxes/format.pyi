from typing import Final, NamedTuple, Self

MARKS_KEY: Final[bytes]

class DamagedError(ValueError): ...

def seal_block(data: bytearray | memoryview, number: int, records: int, now: int) -> None: ...
def check_block(data: bytes | memoryview, number: int) -> int: ...
def record_places(data: bytes | memoryview) -> set[int]: ...
def seal_row(key: bytes, body: bytes) -> bytes: ...
def open_row(key: bytes, value: bytes) -> bytes: ...

class MailboxRow(NamedTuple):
    number: int
    mail_id: bytes
    public: bool
    desc: bytes
    ttl_s: int
    created_ms: int
    expires_ms: int
    owner: bytes = b""
    owner_only: bool = False
    @property
    def key(self) -> bytes: ...
    def pack(self) -> bytes: ...
    @classmethod
    def unpack(cls, key: bytes, value: bytes) -> Self: ...

def group_key(mailbox: int, group: int, handout: int) -> bytes: ...

class GroupRow(NamedTuple):
    mailbox: int
    number: int
    name: bytes
    next_handout: int
    until_ms: int
    cursors: tuple[int, ...]
    @property
    def key(self) -> bytes: ...
    def pack(self) -> bytes: ...
    @classmethod
    def unpack(cls, key: bytes, value: bytes) -> Self: ...

class HandoutRow(NamedTuple):
    items: list[tuple[int, int, int, int, int, bytes]]
    @classmethod
    def unpack(cls, key: bytes, value: bytes) -> Self: ...

class Marks(NamedTuple):
    msg_id: int
    block: int
    mailbox: int
    def pack(self) -> bytes: ...
    @classmethod
    def unpack(cls, value: bytes) -> Self: ...
