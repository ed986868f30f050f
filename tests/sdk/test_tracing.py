"""Spans: what a program that has OpenTelemetry sees of its messages, from the send to the callback, and never a secret.

docs/python.md, "Tracing".
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from mq9 import AsyncMailbox, BadRequest, Mailbox, MailboxInfo, NotFound

if TYPE_CHECKING:
    from mq9 import AsyncMessage, Message
    from tests.support.broker import BrokerProcess

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
PATIENCE_S = 10.0


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> TracerProvider:
    """A test's own; the one of the process could not be taken back."""
    made = TracerProvider()
    monkeypatch.setattr(trace, "get_tracer", made.get_tracer)
    return made


@pytest.fixture
def spans(provider: TracerProvider) -> InMemorySpanExporter:
    """The spans of a test."""
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter


def named(spans: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    """The finished spans of this name."""
    return [span for span in spans.get_finished_spans() if span.name == name]


def one(spans: InMemorySpanExporter, name: str) -> ReadableSpan:
    """The only one."""
    (span,) = named(spans, name)
    return span


def attributes(span: ReadableSpan) -> dict[str, Any]:
    """Its attributes."""
    return dict(span.attributes or {})


def follows(span: ReadableSpan, before: ReadableSpan) -> bool:
    """Whether it is a child of another one, in the same trace, and linked to it."""
    assert span.context is not None
    assert before.context is not None
    linked = [link.context.span_id for link in span.links]
    return (
        span.parent is not None
        and span.parent.span_id == before.context.span_id
        and span.context.trace_id == before.context.trace_id
        and linked == [before.context.span_id]
    )


def test_a_callback_follows_the_send_across_processes_of_its_own(mailbox: Mailbox, spans: InMemorySpanExporter) -> None:
    box = mailbox.create(60, name="traced.one", public=True)
    with trace.get_tracer("test").start_as_current_span("asked by a user"):
        msg_id = mailbox.send(box, "hello", priority="high")
    got: list[Message] = []
    with mailbox.receive(box, got.append) as receiver:
        while not got or not named(spans, "process traced.one"):
            receiver.wait(0.01)
    sent, processed = one(spans, "send traced.one"), one(spans, "process traced.one")
    assert sent.kind is SpanKind.PRODUCER
    assert processed.kind is SpanKind.CONSUMER
    assert follows(processed, sent)
    asked = one(spans, "asked by a user")
    assert sent.parent is not None
    assert asked.context is not None
    assert sent.parent.span_id == asked.context.span_id
    common = {
        "messaging.system": "mq9",
        "messaging.destination.name": "traced.one",
        "messaging.message.id": str(int(msg_id)),
        "messaging.mq9.message.priority": "high",
    }
    operation = {"messaging.operation.name": "send", "messaging.operation.type": "send"}
    assert attributes(sent) == {**common, **operation, "messaging.message.body.size": 5}
    operation = {"messaging.operation.name": "process", "messaging.operation.type": "process"}
    assert attributes(processed) == {**common, **operation}
    assert got[0].headers["traceparent"].split("-")[2] == f"{sent.context.span_id:016x}"


def test_the_asynchronous_face_does_the_same(broker: BrokerProcess, spans: InMemorySpanExporter) -> None:
    async def main() -> None:
        async with AsyncMailbox(broker.url) as mailbox:
            box = await mailbox.create(60, name="traced.two")
            await mailbox.send(box, {"a": 1})
            done = asyncio.Event()

            async def callback(_: AsyncMessage) -> None:
                await asyncio.sleep(0)
                with trace.get_tracer("test").start_as_current_span("within"):
                    done.set()

            async with mailbox.receive(box, callback):
                await asyncio.wait_for(done.wait(), PATIENCE_S)

    asyncio.run(main())
    sent, processed = one(spans, "send traced.two"), one(spans, "process traced.two")
    assert follows(processed, sent)
    within = one(spans, "within")
    assert within.parent is not None
    assert processed.context is not None
    assert within.parent.span_id == processed.context.span_id


def test_leased_work_names_its_group_and_its_attempt(mailbox: Mailbox, spans: InMemorySpanExporter) -> None:
    box = mailbox.create(60, name="traced.work")
    mailbox.send(box, "to do")

    def work(message: Message) -> None:
        raise ValueError(f"cannot do {message.payload} of {secret}")

    secret = mailbox.create(60)
    with mailbox.receive(box, work, resume="workers") as receiver:
        while not named(spans, "process traced.work"):
            receiver.wait(0.01)
    processed = one(spans, "process traced.work")
    said = attributes(processed)
    assert said["messaging.consumer.group.name"] == "workers"
    assert said["messaging.mq9.message.attempt"] == 1
    assert said["error.type"] == "builtins.ValueError"
    assert processed.status.status_code is StatusCode.ERROR
    (event,) = processed.events
    assert event.name == "exception"
    assert "cannot do to do of m-" in str((event.attributes or {})["exception.message"])
    assert_no_secrets(spans, secret)


def test_many_are_one_span_that_all_of_them_follow(mailbox: Mailbox, spans: InMemorySpanExporter) -> None:
    box = mailbox.create(60, name="traced.many")
    mailbox.send_many(box, range(50))
    sent = one(spans, "send traced.many")
    assert attributes(sent)["messaging.batch.message_count"] == 50
    with mailbox.receive(box, lambda _: None) as receiver:
        while len(named(spans, "process traced.many")) < 50:
            receiver.wait(0.01)
    assert all(follows(span, sent) for span in named(spans, "process traced.many"))


def test_a_request_and_its_answer(mailbox: Mailbox, spans: InMemorySpanExporter) -> None:
    box = mailbox.create(60, name="traced.questions")

    def answer(message: Message) -> None:
        message.reply("yes")

    with mailbox.receive(box, answer):
        assert mailbox.request(box, "may I?", PATIENCE_S).payload == "yes"
    asked, answered = one(spans, "send traced.questions"), one(spans, "send (private)")
    assert asked.context is not None
    assert answered.context is not None
    assert answered.context.trace_id == asked.context.trace_id
    assert answered.parent is not None
    processed = one(spans, "process traced.questions")
    assert processed.context is not None
    assert answered.parent.span_id == processed.context.span_id


def test_who_brings_a_context_keeps_it(mailbox: Mailbox, spans: InMemorySpanExporter) -> None:
    box = mailbox.create(60, name="traced.given")
    for name in ("traceparent", "Traceparent"):
        mailbox.send(box, "hello", headers={name: TRACEPARENT})
    got: list[Message] = []
    with mailbox.receive(box, got.append) as receiver:
        while len(named(spans, "process traced.given")) < 2:
            receiver.wait(0.01)
    for span in named(spans, "process traced.given"):
        assert span.parent is not None
        assert f"{span.parent.span_id:016x}" == TRACEPARENT.split("-")[2]
    assert [{name.lower() for name in message.headers} & {"traceparent"} for message in got] == [{"traceparent"}] * 2


@pytest.mark.parametrize("header", ["nonsense", "00-" + "0" * 32 + "-" + "0" * 16 + "-00", "x" * 2000])
def test_a_context_that_is_none_begins_a_new_trace(mailbox: Mailbox, spans: InMemorySpanExporter, header: str) -> None:
    box = mailbox.create(60)
    mailbox.send(box, "hello", headers={"traceparent": header})
    with mailbox.receive(box, lambda _: None) as receiver:
        while not named(spans, "process (private)"):
            receiver.wait(0.01)
    assert one(spans, "process (private)").parent is None
    assert not one(spans, "process (private)").links


def test_a_refusal_is_an_error_of_the_send(mailbox: Mailbox, spans: InMemorySpanExporter) -> None:
    gone = mailbox.create(60)
    mailbox.remove(gone)
    with pytest.raises(NotFound):
        mailbox.send(gone, "hello")
    sent = one(spans, "send (private)")
    assert sent.status.status_code is StatusCode.ERROR
    assert attributes(sent)["error.type"] == "mq9.sdk.errors.NotFound"
    assert_no_secrets(spans, gone)
    with pytest.raises(BadRequest):
        mailbox.send(gone, "hello", priority="none of these")
    assert len(spans.get_finished_spans()) == 1


def test_no_span_names_a_private_mailbox(mailbox: Mailbox, spans: InMemorySpanExporter) -> None:
    box = mailbox.create(60)
    mailbox.send(box, "one", reply_to=box.drop_id)
    mailbox.send(box.drop_id, "two")
    mailbox.send_many(box, ["three"])
    with mailbox.receive(box, lambda message: message.reply("x") if message.reply_to else None) as receiver:
        while len(named(spans, "process (private)")) < 4:
            receiver.wait(0.01)
    for span in spans.get_finished_spans():
        assert attributes(span)["messaging.destination.anonymous"] is True
        assert "messaging.destination.name" not in attributes(span)
    assert_no_secrets(spans, box)


def assert_no_secrets(spans: InMemorySpanExporter, box: MailboxInfo) -> None:
    """Nothing that is exported has the mail_id or the drop_id in it."""
    said = "".join(span.to_json() for span in spans.get_finished_spans())
    assert said
    for secret in (str(box), box.drop_id):
        assert secret
        assert secret[2:] not in said


def test_who_does_not_use_it_does_not_load_it(broker: BrokerProcess) -> None:
    program = f"""
import sys
from mq9 import Mailbox
with Mailbox({broker.url!r}) as mailbox:
    box = mailbox.create(60)
    mailbox.send(box, "x")
    with mailbox.receive(box, print) as receiver:
        receiver.wait(0.1)
    (message,) = mailbox.fetch(box)
    assert "traceparent" not in message.headers
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30, stdout=subprocess.DEVNULL)


def test_the_api_alone_carries_a_context_on(broker: BrokerProcess) -> None:
    """Without the SDK of OpenTelemetry nobody records spans, but what came from elsewhere goes on."""
    program = f"""
from opentelemetry import context, propagate, trace
from mq9 import Mailbox
assert type(trace.get_tracer_provider()).__name__ == "ProxyTracerProvider"
context.attach(propagate.extract({{"traceparent": {TRACEPARENT!r}}}))
with Mailbox({broker.url!r}) as mailbox:
    box = mailbox.create(60)
    mailbox.send(box, "x")
    (message,) = mailbox.fetch(box)
    assert message.headers["traceparent"] == {TRACEPARENT!r}, message.headers
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)
