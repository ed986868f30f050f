"""What a user may publish and subscribe to: nats-server's allow and deny lists, and mailbox operations by their names.

A publish is checked each time, so what was found out of a subject is kept where there are many patterns to try. A subscription is
checked when it begins; what a wildcard subscription must not see is left out when it is delivered (docs/protocol.md §8).
"""

from cpython.object cimport PyObject
from libc.string cimport memcmp

from mq9 import protocol
from mq9.native.bytemap cimport ByteMap, Named
from mq9.routing.subjects cimport subject_covers, subject_matches, subjects_meet

cdef enum:
    ROOT_SIZE = 5
    # Up to as many patterns are tried one after the other each time.
    SCANNED_MAX = 8
    KNOWN_MAX = 4096
    KNOWN_BYTES_MAX = 256

# Each operation with the subjects that a user publishes and subscribes to for it.
_OPERATIONS = {
    "create": ((protocol.CREATE,), ()),
    "send": ((protocol.MESSAGES + ">", protocol.SEND_ALIAS + ">", protocol.STATUS + ">"), ()),
    "receive": (
        (
            protocol.FETCH + ">", protocol.FETCH_ALIAS + ">", protocol.LEASE + ">", protocol.ACK + ">", protocol.STATUS + ">",
        ),
        (protocol.MESSAGES + ">", protocol.EVENTS + ">"),
    ),
    "delete": ((protocol.DELETE + ">", protocol.DELETE_ALIAS + ">", protocol.REMOVE + ">"), ()),
    "list": ((protocol.PUBLIC_LIST,), (protocol.PUBLIC_LIST,)),
    "all": (("$mq9.>",), ("$mq9.>",)),
}
OPERATIONS = tuple(_OPERATIONS)


cdef class _Known(Named):
    cdef bint matches


cdef class Patterns:
    """Subjects, valid for subscribing, of which some or all match one that is asked for."""

    def __init__(self, patterns):
        self.patterns = tuple(patterns)
        if len(self.patterns) > SCANNED_MAX:
            self._known = ByteMap()

    cdef bint match(self, const char* subject, Py_ssize_t size) except -1:
        """Whether one of them matches what is published to `subject`."""
        cdef _Known known
        cdef PyObject* found
        if self._known is None or size > KNOWN_BYTES_MAX:
            return self._scan(subject, size)
        found = self._known.find(subject, size)
        if found != NULL:
            return (<_Known>found).matches
        if self._known.count >= KNOWN_MAX:
            self._known.clear()
        known = _Known()
        known.set_name(subject, size)
        known.matches = self._scan(subject, size)
        self._known.add(known)
        return known.matches

    cdef bint _scan(self, const char* subject, Py_ssize_t size) except -1:
        cdef bytes pattern
        for pattern in self.patterns:
            if subject_matches(pattern, len(pattern), subject, size):
                return True
        return False


cdef bint _covered(object patterns, bytes subject) except -1:
    """Whether one of `patterns` gets everything that a subscription to `subject` gets."""
    cdef bytes pattern
    for pattern in patterns:
        if subject_covers(pattern, len(pattern), subject, len(subject)):
            return True
    return False


def _queues_of(tuple rules, bytes subject):
    """The patterns of queue names that `rules`, (pattern, pattern of queue names), have for `subject`."""
    return [queues for pattern, queues in rules if _covered((pattern,), subject)]


cdef class Rules:
    """What is allowed in one direction.

    Arguments:
        allow: (pattern, pattern of queue names or None) of what is allowed; None allows everything.
        deny: the same of what is not allowed all the same.
    """

    def __init__(self, allow, deny):
        self.allow = None if allow is None else Patterns([pattern for pattern, queues in allow if queues is None])
        self.allow_queues = tuple((pattern, queues) for pattern, queues in allow or () if queues is not None)
        self.deny = Patterns([pattern for pattern, queues in deny if queues is None])
        self.deny_queues = tuple((pattern, queues) for pattern, queues in deny if queues is not None)

    cdef bint permit(self, const char* subject, Py_ssize_t size) except -1:
        """Whether one may publish to `subject`."""
        if self.allow is not None and not self.allow.match(subject, size):
            return False
        return not self.deny.patterns or not self.deny.match(subject, size)

    cdef bint permit_subscription(self, bytes subject, bytes queue) except -1:
        """Whether one may subscribe to `subject`; parts of it may be hidden all the same (see Permissions.hidden_from)."""
        cdef bint allowed = self.allow is None or _covered(self.allow.patterns, subject)
        if self.allow is not None and queue is not None:
            # Where queue names are listed for a subject, a queue has to be among them.
            queues = _queues_of(self.allow_queues, subject)
            allowed = _covered(queues, queue) if queues else allowed
        if not allowed or self.deny.patterns and self.deny.match(subject, len(subject)):
            return False
        return queue is None or not _covered(_queues_of(self.deny_queues, subject), queue)


