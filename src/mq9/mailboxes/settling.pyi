from mq9.mailboxes.group import Group
from mq9.protocol import AckRequest, ProtocolError

def settle(group: Group, request: AckRequest, holder: int, now: int) -> list[tuple[int, ProtocolError]]: ...
