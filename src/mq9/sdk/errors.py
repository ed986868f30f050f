"""What can go wrong, as exceptions.

Every refusal by the broker becomes the class of its code (docs/protocol.md §3) and carries the broker's own sentence; what
goes wrong before the broker is reached has two classes of its own. `except MailboxError` catches all of them.
"""
# ruff: noqa: N818 - the names are the answers of docs/protocol.md; `except mq9.NotFound` reads as what happened

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable

    from mq9.sdk.values import Sent

ParametersT = ParamSpec("ParametersT")
ResultT = TypeVar("ResultT")


class MailboxError(Exception):
    """An operation that did not happen, and why.

    Arguments:
        sentence: what was wrong, in one sentence.
        code: the broker's code of docs/protocol.md §3; 0 when no broker has answered.

    Attributes:
        sent: from `send_many`, for each payload that it had taken the msg_id when it is stored, else None; empty otherwise.
    """

    code = 0

    def __init__(self, sentence: str, code: int | None = None) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.sent: list[Sent | None] = []
        if code is not None:
            self.code = code


class BadRequest(MailboxError):
    """400: an argument that the protocol does not allow; the sentence names it."""

    code = 400


class Forbidden(MailboxError):
    """403: the broker does not let this client do that."""

    code = 403


class NotFound(MailboxError):
    """404: there is no such mailbox (it may have expired) or no such message."""

    code = 404


class Conflict(MailboxError):
    """409: it contradicts what is already there."""

    code = 409


class TooLarge(MailboxError):
    """413: the message or the request is larger than the broker takes."""

    code = 413


class LimitExceeded(MailboxError):
    """429: one of the broker's limits is reached."""

    code = 429


class Unavailable(MailboxError):
    """503: the broker is stopping, its storage fails, or what answered is no mq9 broker at all."""

    code = 503


class StorageFull(MailboxError):
    """507: the broker has no space left; deletes still work."""

    code = 507


class ConnectionFailed(MailboxError, ConnectionError):
    """There is no connection to a broker, or it was lost before the answer came. Also a built-in `ConnectionError`."""


class Timeout(MailboxError, TimeoutError):
    """The broker did not answer in time. Also a built-in `TimeoutError`."""


_BY_CODE: dict[int, type[MailboxError]] = {
    kind.code: kind
    for kind in (BadRequest, Forbidden, NotFound, Conflict, TooLarge, LimitExceeded, Unavailable, StorageFull)
}


def error_of(code: int, sentence: str) -> MailboxError:
    """The exception for a broker's refusal; a code that is not in docs/protocol.md gives a plain MailboxError."""
    return _BY_CODE.get(code, MailboxError)(sentence, code)


def plain(function: Callable[ParametersT, ResultT]) -> Callable[ParametersT, ResultT]:
    """Decorate what users call: a MailboxError leaves it without the traceback of how it was found.

    The traceback then ends in the user's own line and this one; the sentence says the rest.
    """
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def awaited(*args: ParametersT.args, **kwargs: ParametersT.kwargs) -> Any:
            try:
                return await function(*args, **kwargs)
            except MailboxError as error:
                raise error.with_traceback(None) from None

        return cast("Callable[ParametersT, ResultT]", awaited)

    @functools.wraps(function)
    def called(*args: ParametersT.args, **kwargs: ParametersT.kwargs) -> ResultT:
        try:
            return function(*args, **kwargs)
        except MailboxError as error:
            raise error.with_traceback(None) from None

    return called
