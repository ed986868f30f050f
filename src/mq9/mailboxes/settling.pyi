from collections.abc import Callable

from mq9.mailboxes.group import Group
from mq9.protocol import AckRequest, ProtocolError

def settle(
    group: Group, request: AckRequest, holder: int, now: int, is_connected: Callable[[int], bool]
) -> list[tuple[int, ProtocolError]]: ...
