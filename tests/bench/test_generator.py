"""The load generator finds whatever a server does wrong, and reports no figure then."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.bench.running import BROKEN_PROMISE, COUNT, LAST, MIDDLE, USAGE, assert_refused, figure, run
from tests.bench.scripted import INFO, Script, drop, message, repeat, replace, swap

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from pathlib import Path

    from tests.bench.scripted import Fault


@pytest.mark.parametrize("size", [32, 33, 128, 1000])
def test_requests_are_counted_when_all_is_as_promised(size: int) -> None:
    told = figure(run(Script(), f"requests --connections 3 --in-flight 16 --size {size} a b"))
    assert (told["mode"], told["count"], told["size"]) == ("requests", 3 * COUNT, size)
    assert told["rate"] == pytest.approx(told["count"] / told["seconds"], rel=1e-3)
    assert 0 < told["p50_us"] <= told["p99_us"] <= told["max_us"]
    assert told["generator_cpu_s"] > 0


@pytest.mark.parametrize("subscribers", [1, 5])
@pytest.mark.parametrize("threads", [1, 2])
def test_deliveries_are_counted_when_all_is_as_promised(subscribers: int, threads: int) -> None:
    told = figure(run(Script(), f"publish --subscribers {subscribers} --threads {threads} a"))
    assert (told["mode"], told["count"]) == ("publish", subscribers * COUNT)
    assert 0 < told["p50_us"] <= told["p99_us"] <= told["max_us"]


def test_a_window_smaller_than_the_run_loses_nothing() -> None:
    assert figure(run(Script(), "publish --window 7 --subscribers 2 a"))["count"] == 2 * COUNT


def test_what_is_sent_on_a_schedule_is_counted_and_so_is_how_late_it_was_sent() -> None:
    told = figure(run(Script(forward={"a": "b"}), "publish --rate 2000 --subscribers 2 a b"))
    assert told["count"] == 2 * COUNT
    assert told["seconds"] >= COUNT / 2000
    assert 0 <= told["late_p99_us"] <= told["late_max_us"]


SPREAD = "requests --spread --connections 2 --in-flight 16 --ids-per-subject a b c d"


@pytest.mark.parametrize("options", ["", "--subscribers 2", "--share --subscribers 2 --threads 2"])
def test_what_was_spread_over_subjects_is_counted_when_it_comes_back(options: str) -> None:
    told = figure(run(Script(), SPREAD, f"receive --spread --publishers 2 {options} a b c d"))
    assert told["count"] == 2 * COUNT * (2 if options == "--subscribers 2" else 1)


def test_some_of_many_subjects_can_be_looked_at() -> None:
    told = figure(run(Script(), SPREAD, "receive --spread --publishers 2 --every 2 a b c d"))
    assert told["count"] == COUNT


def test_a_message_under_another_subject_than_it_was_sent_to_is_found() -> None:
    def misdirect(number: int, frames: list[bytes]) -> list[bytes]:
        return [frame.replace(b"MSG a 1", b"MSG b 2") if number == 3 else frame for frame in frames]

    ended = run(Script(replay_fault=misdirect), SPREAD, "receive --spread --publishers 2 a b c d")
    assert_refused(ended, "from a subject that it was not sent to")


@pytest.mark.parametrize("fault", [drop(3), repeat(3), swap(3)])
def test_what_was_spread_is_checked_for_each_subject(fault: Fault) -> None:
    ended = run(Script(replay_fault=fault), SPREAD, "receive --spread --publishers 2 a b c d")
    assert_refused(ended, "lost, repeated or out of order")


def test_requests_that_are_no_messages_are_counted_and_their_values_kept(tmp_path: Path) -> None:
    values = tmp_path / "values"
    told = figure(run(Script(), f"ask --connections 2 --in-flight 16 --values-file {values} --body {{}} create.%"))
    assert (told["mode"], told["count"]) == ("ask", 2 * COUNT)
    assert sorted(map(int, values.read_text().split())) == list(range(1, 2 * COUNT + 1))


def test_such_requests_may_be_answered_in_any_order() -> None:
    assert figure(run(Script(fault=swap(MIDDLE)), "ask --in-flight 16 create"))["count"] == COUNT


def test_such_requests_can_be_numbered_from_where_others_ended() -> None:
    asked: list[str] = []

    class Noting(Script):
        def publish(self, words: list[str], payload: bytes, writer: asyncio.StreamWriter) -> None:
            asked.append(f"{words[1]} {payload.decode()}")
            super().publish(words, payload, writer)

    assert figure(run(Noting(), "ask --connections 2 --first 1000 --body n% create.%"))["count"] == 2 * COUNT
    assert sorted(asked) == [f"create.{number} n{number}" for number in range(1000, 1000 + 2 * COUNT)]


def test_subjects_can_be_the_lines_of_a_file(tmp_path: Path) -> None:
    lines = tmp_path / "lines"
    lines.write_text("".join(f"m-{number}\n" for number in range(4)))
    script = Script()
    assert figure(run(script, f"requests --connections 4 --subjects-file {lines} box."))["count"] == 4 * COUNT
    assert sorted(script.stored) == [f"box.m-{number}" for number in range(4)]


def test_connections_that_do_nothing_are_counted_when_all_are_there_in_the_end() -> None:
    told = figure(run(Script(), "idle --connections 30"))
    assert (told["mode"], told["count"]) == ("idle", 30)


def test_a_connection_that_was_hung_up_on_is_not_idle() -> None:
    class Impatient(Script):
        connected = 0

        async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connected += 1
            if self.connected < 30:
                await super().serve(reader, writer)
                return
            writer.write(INFO)
            await reader.readuntil(b"PING\r\n")
            writer.write(b"PONG\r\n")
            writer.close()

    status, _, errors = run(Impatient(), "idle --connections 30")
    assert status == BROKEN_PROMISE
    assert "the server closed a connection" in errors


def test_what_was_stored_is_counted_when_it_comes_back() -> None:
    sending = "requests --connections 3 --in-flight 16 a b"
    told = figure(run(Script(), sending, "receive --publishers 3 --subscribers 2 --threads 2 a b"))
    assert (told["mode"], told["count"]) == ("receive", 2 * 3 * COUNT)


def _other_payload(payload: bytes) -> Callable[[bytes], bytes]:
    """Make a frame with the same subject and another payload."""

    def make(frame: bytes) -> bytes:
        words = frame.split(b"\r\n", 1)[0].decode().split()
        return message(words[1], words[2], payload)

    return make


def _no_responders(frame: bytes) -> bytes:
    words = frame.split(b"\r\n", 1)[0].decode().split()
    return f"HMSG {words[1]} {words[2]} 16 16\r\nNATS/1.0 503\r\n\r\n\r\n".encode()


def _under_error_status(frame: bytes) -> bytes:
    """Make the frame with a header block that says 500 before its payload."""
    line, payload = frame[:-2].split(b"\r\n", 1)
    words = line.decode().split()
    header = b"NATS/1.0 500\r\n\r\n"
    sizes = f"{len(header)} {len(header) + len(payload)}"
    return f"HMSG {words[1]} {words[2]} {sizes}\r\n".encode() + header + payload + b"\r\n"


VALUE_FAULTS: dict[str, tuple[Fault, str]] = {
    "lost": (drop(MIDDLE), "requests were answered, then nothing came"),
    "last one lost": (drop(LAST), f"{LAST} of {COUNT} requests were answered, then nothing came"),
    "repeated": (repeat(MIDDLE), f"a reply it was not waiting for, to request {MIDDLE}"),
    "to another inbox": (replace(MIDDLE, lambda frame: frame.replace(b"_INBOX.", b"_INBOX.x.", 1)), "of another one"),
    "an error": (replace(MIDDLE, _other_payload(b'{"error": "no", "msg_id": 7}')), 'was refused: {"error": "no"'),
    "without a value": (replace(MIDDLE, _other_payload(b"{}")), "a request was refused: {}"),
    "an empty value": (replace(MIDDLE, _other_payload(b'{"msg_id": ""}')), "a reply has 0 bytes as msg_id"),
    "no responders": (replace(MIDDLE, _no_responders), "a request was refused: NATS/1.0 503"),
    "a value that another has": (replace(MIDDLE, _other_payload(b'{"msg_id": 7}')), "answered with the same msg_id"),
}


@pytest.mark.parametrize("name", VALUE_FAULTS)
def test_an_answer_that_is_not_as_promised_is_found(name: str) -> None:
    fault, sentence = VALUE_FAULTS[name]
    assert_refused(run(Script(fault=fault), "ask --in-flight 16 a"), sentence)


REPLY_FAULTS: dict[str, tuple[Fault, str]] = {
    "lost": (drop(MIDDLE), "lost, repeated or out of order"),
    "last one lost": (drop(LAST), f"{LAST} of {COUNT} requests were answered, then nothing came"),
    "repeated": (repeat(MIDDLE), "lost, repeated or out of order"),
    "last one repeated": (repeat(LAST), "a reply it was not waiting for"),
    "out of order": (swap(MIDDLE), "lost, repeated or out of order"),
    "an error": (
        replace(MIDDLE, _other_payload(b'{"error": "storage is full", "code": 507}')),
        'a request was refused: {"error": "storage is full", "code": 507}',
    ),
    "an error with a number": (replace(MIDDLE, _other_payload(b'{"error":{"code":500},"msg_id":7}')), "was refused"),
    "no responders": (replace(MIDDLE, _no_responders), "a request was refused: NATS/1.0 503"),
    "a number under an error status": (replace(MIDDLE, _under_error_status), "a request was refused: NATS/1.0 500"),
    "without a number": (replace(MIDDLE, _other_payload(b"{}")), "a request was refused: {}"),
    "not a number": (replace(MIDDLE, _other_payload(b'{"msg_id": "7"}')), "msg_id is no number"),
    "an old number": (replace(MIDDLE, _other_payload(b'{"msg_id": 1}')), f"got msg_id 1 after {MIDDLE}"),
    "to another inbox": (replace(MIDDLE, lambda frame: frame.replace(b"_INBOX.", b"_INBOX.x.", 1)), "of another one"),
    "a refusal": (replace(MIDDLE, lambda _: b"-ERR 'Maximum Payload Violation'\r\n"), "-ERR 'Maximum Payload"),
    "garbage": (replace(MIDDLE, lambda frame: frame.replace(b" 1 ", b" 1 x", 1)), "not the NATS protocol"),
}


@pytest.mark.parametrize("name", REPLY_FAULTS)
def test_a_reply_that_is_not_as_promised_is_found(name: str) -> None:
    fault, sentence = REPLY_FAULTS[name]
    assert_refused(run(Script(fault=fault), "requests --in-flight 16 a"), sentence)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("requests a", "a message came where none was to come"),
        ("publish a", f"got message {LAST} of publisher 0 in place of {COUNT}"),
    ],
)
def test_a_repetition_after_everything_has_come_is_found(words: str, sentence: str) -> None:
    assert_refused(run(Script(repeat_late=LAST), words), sentence)


def test_more_stored_messages_than_were_sent_are_found() -> None:
    ended = run(Script(), "requests a", f"receive --count {LAST} a")
    assert_refused(ended, f"got message {LAST} of publisher 0 in place of {LAST}")


def test_a_message_of_a_sender_that_there_was_not_is_found() -> None:
    assert_refused(run(Script(), "requests --connections 2 a", "receive a"), "a message of publisher 1")


def test_a_number_given_twice_is_found() -> None:
    counters: dict[str, int] = {}

    def identify(stored: int, subject: str) -> int:
        del stored
        counters[subject] = counters.get(subject, 0) + 1
        return counters[subject]

    sending = "requests --connections 2 a b"
    assert_refused(run(Script(identify=identify), sending), "two messages got msg_id 1")
    counters.clear()
    assert figure(run(Script(identify=identify), f"--ids-per-subject {sending}"))["count"] == 2 * COUNT


def _flip(position: int) -> Callable[[bytes], bytes]:
    """Change one bit of the frame, at `position` counted from its end."""

    def make(frame: bytes) -> bytes:
        changed = bytearray(frame)
        changed[position] ^= 1
        return bytes(changed)

    return make


def _shorten(frame: bytes) -> bytes:
    """Make the frame with the last byte of its payload missing."""
    line, payload = frame[:-2].split(b"\r\n", 1)
    words = line.decode().split()
    return message(words[1], words[2], payload[:-1])


MESSAGE_FAULTS: dict[str, tuple[Fault, str]] = {
    "lost": (drop(MIDDLE), f"got message {MIDDLE + 1} of publisher 0 in place of {MIDDLE}"),
    "last one lost": (drop(LAST), f"got {LAST} of {COUNT} messages, then nothing came"),
    "repeated": (repeat(MIDDLE), f"got message {MIDDLE} of publisher 0 in place of {MIDDLE + 1}"),
    "last one repeated": (repeat(LAST), f"got message {LAST} of publisher 0 in place of {COUNT}"),
    "out of order": (swap(MIDDLE), f"got message {MIDDLE + 1} of publisher 0 in place of {MIDDLE}"),
    "one bit changed at its end": (replace(MIDDLE, _flip(-3)), "corrupted: its checksum does not match"),
    "one bit changed in its middle": (replace(MIDDLE, _flip(-60)), "corrupted: its checksum does not match"),
    "one bit changed in its number": (replace(MIDDLE, _flip(-122)), "corrupted: its checksum does not match"),
    "one bit changed in its checksum": (replace(MIDDLE, _flip(-130)), "corrupted: its checksum does not match"),
    "one byte short": (replace(MIDDLE, _shorten), "corrupted: its checksum does not match"),
    "no message of ours": (replace(MIDDLE, _other_payload(b"hello")), "shorter than anything that was sent"),
}


@pytest.mark.parametrize("name", MESSAGE_FAULTS)
def test_a_delivery_that_is_not_as_promised_is_found(name: str) -> None:
    fault, sentence = MESSAGE_FAULTS[name]
    assert_refused(run(Script(fault=fault), "publish a"), sentence)


@pytest.mark.parametrize("name", MESSAGE_FAULTS)
def test_a_stored_message_that_does_not_come_back_as_promised_is_found(name: str) -> None:
    fault, sentence = MESSAGE_FAULTS[name]
    assert_refused(run(Script(replay_fault=fault), "requests --in-flight 16 a", "receive a"), sentence)


def drop_for_second_subscriber() -> Fault:
    """Withhold the middle message from the second of two subscribers."""
    deliveries: list[int] = []

    def fault(number: int, frames: list[bytes]) -> list[bytes]:
        deliveries.append(number)
        return [] if number == MIDDLE and deliveries.count(number) == 2 else frames

    return fault


def test_one_of_several_receivers_that_misses_a_message_is_found() -> None:
    ended = run(Script(fault=drop_for_second_subscriber()), "publish --subscribers 2 a")
    assert_refused(ended, f"receiver 1 got message {MIDDLE + 1} of publisher 0 in place of {MIDDLE}")


def test_a_server_that_hangs_up_is_no_figure() -> None:
    def hang_up(number: int, frames: list[bytes]) -> list[bytes]:
        if number == MIDDLE:
            raise ConnectionResetError
        return frames

    assert_refused(run(Script(fault=hang_up), "requests a"), "the server closed a connection")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("requests", "a subject is missing"),
        ("publish a b c", "more than one"),
        ("work a b", "more than one"),
        ("requests --spread --connections 2 a b c", "cannot be spread evenly"),
        ("receive --share a b", "without --spread"),
        ("requests --dialect smtp a", "no such dialect"),
        ("requests --size 31 a", "31 is not a number from 32"),
        ("requests --count -1 a", "-1 is not a number"),
        ("requests --nonsense a", "unrecognized option"),
        ("dance a", "no such mode"),
    ],
)
def test_arguments_without_sense_are_told_apart_from_broken_promises(words: str, sentence: str) -> None:
    status, output, errors = run(Script(), words)
    assert (status, output) == (USAGE, "")
    assert sentence in errors
