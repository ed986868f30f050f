"""What may be asked of /connz and /subsz, and how it is refused: the parameters of nats-server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Self

from mq9.routing.subjects import valid_for_publish

LIMIT_DEFAULT = 1024
# More at a time is no page.
LIMIT_MAX = 100_000

_TRUE = {"1", "t", "true", "T", "TRUE", "True"}
_FALSE = {"0", "f", "false", "F", "FALSE", "False"}
_SORTS = {
    *("cid", "subs", "pending", "msgs_to", "msgs_from", "bytes_to", "bytes_from"),
    *("start", "last", "idle", "uptime", "rtt"),
}
_SORTS_CLOSED = {"stop", "reason"}

Parameters = Mapping[str, str]


class QueryError(Exception):
    """A parameter that cannot be used; the text says which and why."""


class State(Enum):
    """Which connections are asked for."""

    OPEN = "open"
    CLOSED = "closed"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class ConnzQuery:
    """Which page of which connections, in which order, and with what of each.

    Attributes:
        sort: one of nats-server's words for it.
        offset, limit: which page.
        state: open, closed or both.
        cid: only this one.
        account, user: only those of it.
        auth: whether to say whose they are.
        subs, detail: whether to list subscriptions, and with all that is known of each.
    """

    sort: str
    offset: int
    limit: int
    state: State
    cid: int | None
    account: str | None
    user: str | None
    auth: bool
    subs: bool
    detail: bool

    @classmethod
    def parse(cls, given: Parameters) -> Self:
        """Raises QueryError."""
        detail = given.get("subs", "").lower() == "detail"
        cid = _number(given, "cid", 0)
        query = cls(
            sort=given.get("sort") or "cid",
            offset=max(_number(given, "offset", 0), 0),
            limit=1 if cid else _limit(given),
            state=_state(given),
            cid=cid or None,
            account=given.get("acc") or None,
            user=given.get("user") or None,
            auth=_flag(given, "auth"),
            subs=detail or _flag(given, "subs"),
            detail=detail,
        )
        if query.sort in _SORTS_CLOSED and query.state is not State.CLOSED:
            raise QueryError(f"sort by {query.sort} only valid on closed connections")
        if query.sort not in _SORTS | _SORTS_CLOSED:
            raise QueryError(f"invalid sorting option: {query.sort}")
        return query


@dataclass(frozen=True, slots=True)
class SubszQuery:
    """Whether to list subscriptions, and which page of which.

    Attributes:
        subs: whether to list them.
        offset, limit: which page.
        test: only those that get what is published to this subject; empty for all.
        account: only those of it.
    """

    subs: bool
    offset: int
    limit: int
    test: bytes
    account: str | None

    @classmethod
    def parse(cls, given: Parameters) -> Self:
        """Raises QueryError."""
        test = given.get("test", "").encode()
        if test and not valid_for_publish(test):
            raise QueryError(f"invalid test subject, must be valid publish subject: {test.decode()}")
        return cls(
            subs=_flag(given, "subs"),
            offset=max(_number(given, "offset", 0), 0),
            limit=_limit(given),
            test=test,
            account=given.get("acc") or None,
        )


def _number(given: Parameters, name: str, default: int) -> int:
    text = given.get(name)
    if not text:
        return default
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 18:
        raise QueryError(f"Error decoding int for {name!r}: {text!r} is no whole number")
    return int(text)


def _limit(given: Parameters) -> int:
    limit = _number(given, "limit", LIMIT_DEFAULT)
    return min(limit, LIMIT_MAX) if limit > 0 else LIMIT_DEFAULT


def _flag(given: Parameters, name: str) -> bool:
    text = given.get(name)
    if not text or text in _FALSE:
        return False
    if text not in _TRUE:
        raise QueryError(f"Error decoding boolean for {name!r}: {text!r} is neither true nor false")
    return True


def _state(given: Parameters) -> State:
    text = given.get("state") or "open"
    words = {"open": State.OPEN, "closed": State.CLOSED, "any": State.ALL, "all": State.ALL}
    if text.lower() not in words:
        raise QueryError(f"Error decoding state for {text}")
    return words[text.lower()]
