"""A message as a user sees it, and the way payloads become bytes and back.

`encode` and the `payload` property are each other's inverse for everything the SDK can send: bytes come back as bytes, text as
text, JSON as JSON. What other clients send without a content type is read as leniently as that allows, and never raises.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from mq9.protocol import (
    HEADER_CONTENT_TYPE,
    HEADER_CORRELATION_ID,
    HEADER_MSG_ID,
    HEADER_PENDING,
    HEADER_PRIORITY,
    HEADER_REPLY_TO,
    HEADER_TIME,
    Priority,
    masked,
)
from mq9.sdk.errors import BadRequest
from mq9.sdk.values import moment

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from mq9.sdk.lease import Lease

JSON: Final = "application/json"
TEXT: Final = "text/plain; charset=utf-8"
BINARY: Final = "application/octet-stream"

_BROKERS_OWN = frozenset({HEADER_MSG_ID, HEADER_PRIORITY, HEADER_TIME, HEADER_PENDING})
_BY_WORD = {str(priority): priority for priority in Priority}
_SHOWN_CHARACTERS_MAX = 200
_UNREAD: Final = object()


def encode(payload: Any) -> tuple[bytes, str]:
    """The bytes of a payload and its content type.

    Arguments:
        payload: bytes (or another bytes-like object), str, or anything that JSON can hold.

    Raises:
        BadRequest: it is none of these.
    """
    if isinstance(payload, (bytes, bytearray, memoryview)):
        return bytes(payload), BINARY
    try:
        if isinstance(payload, str):
            return payload.encode(), TEXT
        text = json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode(), JSON
    except UnicodeEncodeError:
        raise BadRequest("the payload has text that is not valid Unicode") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise BadRequest(f"the payload must be bytes, str or JSON: {error}") from None


def decode(data: bytes, content_type: str | None) -> Any:
    """The payload that `data` stands for; text when it is not what `content_type` says, bytes when it is no text."""
    kind = "" if content_type is None else content_type.partition(";")[0].strip().lower()
    if kind == BINARY:
        return data
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return data
    if kind == JSON or kind.endswith("+json") or (not kind and text.lstrip()[:1] in {"{", "["}):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text
    return text


@dataclass(slots=True)
class Record:
    """One message as it came from the broker, the same for both faces. Nobody changes it, but for whoever hands it over.

    `time_ms` is when the broker took it, in Unix milliseconds. None is what the protocol does not tell: `pending` but for a
    plain receiver, `attempts` and `lease` but for leased work, `attempts` and `reason` but for dead messages.
    """

    msg_id: int
    priority: Priority
    data: bytes
    headers: dict[str, str]
    time_ms: int
    size: int
    pending: int | None = None
    attempts: int | None = None
    reason: str | None = None
    lease: Lease | None = None

    @classmethod
    def delivered(cls, subject: str, headers: Mapping[str, str], data: bytes) -> Record | None:
        """A message pushed to a receiver (docs/protocol.md §3, receive); None for one that no mq9 broker would send."""
        try:
            own = dict(headers)
            own.pop(HEADER_PRIORITY, None)
            return cls(
                int(own.pop(HEADER_MSG_ID)),
                _BY_WORD[subject.rpartition(".")[2]],
                data,
                own,
                int(own.pop(HEADER_TIME, 0)),
                len(data),
                int(own.pop(HEADER_PENDING, 0)),
            )
        except (KeyError, ValueError):
            return None

    @classmethod
    def listed(cls, item: Mapping[str, Any]) -> Record:
        """One item of a fetch reply (docs/protocol.md §3, fetch)."""
        payload = item.get("payload") or ""
        data = (
            base64.b64decode(payload) if item.get("encoding") == "base64" else payload.encode("utf-8", "surrogatepass")
        )
        return cls(
            msg_id=int(item["msg_id"]),
            priority=Priority(item["priority"]),
            data=data,
            headers=_last_values(item),
            time_ms=round(float(item.get("ts") or 0) * 1000),
            size=int(item.get("size", len(data))),
            attempts=item.get("attempts"),
            reason=item.get("reason"),
        )

    @classmethod
    def leased(cls, item: Mapping[str, Any]) -> Record:
        """One item of a FETCH reply (docs/protocol.md §4), without its lease."""
        data = base64.b64decode(item.get("payload") or "")
        return cls(
            msg_id=int(item["msg_id"]),
            priority=Priority(item["priority"]),
            data=data,
            headers=_last_values(item),
            time_ms=round(float(item.get("create_time") or 0) * 1000),
            size=len(data),
            attempts=int(item["attempt"]),
        )

    def handed_over(self, pending: int) -> Record:
        """The message, at the moment of its hand-over, with `pending` still to come after it."""
        self.pending = pending
        return self

    def header(self, wanted: str) -> str | None:
        """The value of a header whose name is `wanted`, in whatever case the sender wrote it."""
        found = self.headers.get(wanted)
        if found is not None:
            return found
        return next((value for name, value in self.headers.items() if name.lower() == wanted), None)


def _last_values(item: Mapping[str, Any]) -> dict[str, str]:
    """The sender's headers in an item of a reply; of one that was sent several times, the last value."""
    headers = item.get("headers") or {}
    return {name: values[-1] for name, values in headers.items() if values and name not in _BROKERS_OWN}


