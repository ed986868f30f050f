"""The load generator's workers find whatever a broker does wrong with what it hands out, as mq9 and as JetStream."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.bench.running import BROKEN_PROMISE, COUNT, MIDDLE, assert_refused, figure, run
from tests.bench.scripted import Script, drop, message, repeat, replace

if TYPE_CHECKING:
    from tests.bench.scripted import Fault

DIALECTS = {
    "mq9": "--dialect mq9 {}",
    "jetstream": "--dialect jetstream $JS.API.CONSUMER.MSG.NEXT.S.{}",
}
SENDING = "requests --connections 2 --in-flight 16 a"


def work(script: Script, dialect: str, options: str = "") -> tuple[int, str, str]:
    """Have workers take what two senders have stored."""
    return run(script, SENDING, f"work --workers 4 --publishers 2 {options} {DIALECTS[dialect].format('a')}")


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("batch", [1, 7, 64, 1000])
def test_what_was_handled_once_and_acked_is_counted(dialect: str, batch: int) -> None:
    told = figure(work(Script(), dialect, f"--batch {batch}"))
    assert (told["mode"], told["count"]) == ("work", 2 * COUNT)
    assert 0 < told["p50_us"] <= told["p99_us"] <= told["max_us"]


@pytest.mark.parametrize("size", [32, 33, 34, 35, 1000])
def test_payloads_of_any_size_come_out_of_their_encoding(size: int) -> None:
    sized = f"--size {size}"
    told = figure(run(Script(), f"{SENDING} {sized}", f"work --workers 4 --publishers 2 {sized} a"))
    assert told["count"] == 2 * COUNT


def flip(payload: bytes) -> bytes:
    """Change one bit in the middle of a payload."""
    return payload[:60] + bytes([payload[60] ^ 1]) + payload[61:]


MESSAGE_FAULTS: dict[str, tuple[Fault, str]] = {
    "lost": (drop(MIDDLE), f"of {2 * COUNT} messages {2 * COUNT - 1} were handed out"),
    "handed out twice": (repeat(MIDDLE), "which worker"),
    "corrupted": (replace(MIDDLE, flip), "corrupted: its checksum does not match"),
    "no message of ours": (replace(MIDDLE, lambda _: b"hello"), "shorter than anything that was sent"),
}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("name", MESSAGE_FAULTS)
def test_a_message_that_is_not_handed_out_as_promised_is_found(name: str, dialect: str) -> None:
    fault, sentence = MESSAGE_FAULTS[name]
    assert_refused(work(Script(work_fault=fault), dialect), sentence)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_message_of_a_sender_that_there_was_not_is_found(dialect: str) -> None:
    ended = run(Script(), SENDING, f"work --publishers 1 {DIALECTS[dialect].format('a')}")
    assert_refused(ended, "of publisher 1 with 128 bytes, which nobody sent")


def test_more_messages_than_were_asked_for_are_found() -> None:
    class Generous(Script):
        def take(self, box: str, limit: int) -> list[tuple[int, bytes]]:
            return super().take(box, limit + 1)

    assert_refused(work(Generous(), "mq9"), "got more messages at once than it asked for")


def _refuse(frame: bytes) -> bytes:
    words = frame.split(b"\r\n", 1)[0].decode().split()
    return message(words[1], words[2], b'{"error": "no such group", "code": 404}')


ACK_FAULTS: dict[str, tuple[Fault, str]] = {
    "lost": (drop(1), "acks confirmed, then nothing came"),
    "repeated": (repeat(1), "a confirmation that it was not waiting for"),
}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("name", ACK_FAULTS)
def test_an_ack_that_is_not_confirmed_as_promised_is_found(name: str, dialect: str) -> None:
    fault, sentence = ACK_FAULTS[name]
    assert_refused(work(Script(ack_fault=fault), dialect, "--batch 16"), sentence)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_acks_that_are_confirmed_late_are_waited_for(dialect: str) -> None:
    class Slow(Script):
        def work(self, words: list[str], payload: bytes, writer: asyncio.StreamWriter) -> None:
            is_ack = words[1].startswith(("$mq9.AI.MSG.ACK.", "$JS.ACK."))
            # Long enough for a worker that does not wait to have a hundred acks unconfirmed.
            asyncio.get_running_loop().call_later(0.02 if is_ack else 0.0, super().work, words, payload, writer)

    told = figure(work(Slow(), dialect, "--workers 1 --batch 1"))
    assert told["count"] == 2 * COUNT


@pytest.mark.parametrize(
    ("dialect", "sentence"),
    [("mq9", 'a request was refused: {"error": "no such group"'), ("jetstream", "no such group")],
)
def test_an_ack_that_is_refused_is_found(dialect: str, sentence: str) -> None:
    assert_refused(work(Script(ack_fault=replace(1, _refuse)), dialect, "--batch 16"), sentence)


def test_a_message_after_all_have_been_handled_is_found() -> None:
    class Late(Script):
        def take(self, box: str, limit: int) -> list[tuple[int, bytes]]:
            batch = super().take(box, limit)
            if not batch and self.acks:
                return [(1, self.stored[box][0])]
            return batch

    status, output, errors = work(Late(), "mq9")
    assert (status, output) == (BROKEN_PROMISE, "")
    # When it comes with the last confirmation it is an ordinary repetition.
    assert "after all had been handled" in errors or "which worker" in errors
