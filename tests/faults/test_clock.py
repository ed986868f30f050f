"""The system's clock set an hour forward or back under a broker: what has a duration lasts as long as it was to.

docs/protocol.md §2: no lease, delay or wait ends sooner or later for it; the ends of mailboxes and messages follow slowly.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.faults.beside import Beside, lines
from tests.store.post import MAILBOX, Post
from tests.support.findings import Finding, record

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.shim import Shim
    from tests.support.broker import BrokerProcess

HOUR_S: Final = 3_600
FETCH: Final = "$mq9.AI.MSG.FETCH.box"
# Long enough that the machine may be slow, and far less than the hour.
LEASE_MS: Final = 30_000


def leased(post: Post, wait_ms: int = 0) -> list[int]:
    """The msg_ids of what a worker is given now."""
    body = {"group_name": "workers", "lease_ms": LEASE_MS, "config": {"num_msgs": 1, "max_wait_ms": wait_ms}}
    return [item["msg_id"] for item in post.ask(FETCH, body)["messages"]]


def send(post: Post, payload: bytes, **headers: str) -> dict[str, Any]:
    """Send with headers to the mailbox `box`; the answer."""
    block = b"NATS/1.0\r\n" + b"".join(
        b"%b: %b\r\n" % (k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()
    )
    block += b"\r\n"
    head = b"HPUB %b.MSG.box answers.0 %d %d\r\n" % (MAILBOX.encode(), len(block), len(block) + len(payload))
    post.client.send(head + block + payload + b"\r\n")
    return post.answer()[1]


def wait_for(true: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def check_durations(post: Post, told: dict[str, Any], expires_at: int) -> None:
    """Nothing that was begun before the clock was set is over, and nothing that begins now takes longer."""
    assert leased(post) == [], "a lease was cut short"
    assert post.fetch("ends"), "a message was ended"
    assert post.create(name="ends")["expires_at"] == expires_at
    again = send(post, b"once", Nats_Msg_Id="once")
    assert again.get("duplicate"), again
    assert again["msg_id"] == told["once"]
    assert leased(post, 300) == []  # answered, when it has waited
    # A delay ends when it has lasted: not an hour later.
    appears = send(post, b"soon", mq9_delay="0.2", mq9_priority="critical")["msg_id"]
    wait_for(lambda: leased(post) == [appears], "a delayed message did not appear")
    body = {"group_name": "workers", "msg_ids": [appears], "op": "nack", "delay_ms": 200}
    assert post.ask("$mq9.AI.MSG.ACK.box", body)["error"] == ""
    wait_for(lambda: leased(post) == [appears], "what was given back did not come again")
    assert told["late"] not in {mail.msg_id for mail in post.fetch("box")}, "a delay was cut short"


@pytest.mark.parametrize("by_s", [HOUR_S, -HOUR_S], ids=["forward", "back"])
@pytest.mark.parametrize("when", ["running", "restart"])
def test_a_clock_that_is_set_moves_no_lease_and_no_timer(
    broker: BrokerProcess, shim: Shim, by_s: int, when: str
) -> None:
    with Post(broker.url) as post:
        post.new(name="box")
        expires_at = post.ask(f"{MAILBOX}.CREATE", {"name": "ends", "ttl": 600})["expires_at"]
        post.send("ends", b"for ten minutes")
        told = {
            "once": send(post, b"once", Nats_Msg_Id="once")["msg_id"],
            "late": send(post, b"late", mq9_delay="600")["msg_id"],
        }
        assert leased(post) == [told["once"]]
        if when == "running":
            with Beside(broker) as others:
                shim.set_clock(by_s)
                wait_for(lambda: "clock was set" in broker.log(), "the broker says nothing of its clock")
                check_durations(post, told, expires_at)
                time.sleep(0.3)
                others.end()
                rss = others.rss_both_mb()
            found: Any = others
    if when == "restart":
        broker.kill()
        shim.set_clock(by_s)
        broker.start()
        with Post(broker.url) as post:
            check_durations(post, told, expires_at)
        wait_for(lambda: "clock was set" in broker.log(), "the broker says nothing of its clock")
        # Another start finds how the clock runs, and nothing new.
        broker.kill()
        broker.start()
        with Post(broker.url) as post:
            assert post.fetch("ends")
            assert leased(post) == []
    said = lines(broker.log(), "clock was set")
    assert len(said) == (1 if when == "running" else 0), said
    word = "forward" if by_s > 0 else "back"
    if when == "running":
        assert f"set {word} by 3600" in said[0]
        done = f"CLOCK_REALTIME of the process set an hour {word} while leases, delays and ttls run, and the same at a restart"
        result = "no lease, delay, wait or window moves; expiry follows by 1 s in 100"
        fault = f"Clock: an hour {word}"
        record(Finding(fault, done, result, found.found["stored"] + 4, found.p99_ms(), rss, said[0]))


def test_a_clock_that_is_more_than_a_day_off_is_taken_as_it_is_at_a_restart(broker: BrokerProcess, shim: Shim) -> None:
    broker.stop()
    shim.set_clock(48 * HOUR_S)
    broker.start()
    with Post(broker.url) as post:
        assert post.create(name="new")["created_at"] > time.time() + 47 * HOUR_S
    assert "clock was set" not in broker.log()
