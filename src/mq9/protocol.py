"""What is said on the wire: subjects, header names, limits, and the shapes of requests and replies.

The one definition of all of it, used by the broker, the SDK and the command line alike; `docs/protocol.md` is the same
in prose. Everything here is a value or a pure function.
"""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final


class Priority(StrEnum):
    """The five priority words, first to last (docs/protocol.md §2).

    `high`, `normal` and `low` are the ones to teach.
    """

    CRITICAL = "critical"
    URGENT = "urgent"
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


PRIORITIES: Final = tuple(Priority)

# Subjects (§3). A trailing dot: what follows is a mail_id.
CREATE: Final = "$mq9.AI.MAILBOX.CREATE"
MESSAGES: Final = "$mq9.AI.MAILBOX.MSG."
FETCH: Final = "$mq9.AI.MAILBOX.LIST."
DELETE: Final = "$mq9.AI.MAILBOX.DELETE."
REMOVE: Final = "$mq9.AI.MAILBOX.REMOVE."
EVENTS: Final = "$mq9.AI.MAILBOX.EVENTS."
PUBLIC_LIST: Final = "$mq9.AI.PUBLIC.LIST"

# Leased work (§4).
LEASE: Final = "$mq9.AI.MSG.FETCH."
ACK: Final = "$mq9.AI.MSG.ACK."
# What became of a message (§5), and what published clients call send, fetch and delete (§6).
STATUS: Final = "$mq9.AI.MSG.STATUS."
SEND_ALIAS: Final = "$mq9.AI.MSG.SEND."
FETCH_ALIAS: Final = "$mq9.AI.MSG.QUERY."
DELETE_ALIAS: Final = "$mq9.AI.MSG.DELETE."

# Headers of a message: set by the sender …
HEADER_PRIORITY: Final = "mq9-priority"
HEADER_TTL: Final = "mq9-ttl"
HEADER_DELAY: Final = "mq9-delay"
HEADER_KEY: Final = "mq9-key"
HEADER_TAGS: Final = "mq9-tags"
HEADER_DEDUP: Final = "Nats-Msg-Id"
HEADER_REPLY_TO: Final = "mq9-reply-to"
HEADER_CORRELATION_ID: Final = "mq9-correlation-id"
HEADER_CONTENT_TYPE: Final = "content-type"
# … and added by the broker when it delivers.
HEADER_MSG_ID: Final = "mq9-msg-id"
HEADER_TIME: Final = "mq9-time"
HEADER_PENDING: Final = "mq9-pending"
# A refusal carries these beside its JSON, as NATS services do.
HEADER_ERROR: Final = "Nats-Service-Error"
HEADER_ERROR_CODE: Final = "Nats-Service-Error-Code"

TTL_DEFAULT_S: Final = 86_400
TTL_MAX_S: Final = 100 * 365 * 86_400
DELAY_MAX_S: Final = TTL_MAX_S
MAIL_ID_BYTES_MAX: Final = 128
DESC_BYTES_MAX: Final = 1_024
REQUEST_BYTES_MAX: Final = 65_536
JSON_DEPTH_MAX: Final = 32
FETCH_LIMIT_DEFAULT: Final = 100
FETCH_LIMIT_MAX: Final = 1_000
TAGS_MAX: Final = 64
TAGS_BYTES_MAX: Final = 1_024
MSG_ID_MAX: Final = 2**64 - 1

GROUP_NAME_BYTES_MAX: Final = 128
LEASED_DEFAULT: Final = 100
LEASED_MAX: Final = 1_000
LEASE_DEFAULT_MS: Final = 30_000
LEASE_MAX_MS: Final = 86_400_000
WAIT_DEFAULT_MS: Final = 500
WAIT_MAX_MS: Final = 3_600_000
NACK_DELAY_MAX_MS: Final = 7 * 86_400_000
ACKED_MAX: Final = 1_000
REASON_BYTES_MAX: Final = 256

