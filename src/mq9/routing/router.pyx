"""The subscription index of core NATS.

Subscriptions live in a trie of subject tokens. What it answers for a subject is kept as a Route, so that publishing to the same
subject again costs one look-up. A change to a literal subscription drops the one Route that it concerns; a change to a wildcard
one makes a new generation, and older Routes are built again when they are next asked for.
"""

from cpython.object cimport PyObject

from mq9.routing.subjects cimport is_literal

cdef enum:
    # Routes kept; past this all are dropped and built again as needed (request inboxes are used once each).
    ROUTES_MAX = 16384


cdef class Subscription:
    """One client's interest in a subject.

    Arguments:
        subject: valid for subscribing.
        queue: the queue group, or None.
        sid: the client's own name for it.
    """

    def __init__(self, bytes subject not None, bytes queue, bytes sid not None):
        self.subject = subject
        self.queue = queue
        self.sid = sid

    cdef bint deliver(self, Publish* frame) except -1:
        """Write the message to the client; False when this client does not get it, so that another of its group may."""
        return False


cdef class Route(Named):
    """Everybody who gets what is published to one subject."""


cdef class _Node:
    """One token's place in the trie: who subscribed up to here, and what may follow."""

    def __cinit__(self):
        self.children = {}
        self.plain = []
        self.queues = {}
        self.plain_rest = []
        self.queues_rest = {}

    cdef bint is_empty(self):
        return not (self.children or self.star is not None or self.plain or self.queues or self.plain_rest or self.queues_rest)


cdef int _collect(_Node node, list tokens, Py_ssize_t at, list plain, dict queues) except -1:
    """Add to `plain` and `queues` (name → members) all whose subject matches `tokens` from `at` on."""
    cdef _Node child
    if at == len(tokens):
        _add_all(node.plain, node.queues, plain, queues)
        return 0
    _add_all(node.plain_rest, node.queues_rest, plain, queues)
    child = <_Node>node.children.get(tokens[at])
    if child is not None:
        _collect(child, tokens, at + 1, plain, queues)
    if node.star is not None:
        _collect(node.star, tokens, at + 1, plain, queues)
    return 0


cdef int _add_all(list from_plain, dict from_queues, list plain, dict queues) except -1:
    plain.extend(from_plain)
    for name, members in from_queues.items():
        queues.setdefault(name, []).extend(members)
    return 0


