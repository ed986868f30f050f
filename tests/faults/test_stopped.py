"""A broker that stands still for a while, as on a machine that was suspended or is out of memory, and goes on.

docs/protocol.md §1 and §4: what has a duration goes on with the time meanwhile; clients that are there stay connected.
"""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Final

from tests.faults.beside import Beside
from tests.faults.test_clock import wait_for
from tests.store.post import MAILBOX, Post
from tests.support.findings import Finding, is_thorough, record

if TYPE_CHECKING:
    from tests.support.broker import BrokerProcess

STOPPED_S: Final = 60.0 if is_thorough() else 1.5
FETCH: Final = "$mq9.AI.MSG.FETCH.box"


def fetch(post: Post, group: str, lease_ms: int) -> list[tuple[int, int]]:
    body = {"group_name": group, "lease_ms": lease_ms, "config": {"num_msgs": 10, "max_wait_ms": 0}}
    return [(item["msg_id"], item["attempt"]) for item in post.ask(FETCH, body)["messages"]]


def test_a_broker_that_was_stopped_goes_on(broker: BrokerProcess) -> None:
    patience_s = STOPPED_S + 20
    with Post(broker.url, patience_s) as post, Post(broker.url, patience_s) as receiver, Beside(broker) as others:
        post.new(name="box")
        msg_id = post.send("box", b"work")["msg_id"]
        receiver.client.send(b"SUB %b.MSG.box.* 7\r\n" % MAILBOX.encode())
        assert receiver.client.frame() is not None
        assert fetch(post, "short", round(STOPPED_S * 500)) == [(msg_id, 1)]
        assert fetch(post, "long", 3_600_000) == [(msg_id, 1)]
        post.client.fence()
        broker.send_signal(signal.SIGSTOP)
        time.sleep(STOPPED_S)
        broker.send_signal(signal.SIGCONT)
        # The short lease ran out meanwhile, the long one did not.
        wait_for(lambda: fetch(post, "short", 3_600_000) == [(msg_id, 2)], "a lease that is over holds")
        assert fetch(post, "long", 3_600_000) == []
        sent = post.send("box", b"after")["msg_id"]
        frame = receiver.client.frame()
        assert frame is not None
        assert f"mq9-msg-id: {sent}\r\n".encode() in frame
        assert fetch(post, "long", 3_600_000) == [(sent, 1)]
        others.end()
        rss = others.rss_both_mb()
        log = broker.log()
    assert "cut off" not in log, log
    assert "ERROR" not in log
    assert "WARNING" not in log
    done = f"SIGSTOP for {STOPPED_S:g} s with leases running and {others.found['sent']} messages sent into it, then SIGCONT"
    found = (
        "leases of less are over, longer ones hold; every client stays; what was sent meanwhile is stored and delivered"
    )
    record(Finding("SIGSTOP", done, found, others.found["stored"] + 2, rss_mb=rss))