PRIVATE_PREFIX: Final = "m-"
DROP_PREFIX: Final = "d-"
DROP_ID_BYTES: Final = 28

# Where a new group begins, or a FETCH without a group.
DELIVER: Final = ("earliest", "latest", "from_time", "from_id")
# What a worker may say of its messages.
ACK_OPERATIONS: Final = ("ack", "nack", "extend", "dead", "revive")

_DECODER = json.JSONDecoder()
# What says how deep JSON is nested: brackets, outside of strings. Nothing of it can fail half-way, so it takes linear time.
_NESTING = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[{]|[\]}]', re.DOTALL)
_GROUP_NAME = re.compile(r"[^\s*>\x00-\x1f\x7f]+")
_SECRET = re.compile(r"([md]-[a-z2-7]{4})[a-z2-7]{22}")
_MAIL_ID = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*", re.ASCII)


def dump(value: dict[str, Any]) -> bytes:
    """A reply or event as JSON."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")


def masked(text: str) -> str:
    """`text` with every private mail_id and drop_id in it cut to its first characters: knowing one is the credential (§2)."""
    return _SECRET.sub(r"\1…", text)


class ProtocolError(Exception):
    """A request that is refused.

    Arguments:
        code: one of the codes of docs/protocol.md §3 (400, 403, 404, 409, 413, 429, 503, 507).
        sentence: what was wrong, for the person who sent it; says nothing that they did not already know.
        limit: the configuration key of the limit that was reached, when that is why.
    """

    def __init__(self, code: int, sentence: str, limit: str | None = None) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence
        self.limit = limit

    def reply(self) -> bytes:
        """The JSON body of the refusal."""
        return dump({"error": self.sentence, "code": self.code})


def bad_mail_id(mail_id: str) -> str | None:
    """What is wrong with `mail_id` by the grammar of docs/protocol.md §2, as a sentence, or None when nothing is."""
    if not 1 <= len(mail_id) <= MAIL_ID_BYTES_MAX:
        return f"mail_id must have 1 to {MAIL_ID_BYTES_MAX} characters"
    if _MAIL_ID.fullmatch(mail_id) is None:
        return "mail_id must be tokens of A-Z a-z 0-9 _ - separated by single dots"
    if mail_id.rpartition(".")[2] in PRIORITIES:
        return "the last token of a mail_id must not be a priority word"
    return None


def bad_name(name: str) -> str | None:
    """What is wrong with `name` for a public or named mailbox (docs/protocol.md §2), or None when nothing is."""
    if name.startswith((PRIVATE_PREFIX, DROP_PREFIX)):
        return f"name must not begin with {PRIVATE_PREFIX} or {DROP_PREFIX}: those are the broker's own"
    problem = bad_mail_id(name)
    return None if problem is None else problem.replace("mail_id", "name")


def bad_group_name(name: str) -> str | None:
    """What is wrong with the name of a group (docs/protocol.md §4), as a sentence, or None when nothing is."""
    if len(name.encode("utf-8", "replace")) > GROUP_NAME_BYTES_MAX or _GROUP_NAME.fullmatch(name) is None:
        return f"group_name must have 1 to {GROUP_NAME_BYTES_MAX} bytes and no space, * or >"
    return None


def is_unicode(text: str) -> bool:
    """Whether it can be written as UTF-8: JSON may escape half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _nested_too_deeply(text: str) -> bool:
    """Whether JSON has more than JSON_DEPTH_MAX lists and objects within each other."""
    if text.count("[") + text.count("{") <= JSON_DEPTH_MAX:
        return False
    depth = 0
    for found in _NESTING.finditer(text):
        first = found[0][0]
        depth += first in "[{"
        depth -= first in "]}"
        if depth > JSON_DEPTH_MAX:
            return True
    return False


