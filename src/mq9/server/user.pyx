"""A user: what all connections of one are allowed together, and how much of it they have used (docs/protocol.md §8)."""


cdef class Rate:
    """How much may be published, as a number in a second; what was not used up is kept for a second.

    Arguments:
        rate: messages a second, requests included; 0 for no limit.
    """

    def __init__(self, double rate):
        self.rate = rate
        self._spare = max(rate, 1.0)
        self._counted_at = -1.0

    cdef void _refill(self, double now, double most) noexcept:
        """What may be done at once grows with the time that has passed, up to `most`."""
        if self._counted_at >= 0.0:
            self._spare = min(most, self._spare + (now - self._counted_at) * self.rate)
        self._counted_at = now

    cdef bint spend(self) noexcept:
        """A message is published; false when `wait` says how long its client has to wait before the next one."""
        self._spare -= 1.0
        return self._spare >= 0.0

    def wait(self, double now):
        """For how many seconds nothing more may be published, at `now` (of any clock that only goes forward), after a message was."""
        self._refill(now, max(self.rate, 1.0) - 1.0)
        return max(0.0, -self._spare / self.rate)

    def published(self, double now):
        """As `spend`, and `wait` if need be."""
        return 0.0 if self.spend() else self.wait(now)

    def take(self, double now):
        """Whether one more is within the rate at `now`; then it counts."""
        self._refill(now, max(self.rate, 1.0))
        if self._spare < 1.0:
            return False
        self._spare -= 1.0
        return True


cdef class User(Rate):
    """A user of the configuration.

    Arguments:
        name: by which the user is known; the owner of what the user creates.
        proof: what a client shows to be this user, in a form that can be compared with that of a later configuration.
        permissions: None allows everything.
        owner: who the mailboxes are of that the user creates.
        connections_max, subscriptions_max: of all connections together; 0 for no limit.
        rate: messages a second that may be published, requests included; 0 for no limit.
    """

    def __init__(
        self, str name not None, proof, Permissions permissions, Owner owner not None, Py_ssize_t connections_max=0,
        Py_ssize_t subscriptions_max=0, double rate=0.0,
    ):
        Rate.__init__(self, rate)
        self.name = name
        self.proof = proof
        self.permissions = permissions
        self.owner = owner
        self.connections_max = connections_max
        self.subscriptions_max = subscriptions_max

    def is_full(self):
        """Whether one more connection is one too many."""
        return 0 < self.connections_max <= self.connections
