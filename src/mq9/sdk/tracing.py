"""OpenTelemetry spans for what the SDK sends and hands over, in programs that have OpenTelemetry anyway.

Whether they have is seen by its being imported already: nothing here imports it for a program that does not, and what such a program
pays is a look into a dictionary. Names and attributes are those of OpenTelemetry's semantic conventions for messaging. The mail_id of a
private mailbox and a drop_id are in none: knowing one is the credential (docs/protocol.md §2).
"""

from __future__ import annotations

import contextlib
import sys
import traceback
from typing import TYPE_CHECKING, Any, Final

from mq9.protocol import DROP_PREFIX, PRIVATE_PREFIX, masked
from mq9.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from opentelemetry.trace import Span, Tracer

    from mq9.sdk.message import BaseMessage

    Told = Callable[[object], None]
    Around = contextlib.AbstractContextManager[Told]

_API: Final = "opentelemetry.trace"
_SYSTEM: Final = "mq9"


def sending(
    mail_id: str, headers: dict[str, str], *, priority: str | None, size: int | None = None, count: int | None = None
) -> Around:
    """A producer span around the storing of one message, or of several; gives what is to be called with the msg_id.

    Arguments:
        mail_id: where they go.
        headers: of all of them; what tells a receiver of the span is put in, unless the caller has done so.
        priority: of all of them.
        size: bytes of the one payload.
        count: how many messages there are, when that is not one.
    """
    if _API not in sys.modules:
        return _NOTHING
    attributes = _attributes("send", mail_id, priority)
    if size is not None:
        attributes["messaging.message.body.size"] = size
    if count is not None:
        attributes["messaging.batch.message_count"] = count
    return _sending(mail_id, headers, attributes)


def processing(mail_id: str, message: BaseMessage, group: str | None) -> Around:
    """A consumer span around the callback for a message: a child of the span that sent it, and linked to it.

    Gives what is to be called with the exception that the callback has raised.
    """
    if _API not in sys.modules:
        return _NOTHING
    attributes = _attributes("process", mail_id, message.priority)
    attributes["messaging.message.id"] = str(message.msg_id)
    if group is not None:
        attributes["messaging.consumer.group.name"] = group
    if message.attempt is not None:
        attributes["messaging.mq9.message.attempt"] = message.attempt
    return _processing(mail_id, message.headers, attributes)


@contextlib.contextmanager
def _sending(mail_id: str, headers: dict[str, str], attributes: Mapping[str, Any]) -> Iterator[Told]:
    from opentelemetry import propagate
    from opentelemetry.trace import SpanKind

    with _tracer().start_as_current_span(
        _name("send", mail_id),
        kind=SpanKind.PRODUCER,
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        given = {name.lower() for name in headers}
        if not given & {name.lower() for name in carrier}:
            headers.update(carrier)
        try:
            yield lambda msg_id: span.set_attribute("messaging.message.id", str(msg_id))
        except Exception as error:
            _failed(span, error)
            raise


@contextlib.contextmanager
def _processing(mail_id: str, headers: Mapping[str, str], attributes: Mapping[str, Any]) -> Iterator[Told]:
    from opentelemetry import propagate, trace
    from opentelemetry.context import Context

    # Not of where `receive` was called: that is over, or has nothing to do with this message.
    context = propagate.extract({name.lower(): value for name, value in headers.items()}, context=Context())
    sender = trace.get_current_span(context).get_span_context()
    with _tracer().start_as_current_span(
        _name("process", mail_id),
        context=context,
        kind=trace.SpanKind.CONSUMER,
        attributes=attributes,
        links=[trace.Link(sender)] if sender.is_valid else [],
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        yield lambda error: _failed(span, error)


def nothing() -> Around:
    """No span."""
    return _NOTHING


def _tracer() -> Tracer:
    from opentelemetry import trace

    return trace.get_tracer("mq9", VERSION)


def _attributes(operation: str, mail_id: str, priority: str | None) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "messaging.system": _SYSTEM,
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.mq9.message.priority": priority or "normal",
    }
    if _is_secret(mail_id):
        attributes["messaging.destination.anonymous"] = True
    else:
        attributes["messaging.destination.name"] = str(mail_id)
    return attributes


def _name(operation: str, mail_id: str) -> str:
    return f"{operation} (private)" if _is_secret(mail_id) else f"{operation} {mail_id}"


def _is_secret(mail_id: str) -> bool:
    return mail_id.startswith((PRIVATE_PREFIX, DROP_PREFIX))


def _failed(span: Span, error: object) -> None:
    """Say in a span why it has failed; a sentence may name the mailbox."""
    from opentelemetry.trace import Status, StatusCode

    if not isinstance(error, BaseException):
        return
    kind = f"{type(error).__module__}.{type(error).__qualname__}"
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR, masked(str(error))))
    stack = "".join(traceback.format_exception(error))
    span.add_event(
        "exception",
        {"exception.type": kind, "exception.message": masked(str(error)), "exception.stacktrace": masked(stack)},
    )


def _ignore(_: object) -> None:
    """Nobody wants to know."""


# Without anything in it, and so for everybody at once.
_NOTHING: Final[Around] = contextlib.nullcontext(_ignore)