class BaseMessage:
    """What a message has in both faces; see `Message` and `AsyncMessage`.

    Printing one shows its number, priority and payload, shortened and with private mail_ids and drop_ids cut off.
    """

    __slots__ = ("_decoded", "_record")

    def __init__(self, record: Record) -> None:
        self._record = record
        self._decoded: Any = _UNREAD

    @property
    def payload(self) -> Any:
        """The payload as its content type says: a JSON value, str, or bytes.

        Never raises: what is not what it claims to be comes as str, and what is no text as bytes. Without a content type
        a JSON object or array is recognised.
        """
        if self._decoded is _UNREAD:
            self._decoded = decode(self._record.data, self._record.header(HEADER_CONTENT_TYPE))
        return self._decoded

    @property
    def data(self) -> bytes:
        """The payload's bytes, exactly as they were sent."""
        return self._record.data

    @property
    def size(self) -> int:
        """How many bytes the payload has, also when it was not fetched."""
        return self._record.size

    @property
    def msg_id(self) -> int:
        """The number of the message: unique in its mailbox, rising in the order in which messages were stored."""
        return self._record.msg_id

    @property
    def priority(self) -> Priority:
        """The priority it was sent with; compares equal to its word."""
        return self._record.priority

    @property
    def headers(self) -> dict[str, str]:
        """The sender's headers; of one that was sent several times, the last value."""
        return self._record.headers

    @property
    def time(self) -> datetime | None:
        """When the broker took the message, in UTC; None when it did not say."""
        return moment(self._record.time_ms / 1000 if self._record.time_ms else None)

    @property
    def reply_to(self) -> str | None:
        """The mail_id that the sender wants answers in, or None."""
        return self._record.header(HEADER_REPLY_TO)

    @property
    def correlation_id(self) -> str | None:
        """What the sender wants to recognise the answer by, or None."""
        return self._record.header(HEADER_CORRELATION_ID)

    @property
    def pending(self) -> int | None:
        """About how many messages were still to come for this receiver when this one was handed over.

        0: it is caught up. None for a message that was fetched or leased.
        """
        return self._record.pending

    @property
    def attempt(self) -> int | None:
        """For leased work: how often the message has been handed to a worker of this group, from 1; else None."""
        return None if self._record.lease is None else self._record.attempts

    @property
    def attempts(self) -> int | None:
        """For a dead message, see `dead`: how often it was handed to a worker of the group; else the same as `attempt`."""
        return self._record.attempts

    @property
    def reason(self) -> str | None:
        """For a dead message, see `dead`: what the last worker said of it, or None when it said nothing."""
        return self._record.reason

    def _leased(self) -> Lease:
        """Its lease; raises BadRequest when it has none."""
        if self._record.lease is None:
            raise BadRequest(f"message {self.msg_id} is not leased: it was not received with resume=…")
        return self._record.lease

    def get(self, key: str, default: Any = None) -> Any:
        """One key of a JSON object payload; `default` when it is missing or the payload is no JSON object."""
        payload = self.payload
        return payload.get(key, default) if isinstance(payload, dict) else default

    def __getitem__(self, key: str) -> Any:
        payload = self.payload
        if not isinstance(payload, dict):
            raise KeyError(f"{key} (the payload is not a JSON object)")
        return payload[key]

    def __contains__(self, key: object) -> bool:
        payload = self.payload
        return isinstance(payload, dict) and key in payload

    def __str__(self) -> str:
        shown = masked(repr(self.payload))
        if len(shown) > _SHOWN_CHARACTERS_MAX:
            shown = f"{shown[:_SHOWN_CHARACTERS_MAX]}… ({self.size} bytes)"
        return f"#{self.msg_id} {self.priority} {shown}"

    def __repr__(self) -> str:
        return f"<message {self}>"
