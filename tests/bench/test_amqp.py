"""The load generator speaks AMQP, and finds whatever a broker does wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.bench.running import COUNT, LAST, MIDDLE, assert_refused, figure, run
from tests.bench.scripted import drop, repeat, replace, swap
from tests.bench.scripted_amqp import AmqpScript, Channel, confirm, delivery, method, short

if TYPE_CHECKING:
    from tests.bench.scripted import Fault

SENDING = "requests --dialect amqp --connections 2 --in-flight 16"
RECEIVING = "receive --dialect amqp --publishers 2"
WORKING = "work --dialect amqp --workers 4 --publishers 2"


@pytest.mark.parametrize("in_pairs", [False, True])
def test_what_was_published_is_counted_read_back_and_worked_on(in_pairs: bool) -> None:
    for subjects in ("a", "a b"):
        sent = figure(run(AmqpScript(in_pairs=in_pairs), f"{SENDING} {subjects}"))
        assert (sent["mode"], sent["count"]) == ("requests", 2 * COUNT)
        read = figure(run(AmqpScript(in_pairs=in_pairs), f"{SENDING} {subjects}", f"{RECEIVING} {subjects}"))
        assert (read["mode"], read["count"]) == ("receive", 2 * COUNT)
    worked = figure(run(AmqpScript(in_pairs=in_pairs), f"{SENDING} a", f"{WORKING} --batch 16 a"))
    assert (worked["mode"], worked["count"]) == ("work", 2 * COUNT)


@pytest.mark.parametrize("size", [32, 1000, 100_000])
def test_content_that_comes_in_pieces_is_put_together(size: int) -> None:
    sized = f"--size {size} a"
    assert figure(run(AmqpScript(), f"{SENDING} {sized}", f"{RECEIVING} {sized}"))["size"] == size


def test_confirms_in_another_order_are_confirms() -> None:
    assert figure(run(AmqpScript(fault=swap(MIDDLE)), "requests --dialect amqp --in-flight 16 a"))["count"] == COUNT


def closed(class_id: int, method_id: int) -> bytes:
    """Write that the broker closes a channel or a connection."""
    return method(class_id, method_id, b"\x01\xf8" + short(b"PRECONDITION_FAILED") + b"\0" * 4)


CONFIRM_FAULTS: dict[str, tuple[Fault, str]] = {
    "lost": (drop(MIDDLE), "requests were answered, then nothing came"),
    "last one lost": (drop(LAST), f"{LAST} of {COUNT} requests were answered, then nothing came"),
    "repeated": (repeat(MIDDLE), "two answers to request 100"),
    "of a message that was not sent": (
        replace(MIDDLE, lambda _: confirm(COUNT + 1)),
        "not waiting for, of message 201",
    ),
    "of none": (replace(MIDDLE, lambda _: confirm(0)), "not waiting for, of message 0"),
    "of several that are confirmed": (replace(MIDDLE, lambda _: confirm(3, True)), "not waiting for, of message 3"),
    "a refusal": (replace(MIDDLE, lambda _: method(60, 120, b"\0" * 7 + b"\x65\0")), "the broker refused message 101"),
    "a closed channel": (replace(MIDDLE, lambda _: closed(20, 40)), "the broker said 504 PRECONDITION_FAILED"),
    "a closed connection": (replace(MIDDLE, lambda _: closed(10, 50)), "the broker said 504 PRECONDITION_FAILED"),
    "a delivery": (replace(MIDDLE, lambda _: delivery(1, b"hello")), "got AMQP method 60.60 while it waited"),
    "garbage": (replace(MIDDLE, lambda _: b"HTTP/1.1 400\r\n"), "not AMQP: HTTP/1.1 400"),
    "a frame without its end": (replace(MIDDLE, lambda frame: frame[:-1] + b"\0"), "does not end where it should"),
}


@pytest.mark.parametrize("name", CONFIRM_FAULTS)
def test_a_confirm_that_is_not_as_promised_is_found(name: str) -> None:
    fault, sentence = CONFIRM_FAULTS[name]
    assert_refused(run(AmqpScript(fault=fault), "requests --dialect amqp --in-flight 16 a"), sentence)


def _flip(frame: bytes) -> bytes:
    return frame[:-60] + bytes([frame[-60] ^ 1]) + frame[-59:]


def _first_frame_twice(frames: bytes) -> bytes:
    return frames[: 7 + int.from_bytes(frames[3:7]) + 1] * 2


DELIVERY_FAULTS: dict[str, tuple[Fault, str]] = {
    "lost": (drop(MIDDLE), "lost, repeated or out of order"),
    "last one lost": (drop(LAST), f"got {LAST} of {COUNT} messages, then nothing came"),
    "repeated": (repeat(MIDDLE), "lost, repeated or out of order"),
    "last one repeated": (repeat(LAST), f"got message {LAST} of publisher 0 in place of {COUNT}"),
    "out of order": (swap(MIDDLE), "lost, repeated or out of order"),
    "corrupted": (replace(MIDDLE, _flip), "corrupted: its checksum does not match"),
    "for another consumer": (replace(MIDDLE, lambda _: delivery(1, b"", consumer=b"7")), "which it did not ask for"),
    "without its content": (replace(MIDDLE, _first_frame_twice), "not followed by its header"),
}


@pytest.mark.parametrize("name", DELIVERY_FAULTS)
def test_a_message_that_does_not_come_back_as_promised_is_found(name: str) -> None:
    fault, sentence = DELIVERY_FAULTS[name]
    ended = run(AmqpScript(deliver_fault=fault), "requests --dialect amqp --in-flight 16 a", "receive --dialect amqp a")
    assert_refused(ended, sentence)


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        (AmqpScript(extra=1), "there is more in a than was sent"),
        (AmqpScript(deliver_late=True), "AMQP method 60.60 came in place of queue.declare-ok"),
    ],
)
def test_a_message_after_everything_has_come_is_found(script: AmqpScript, sentence: str) -> None:
    assert_refused(run(script, f"{SENDING} a", f"{RECEIVING} a"), sentence)


def _given_before(frame: bytes) -> bytes:
    start = frame.index(b"\x010", 7) + 2
    return frame[: start + 8] + b"\x01" + frame[start + 9 :]


WORK_FAULTS: dict[str, tuple[Fault, str]] = {
    "lost": (drop(2 * COUNT - 1), f"of {2 * COUNT} messages {2 * COUNT - 1} were handed out"),
    "a gap": (drop(MIDDLE), "in place of"),
    "repeated": (repeat(MIDDLE), "in place of"),
    "redelivered": (replace(MIDDLE, _given_before), "given to somebody before"),
    "corrupted": (replace(MIDDLE, _flip), "corrupted: its checksum does not match"),
}


@pytest.mark.parametrize("name", WORK_FAULTS)
def test_a_message_that_is_not_handed_out_as_promised_is_found(name: str) -> None:
    fault, sentence = WORK_FAULTS[name]
    assert_refused(run(AmqpScript(deliver_fault=fault), f"{SENDING} a", f"{WORKING} --batch 16 a"), sentence)


def test_what_was_handed_out_twice_is_found() -> None:
    class Twice(AmqpScript):
        def publish(self, payload: bytes, channel: Channel) -> list[bytes]:
            confirms = super().publish(payload, channel)
            if self.taken == MIDDLE:
                self.queues[channel.queue].append(payload)
            return confirms

    assert_refused(run(Twice(), f"{SENDING} a", f"{WORKING} --batch 16 a"), "which worker")


def test_acks_that_were_not_taken_are_found() -> None:
    ended = run(AmqpScript(forgets_acks=True), f"{SENDING} a", f"{WORKING} --batch 200 a")
    assert_refused(ended, f"{2 * COUNT} messages are not acked")