cdef class Permissions:
    """What a user may do.

    Arguments:
        publish, subscribe: each (allow, deny) with the entries of the configuration as str: a subject, for subscribe also a subject, a
            space and a queue name, both with wildcards or without. `allow` None: everything.
        mailboxes: names from OPERATIONS, which are then all that is allowed below `$mq9.` beside what the lists allow there by
            name; None when the lists say it all.
        responses: None, or (max, expires): a publish that is not allowed otherwise may answer each message that came with a reply
            subject `max` times within `expires` seconds, 0 for without limit. Without `allow` nothing else may be published then.
    """

    def __init__(self, publish=(None, ()), subscribe=(None, ()), mailboxes=None, responses=None):
        if responses is not None:
            self.allow_responses = True
            self.responses_max, self.responses_expire_s = responses
            if publish[0] is None:
                publish = ((), publish[1])
        self._publish, self._publish_mail = _rules(publish, mailboxes, 0)
        self._subscribe, self._subscribe_mail = _rules(subscribe, mailboxes, 1)

    cdef bint may_publish(self, const char* subject, Py_ssize_t size) except -1:
        """Whether the lists let the user publish to `subject`."""
        if size >= ROOT_SIZE and memcmp(subject, b"$mq9.", ROOT_SIZE) == 0:
            return self._publish_mail.permit(subject, size)
        return self._publish.permit(subject, size)

    cdef bint may_subscribe(self, bytes subject, bytes queue) except -1:
        """Whether the user may subscribe to `subject`, with `queue` or, for None, without."""
        return self._rules_of(subject).permit_subscription(subject, queue)

    cdef Patterns hidden_from(self, bytes subject, bytes queue):
        """What a subscription to `subject` that is allowed must not be given, or None for nothing."""
        cdef Rules rules = self._rules_of(subject)
        cdef list hidden = []
        cdef bytes pattern
        if not rules.deny.patterns and not rules.deny_queues:
            return None
        denied = [*rules.deny.patterns]
        if queue is not None:
            denied += [pattern for pattern, queues in rules.deny_queues if _covered((queues,), queue)]
        for pattern in denied:
            if subjects_meet(pattern, len(pattern), subject, len(subject)):
                hidden.append(pattern)
        return Patterns(hidden) if hidden else None

    def publishes(self, bytes subject not None):
        """As `may_publish`."""
        return bool(self.may_publish(subject, len(subject)))

    def subscribes(self, bytes subject not None, bytes queue=None):
        """As `may_subscribe`."""
        return bool(self.may_subscribe(subject, queue))

    def hides(self, bytes subject not None, bytes queue, bytes published not None):
        """Whether a subscription to `subject` is not given what is published to `published`."""
        cdef Patterns hidden = self.hidden_from(subject, queue)
        return hidden is not None and bool(hidden.match(published, len(published)))

    cdef Rules _rules_of(self, bytes subject):
        return self._subscribe_mail if subject.startswith(b"$mq9.") else self._subscribe


def _entry(str text):
    subject, _, queue = text.partition(" ")
    return subject.encode(), queue.strip().encode() or None


def _rules(lists, mailboxes, direction):
    """The Rules of one direction, and those below `$mq9.`."""
    allow, deny = lists
    allowed = None if allow is None else [_entry(text) for text in allow]
    denied = [_entry(text) for text in deny]
    rules = Rules(allowed, denied)
    if mailboxes is None:
        return rules, rules
    named = [_entry(subject) for word in mailboxes for subject in _OPERATIONS[word][direction]]
    return rules, Rules(named + [entry for entry in allowed or () if entry[0].startswith(b"$mq9.")], denied)
