class Owner:
    name: bytes
    mailboxes_max: int
    bytes_max: int
    mailboxes: int
    creating: int
    stored: int
    arriving: int
    def __init__(self, name: bytes) -> None: ...
    def may_create(self) -> bool: ...