class _Body:
    """A request's JSON object, read key by key; each reader raises a 400 that names the key it did not like."""

    value: dict[str, Any]

    def __init__(self, body: bytes | dict[str, Any]) -> None:
        if isinstance(body, dict):
            self.value = body
            return
        if len(body) > REQUEST_BYTES_MAX:
            raise ProtocolError(413, f"a request must have at most {REQUEST_BYTES_MAX} bytes")
        try:
            text = body.decode()
            if _nested_too_deeply(text):
                raise ProtocolError(400, f"a request must not be nested more than {JSON_DEPTH_MAX} deep")
            value = _DECODER.decode(text) if body.strip() else {}
        except ValueError:
            raise ProtocolError(400, "the request is not valid JSON") from None
        if not isinstance(value, dict):
            raise ProtocolError(400, "the request must be a JSON object")
        self.value = value

    def flag(self, key: str, default: bool = False) -> bool:
        value = self.value.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise ProtocolError(400, f"{key} must be true or false")
        return value

    def text(self, key: str, bytes_max: int) -> str | None:
        value = self.value.get(key)
        if value is None:
            return None
        if not isinstance(value, str):
            raise ProtocolError(400, f"{key} must be a string")
        try:
            size = len(value.encode())
        except UnicodeEncodeError:
            raise ProtocolError(400, f"{key} must be valid Unicode") from None
        if size > bytes_max:
            raise ProtocolError(400, f"{key} must have at most {bytes_max} bytes")
        return value

    def whole(self, key: str, least: int, most: int) -> int | None:
        value = self.value.get(key)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool):
            raise ProtocolError(400, f"{key} must be a whole number")
        if not least <= value <= most:
            raise ProtocolError(400, f"{key} must be from {least} to {most}")
        return value

    def word(self, key: str, words: tuple[str, ...]) -> str | None:
        """One of a few words."""
        value = self.text(key, REQUEST_BYTES_MAX)
        if value is not None and value not in words:
            raise ProtocolError(400, f"{key} must be one of {', '.join(words)}")
        return value

    def inner(self, key: str) -> _Body:
        """An object inside of this one; an empty one when it is not there."""
        value = self.value.get(key)
        if value is not None and not isinstance(value, dict):
            raise ProtocolError(400, f"{key} must be an object")
        return _Body(value or {})

    def group_name(self, key: str = "group_name") -> str | None:
        """The name of a group; None for no group."""
        name = self.text(key, REQUEST_BYTES_MAX)
        if name and (problem := bad_group_name(name)):
            raise ProtocolError(400, problem.replace("group_name", key))
        return name or None

    def limit(self) -> int:
        """How many items to answer; more than the most is asked for is no error, since `next` leads on."""
        value = self.whole("limit", 1, MSG_ID_MAX)
        return FETCH_LIMIT_DEFAULT if value is None else min(value, FETCH_LIMIT_MAX)

    def number(self, key: str) -> float | None:
        value = self.value.get(key)
        if value is None:
            return None
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not abs(value) < 1e15:
            raise ProtocolError(400, f"{key} must be a number of seconds")
        return float(value)

    def wholes(self, key: str, least: int, most: int, count_max: int) -> tuple[int, ...]:
        value = self.value.get(key)
        if value is None:
            return ()
        # Such a list comes with most ACKs: nothing is done here for each item by itself.
        if not isinstance(value, list) or not {int}.issuperset(map(type, value)):
            raise ProtocolError(400, f"{key} must be a list of whole numbers")
        if not 1 <= len(value) <= count_max or min(value) < least or max(value) > most:
            raise ProtocolError(400, f"{key} must have 1 to {count_max} items from {least} to {most}")
        return tuple(value)

    def texts(self, key: str, bytes_max: int) -> tuple[str, ...]:
        value = self.value.get(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise ProtocolError(400, f"{key} must be a list of strings")
        if not all(map(is_unicode, value)):
            raise ProtocolError(400, f"{key} must be valid Unicode")
        if len(value) > TAGS_MAX or any(len(item) > bytes_max for item in value):
            raise ProtocolError(400, f"{key} must have at most {TAGS_MAX} items of at most {bytes_max} characters")
        return tuple(value)


@dataclass(frozen=True, slots=True)
class CreateRequest:
    """The body of create (docs/protocol.md §3). `ttl` in seconds: None for the server's default, 0 for never."""

    ttl: int | None = None
    public: bool = False
    name: str | None = None
    desc: str = ""
    renew: bool = False
    owner_only: bool = False

    @classmethod
    def parse(cls, body: bytes) -> CreateRequest:
        """Raises ProtocolError 400 for a known key of the wrong type or value; unknown keys are ignored."""
        if body in (b"", b"{}"):
            return _CREATE_ANYTHING
        read = _Body(body)
        request = cls(
            ttl=read.whole("ttl", 0, TTL_MAX_S),
            public=read.flag("public"),
            name=read.text("name", REQUEST_BYTES_MAX),
            desc=read.text("desc", DESC_BYTES_MAX) or "",
            renew=read.flag("renew"),
            owner_only=read.flag("owner_only"),
        )
        if request.name is None:
            if request.public:
                raise ProtocolError(400, "public needs a name")
            if request.renew:
                raise ProtocolError(400, "renew needs the name of a mailbox")
        elif not (request.renew and request.name.startswith(PRIVATE_PREFIX)) and (problem := bad_name(request.name)):
            raise ProtocolError(400, problem)
        return request


@dataclass(frozen=True, slots=True)
class FetchRequest:
    """The body of fetch (docs/protocol.md §3): at most `limit` messages with a msg_id above `after`, in msg_id order.

    `since` is in Unix seconds; `payload` False leaves the payloads out; `dead`: only those that are dead for this group.
    """

    limit: int = FETCH_LIMIT_DEFAULT
    after: int = 0
    priority: Priority | None = None
    key: str | None = None
    tags: tuple[str, ...] = ()
    since: float | None = None
    payload: bool = True
    dead: str | None = None

    @classmethod
    def parse(cls, body: bytes) -> FetchRequest:
        """Raises ProtocolError 400 for a known key of the wrong type or value; unknown keys are ignored."""
        read = _Body(body)
        word = read.word("priority", PRIORITIES)
        return cls(
            limit=read.limit(),
            after=read.whole("after", 0, MSG_ID_MAX) or 0,
            priority=None if word is None else Priority(word),
            key=read.text("key", REQUEST_BYTES_MAX),
            tags=read.texts("tags", REQUEST_BYTES_MAX),
            since=read.number("since"),
            payload=read.flag("payload", default=True),
            dead=read.group_name("dead"),
        )


@dataclass(frozen=True, slots=True)
class StatusRequest:
    """The body of STATUS (docs/protocol.md §5): what one `group` says, or those whose names come after `after`."""

    group: str | None = None
    after: str | None = None

    @classmethod
    def parse(cls, body: bytes) -> StatusRequest:
        """Raises ProtocolError 400 for a known key of the wrong type or value; unknown keys are ignored."""
        read = _Body(body)
        return cls(group=read.group_name("group"), after=read.group_name("after"))


_CREATE_ANYTHING: Final = CreateRequest()


@dataclass(frozen=True, slots=True)
class ListRequest:
    """The body of list (docs/protocol.md §3).

    Public mailboxes in the order of their names: those above `after` that begin with `prefix`.
    """

    limit: int = FETCH_LIMIT_DEFAULT
    after: str = ""
    prefix: str = ""

    @classmethod
    def parse(cls, body: bytes) -> ListRequest:
        """Raises ProtocolError 400 for a known key of the wrong type or value; unknown keys are ignored."""
        read = _Body(body)
        return cls(
            limit=read.limit(),
            after=read.text("after", REQUEST_BYTES_MAX) or "",
            prefix=read.text("prefix", REQUEST_BYTES_MAX) or "",
        )


@dataclass(frozen=True, slots=True)
class LeaseRequest:
    """The body of FETCH (docs/protocol.md §4): up to `limit` messages, leased to a worker of `group`, or read without one.

    `deliver` says where a new group begins: at `from_id`, or at `from_time` (Unix seconds). Times in ms.
    """

    group: str | None = None
    deliver: str = "earliest"
    from_time: float | None = None
    from_id: int | None = None
    force_deliver: bool = False
    limit: int = LEASED_DEFAULT
    wait_ms: int = WAIT_DEFAULT_MS
    lease_ms: int = LEASE_DEFAULT_MS

    @classmethod
    def parse(cls, body: bytes) -> LeaseRequest:
        """Raises ProtocolError 400 for a known key of the wrong type or value; unknown keys are ignored."""
        # A worker asks for the same again and again.
        return _known_lease_request(body) if len(body) <= _KNOWN_BYTES_MAX else cls.read(body)

    @classmethod
    def read(cls, body: bytes) -> LeaseRequest:
        """As `parse`, without a look at what was asked before."""
        read = _Body(body)
        config = read.inner("config")
        limit = config.whole("num_msgs", 1, MSG_ID_MAX)
        wait_ms = config.whole("max_wait_ms", 0, WAIT_MAX_MS)
        request = cls(
            group=read.group_name(),
            deliver=read.word("deliver", DELIVER) or "earliest",
            from_time=read.number("from_time"),
            from_id=read.whole("from_id", 0, MSG_ID_MAX),
            force_deliver=read.flag("force_deliver"),
            limit=LEASED_DEFAULT if limit is None else min(limit, LEASED_MAX),
            wait_ms=WAIT_DEFAULT_MS if wait_ms is None else wait_ms,
            lease_ms=read.whole("lease_ms", 1, LEASE_MAX_MS) or LEASE_DEFAULT_MS,
        )
        for word, value in (("from_time", request.from_time), ("from_id", request.from_id)):
            if request.deliver == word and value is None:
                raise ProtocolError(400, f"deliver {word} needs {word}")
        return request


_known_lease_request = functools.lru_cache(1_024)(LeaseRequest.read)
_KNOWN_BYTES_MAX: Final = 512


@dataclass(frozen=True, slots=True)
class AckRequest:
    """The body of ACK (docs/protocol.md §4): what a worker of `group` says of its messages.

    Either one `msg_id`, whose ack confirms those listed before it too, or `msg_ids`. `attempt`: which one the worker had.
    """

    group: str
    msg_id: int | None = None
    msg_ids: tuple[int, ...] = ()
    op: str = "ack"
    delay_ms: int = 0
    lease_ms: int = LEASE_DEFAULT_MS
    reason: bytes = b""
    attempt: int | None = None

    @classmethod
    def parse(cls, body: bytes, mail_id: str) -> AckRequest:
        """Raises ProtocolError 400 for a known key of the wrong type or value; unknown keys are ignored.

        Arguments:
            mail_id: that of the subject.
        """
        read = _Body(body)
        group = read.group_name()
        if group is None:
            raise ProtocolError(400, "group_name is needed")
        if read.text("mail_address", REQUEST_BYTES_MAX) not in (None, "", mail_id):
            raise ProtocolError(400, "mail_address must be the mail_id of the subject")
        msg_id = read.whole("msg_id", 0, MSG_ID_MAX)
        msg_ids = read.wholes("msg_ids", 0, MSG_ID_MAX, ACKED_MAX)
        if (msg_id is None) == (not msg_ids):
            raise ProtocolError(400, "either msg_id or msg_ids is needed")
        return cls(
            group=group,
            msg_id=msg_id,
            msg_ids=msg_ids,
            op=read.word("op", ACK_OPERATIONS) or "ack",
            delay_ms=read.whole("delay_ms", 0, NACK_DELAY_MAX_MS) or 0,
            lease_ms=read.whole("lease_ms", 1, LEASE_MAX_MS) or LEASE_DEFAULT_MS,
            reason=(read.text("reason", REASON_BYTES_MAX) or "").encode(),
            attempt=read.whole("attempt", 0, 255),
        )
