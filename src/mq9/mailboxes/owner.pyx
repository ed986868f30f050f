"""The owner of a mailbox: the user who created it, by name, as the mailbox's row says (docs/protocol.md §8).

An owner is there as long as the post office, with or without mailboxes, and whether or not the configuration still has such a
user: what one of that name has created is theirs. The limits are the configuration's; what counts towards them is counted here.
"""


cdef class Owner:
    """A user who may create mailboxes.

    Arguments:
        name: the user's name.
    """

    def __init__(self, bytes name not None):
        self.name = name

    def may_create(self):
        """Whether one more mailbox is within the limit."""
        return not self.mailboxes_max or self.mailboxes + self.creating < self.mailboxes_max

    cdef bint has_room(self, uint64_t size) noexcept:
        """Whether a record of `size` bytes is within the limit, beside those that are stored or on their way."""
        return not self.bytes_max or self.stored + self.arriving + size <= self.bytes_max
