"""How much a post office may hold in all and in one mailbox (docs/limits.md), and what is on its way into it.

What is on its way counts like what is there, or a client that does not wait for answers would go past a limit.
"""

from mq9.protocol import ProtocolError

cdef uint64_t WITHOUT_LIMIT = <uint64_t>1 << 62


cdef class Capacity:
    """The limits of a post office; at first there are none. What was stored when a limit was set lower stays."""

    def __init__(self):
        self.mailboxes_max = self.messages_max = self.message_ids_max = WITHOUT_LIMIT
        self.mailbox_messages_max = self.mailbox_bytes_max = WITHOUT_LIMIT

    cdef bint has_room(self, Mailbox mailbox, uint64_t messages, uint64_t size) noexcept:
        """Whether there is room in the mailbox and, with `messages` stored in all, beside them, for a record of `size` bytes."""
        return (
            mailbox.count + mailbox.arriving < self.mailbox_messages_max
            and mailbox.size + mailbox.arriving_bytes + size <= self.mailbox_bytes_max
            and messages + self.arriving < self.messages_max
        )

    cdef int look(self, Mailbox mailbox, uint64_t messages, uint64_t ids, Message* message, uint64_t size) except -1:
        """Raise the ProtocolError for a message that has no room; with `messages` stored in all, and `ids` remembered.

        A message that takes the place of another with its key needs room for its bytes only.
        """
        if mailbox.owner is not None and not mailbox.owner.has_room(size):
            raise ProtocolError(429, "the user who owns the mailbox may not store more", "users.max_stored")
        if message.dedup_size and ids >= self.message_ids_max:
            sentence = f"the broker remembers at most {self.message_ids_max} values of Nats-Msg-Id"
            raise ProtocolError(429, sentence, "max_message_ids")
        if self.has_room(mailbox, messages, size):
            return 0
        if mailbox.size + mailbox.arriving_bytes + size > self.mailbox_bytes_max:
            sentence = f"a mailbox may hold at most {self.mailbox_bytes_max} bytes"
            raise ProtocolError(429, sentence, "max_mailbox_bytes")
        if message.key_size and mailbox.keys is not None and mailbox.keys.find(message.key[:message.key_size]):
            return 0
        if mailbox.count + mailbox.arriving >= self.mailbox_messages_max:
            sentence = f"a mailbox may hold at most {self.mailbox_messages_max} messages"
            raise ProtocolError(429, sentence, "max_mailbox_messages")
        raise ProtocolError(507, f"the broker may hold at most {self.messages_max} messages", "max_messages")

    cdef void arrives(self, Mailbox mailbox, uint64_t size) noexcept:
        """A message whose record has `size` bytes is on its way."""
        self.arriving += 1
        mailbox.arriving += 1
        mailbox.arriving_bytes += size
        if mailbox.owner is not None:
            mailbox.owner.arriving += size

    cdef void arrived(self, Mailbox mailbox, uint64_t size) noexcept:
        """It is not any more: it is stored, or refused."""
        self.arriving -= 1
        mailbox.arriving -= 1
        mailbox.arriving_bytes -= size
        if mailbox.owner is not None:
            mailbox.owner.arriving -= size
