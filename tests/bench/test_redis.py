"""The load generator speaks to Redis, and finds whatever that does wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.bench.running import COUNT, LAST, MIDDLE, assert_refused, figure, run
from tests.bench.scripted import drop, repeat, replace, swap
from tests.bench.scripted_redis import RedisScript, bulk
from tests.bench.test_workers import flip

if TYPE_CHECKING:
    from tests.bench.scripted import Fault

SENDING = "requests --dialect redis --ids-per-subject --connections 2 --in-flight 16"
RECEIVING = "receive --dialect redis --publishers 2"
WORKING = "work --dialect redis --workers 4 --publishers 2"


def test_what_was_added_is_counted_read_back_and_worked_on() -> None:
    for subjects in ("a", "a b"):
        sent = figure(run(RedisScript(), f"{SENDING} {subjects}"))
        assert (sent["mode"], sent["count"]) == ("requests", 2 * COUNT)
        read = figure(run(RedisScript(), f"{SENDING} {subjects}", f"{RECEIVING} {subjects}"))
        assert (read["mode"], read["count"]) == ("receive", 2 * COUNT)
    worked = figure(run(RedisScript(), f"{SENDING} a", f"{WORKING} a"))
    assert (worked["mode"], worked["count"]) == ("work", 2 * COUNT)
    assert 0 < worked["p50_us"] <= worked["max_us"]


@pytest.mark.parametrize("size", [32, 1000, 100_000])
def test_replies_that_come_in_pieces_are_put_together(size: int) -> None:
    sized = f"--size {size} a"
    assert figure(run(RedisScript(), f"{SENDING} {sized}", f"{RECEIVING} {sized}"))["size"] == size


ADD_FAULTS: dict[str, tuple[Fault, str]] = {
    "last one lost": (drop(2 * COUNT - 1), f"{2 * COUNT - 1} of {2 * COUNT} requests were answered, then nothing came"),
    "an old id": (replace(MIDDLE, lambda _: bulk(b"1-1")), "got msg_id"),
    "the id of another": (replace(MIDDLE, lambda _: bulk(b"1700000000000-399")), "msg_id"),
    "no id": (replace(MIDDLE, lambda _: bulk(b"hello")), "no id of a stream's entry: hello"),
    "a number": (replace(MIDDLE, lambda _: b":7\r\n"), "something else where an entry's id should be"),
    "an error": (replace(MIDDLE, lambda _: b"-OOM command not allowed\r\n"), "the server said -OOM command"),
    "garbage": (replace(MIDDLE, lambda _: b"hello\r\n"), "not the protocol of Redis: hello"),
    "a wrong size": (replace(MIDDLE, lambda _: b"$3\r\nhello\r\n"), "not the protocol of Redis"),
}


@pytest.mark.parametrize("name", ADD_FAULTS)
def test_a_reply_that_is_not_as_promised_is_found(name: str) -> None:
    fault, sentence = ADD_FAULTS[name]
    assert_refused(run(RedisScript(fault=fault), f"{SENDING} a"), sentence)


def test_a_reply_too_many_is_found() -> None:
    ended = run(RedisScript(fault=repeat(LAST)), "requests --dialect redis a")
    assert_refused(ended, "got a reply it was not waiting for")


READ_FAULTS: dict[str, tuple[Fault, str]] = {
    "lost": (drop(MIDDLE), "lost, repeated or out of order"),
    "last one lost": (drop(LAST), f"got {LAST} of {COUNT} messages, then there were no more"),
    "repeated": (repeat(MIDDLE), "lost, repeated or out of order"),
    "out of order": (swap(MIDDLE), "lost, repeated or out of order"),
    "corrupted": (replace(MIDDLE, flip), "corrupted: its checksum does not match"),
    "no message of ours": (replace(MIDDLE, lambda _: b"hello"), "shorter than anything that was sent"),
}


@pytest.mark.parametrize("name", READ_FAULTS)
def test_an_entry_that_does_not_come_back_as_promised_is_found(name: str) -> None:
    fault, sentence = READ_FAULTS[name]
    ended = run(RedisScript(read_fault=fault), "requests --dialect redis --in-flight 16 a", "receive --dialect redis a")
    assert_refused(ended, sentence)


WORK_FAULTS: dict[str, tuple[Fault, str]] = {
    "lost": (drop(MIDDLE), f"of {2 * COUNT} messages {2 * COUNT - 1} were handed out"),
    "handed out twice": (repeat(MIDDLE), "which worker"),
    "corrupted": (replace(MIDDLE, flip), "corrupted: its checksum does not match"),
}


@pytest.mark.parametrize("name", WORK_FAULTS)
def test_an_entry_that_is_not_handed_out_as_promised_is_found(name: str) -> None:
    fault, sentence = WORK_FAULTS[name]
    assert_refused(run(RedisScript(read_fault=fault), f"{SENDING} a", f"{WORKING} --batch 1000 a"), sentence)


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (replace(1, lambda _: b":3\r\n"), "acked 16 messages, and 3 were taken note of"),
        (replace(1, lambda _: b"-NOGROUP\r\n"), "the server said -NOGROUP"),
        (repeat(1), "a reply has something else"),
    ],
)
def test_an_ack_that_is_not_confirmed_as_promised_is_found(fault: Fault, sentence: str) -> None:
    ended = run(RedisScript(ack_fault=fault), f"{SENDING} a", f"{WORKING} --batch 16 a")
    assert_refused(ended, sentence)


def test_what_is_not_acked_in_the_end_is_found() -> None:
    assert_refused(run(RedisScript(pending=3), f"{SENDING} a", f"{WORKING} a"), "3 messages are not acked")
