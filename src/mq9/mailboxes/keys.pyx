"""The keys of a mailbox's messages: of those with one key there is never more than one (docs/protocol.md §3, send).

A mailbox has this from its first message with a key on. What is not durable yet is not in here.
"""


cdef class Keys:
    """No keys yet."""

    def __cinit__(self):
        self._msg_ids = {}
        self._keys = {}

    cdef int put(self, bytes key, uint64_t msg_id) except -1:
        """The message has this key, and no other one does."""
        self._msg_ids[key] = msg_id
        self._keys[msg_id] = key
        return 0

    cdef int forget(self, uint64_t msg_id) except -1:
        """The message is gone."""
        key = self._keys.pop(msg_id, None)
        if key is not None and self._msg_ids.get(key) == msg_id:
            del self._msg_ids[key]
        return 0

    cdef uint64_t find(self, bytes key) except? 0:
        """The msg_id of the message with this key, or 0."""
        return self._msg_ids.get(key, 0)