cdef class Router:
    """The subscriptions of all clients, and delivery to those that match."""

    def __init__(self):
        self._root = _Node()
        self._routes = ByteMap()
        self._spread = 0x9E3779B97F4A7C15

    def insert(self, Subscription subscription not None):
        """Add a subscription; from now on it gets what is published."""
        cdef list path = self._walk(subscription.subject, create=True)
        node, is_rest = path[len(path) - 1]
        plain, queues = _slots(node, is_rest)
        if subscription.queue is None:
            plain.append(subscription)
        else:
            queues.setdefault(subscription.queue, []).append(subscription)
        self.count += 1
        self._inserts += 1
        self._forget(subscription)

    def remove(self, Subscription subscription not None):
        """Take a subscription out; it gets nothing from now on. Unknown ones are ignored."""
        cdef list path = self._walk(subscription.subject, create=False)
        if not path:
            return
        node, is_rest = path[len(path) - 1]
        plain, queues = _slots(node, is_rest)
        members = plain if subscription.queue is None else queues.get(subscription.queue, [])
        if subscription not in members:
            return
        members.remove(subscription)
        if subscription.queue is not None and not members:
            del queues[subscription.queue]
        self.count -= 1
        self._removes += 1
        self._forget(subscription)
        self._prune(path, subscription.subject.split(b"."))

    cdef Route route(self, const char* subject, Py_ssize_t size):
        """Who gets what is published to `subject`."""
        cdef PyObject* found = self._routes.find(subject, size)
        self._matches += 1
        if found != NULL and (<Route>found).generation == self.generation:
            self._hits += 1
            return <Route>found
        return self._build(subject, size)

    cdef int publish(self, Route route, Publish* frame) except -1:
        """Deliver to every plain subscription and to one member of each queue group; returns how many got it."""
        cdef Subscription subscription
        cdef list members
        cdef Py_ssize_t at, first, count
        cdef int delivered = 0
        for subscription in route.plain:
            delivered += subscription.deliver(frame)
        for members in route.groups:
            count = len(members)
            first = self._next_spread() % count
            for at in range(count):
                subscription = <Subscription>members[(first + at) % count]
                if subscription.deliver(frame):
                    delivered += 1
                    break
        return delivered

    def close(self):
        """Let go of all clients: Routes refer to them, and they to this, out of the garbage collector's sight."""
        self._drop_routes()

    def statistics(self):
        """What has been counted, under the names of nats-server's /subsz.

        A match is a look-up of who gets a subject, which a publisher needs when it changes the subject; the cache is what was found
        for the subjects before, and the fan-out is how many get one of these.
        """
        cdef Route route
        cdef size_t fanout, fanout_max = 0, fanout_sum = 0
        cdef list routes = self._routes.values()
        for route in routes:
            fanout = len(route.plain) + len(route.groups)
            fanout_sum += fanout
            fanout_max = max(fanout_max, fanout)
        return {
            "num_subscriptions": self.count,
            "num_cache": len(routes),
            "num_inserts": self._inserts,
            "num_removes": self._removes,
            "num_matches": self._matches,
            "cache_hit_rate": self._hits / self._matches if self._matches else 0.0,
            "max_fanout": fanout_max,
            "avg_fanout": fanout_sum / <double>len(routes) if routes else 0.0,
        }

    cdef Route _build(self, const char* subject, Py_ssize_t size):
        cdef Route route = Route()
        cdef list tokens
        cdef dict queues = {}
        route.set_name(subject, size)
        route.plain = []
        route.generation = self.generation
        tokens = subject[:size].split(b".")
        if b"" not in tokens:  # a subject with an empty token reaches nobody, not even `>`
            _collect(self._root, tokens, 0, route.plain, queues)
        route.groups = list(queues.values())
        if self._routes.count >= ROUTES_MAX:
            self._drop_routes()
        self._routes.put(route)
        return route

    cdef int _forget(self, Subscription subscription) except -1:
        """Make sure that no Route says anything that `subscription` has made wrong."""
        cdef Route route
        if is_literal(subscription.subject, len(subscription.subject)):
            route = <Route>self._routes.discard(subscription.subject)
            if route is not None:
                route.generation = 0  # whoever still holds it must ask again
                route.generation -= 1
        else:
            self.generation += 1
        return 0

    def _drop_routes(self):
        self._routes.clear()
        self.generation += 1

    cdef uint64_t _next_spread(self) noexcept:
        # xorshift64: spreads a group's messages over its members without asking the system for randomness.
        self._spread ^= self._spread << 13
        self._spread ^= self._spread >> 7
        self._spread ^= self._spread << 17
        return self._spread >> 11

    def _walk(self, bytes subject, bint create):
        """The nodes from the root to the subject's place, each with whether the place is the node's `>`; [] when not there."""
        cdef _Node node = self._root, child
        cdef list path = [(node, False)]
        for token in subject.split(b"."):
            if token == b">":
                path.append((node, True))
                return path
            child = node.star if token == b"*" else <_Node>node.children.get(token)
            if child is None:
                if not create:
                    return []
                child = _Node()
                if token == b"*":
                    node.star = child
                else:
                    node.children[token] = child
            node = child
            path.append((node, False))
        return path

    def _prune(self, list path, list tokens):
        """Drop the nodes at the end of `path` that nobody needs any more."""
        cdef _Node node, parent
        cdef Py_ssize_t at
        for at in range(len(path) - 1, 0, -1):
            node = <_Node>path[at][0]
            parent = <_Node>path[at - 1][0]
            if node is parent:  # the place of a `>`: it is in the node before
                continue
            if not node.is_empty():
                return
            if tokens[at - 1] == b"*":
                parent.star = None
            else:
                del parent.children[tokens[at - 1]]


def _slots(_Node node, bint is_rest):
    if is_rest:
        return node.plain_rest, node.queues_rest
    return node.plain, node.queues
