class Capacity:
    mailboxes_max: int
    messages_max: int
    mailbox_messages_max: int
    mailbox_bytes_max: int
    message_ids_max: int
    creating: int
    arriving: int
    def __init__(self) -> None: ...
