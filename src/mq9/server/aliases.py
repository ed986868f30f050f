"""What published mq9 clients ask for under other names: MSG.SEND, MSG.QUERY and MSG.DELETE (docs/protocol.md §6).

The operations are those of section 3; here they only get the shapes that those clients read. (The reply to MSG.SEND is
written where every send is answered, in mail.pyx.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mq9.mailboxes.leased import leased_item
from mq9.mailboxes.reading import StoredMessage

if TYPE_CHECKING:
    from mq9.mailboxes.blocks import Block
    from mq9.mailboxes.mailbox import Mailbox
    from mq9.mailboxes.operations import Done


class QueryShape:
    """A fetch as MSG.QUERY answers it: the items of MSG.FETCH."""

    def item(self, message: StoredMessage, data: bytes | Block, offset: int, details: dict[str, Any]) -> bytes:
        """One message."""
        return leased_item(data, offset, 0)

    def reply(self, mailbox: Mailbox, items: list[bytes], following: int | None) -> bytes:
        """The whole answer."""
        return b'{"error": "", "messages": [%b]}' % b", ".join(items)


def with_empty_error(done: Done) -> Done:
    """Success says so in `error`, as everything under MSG. does."""
    return lambda result: done({"error": "", **result} if isinstance(result, dict) else result)
