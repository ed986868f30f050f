"""The micro-benchmarks: each with the compiled modules that it measures, as paths below src/mq9."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench.micro import compiled, stages

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Benchmark:
    """Something done once for each message.

    `prepare(n)` gets ready for `n` of them, and returns what does it and returns how many it saw done: `n`, or something
    is broken. `counted` is how many are done when instructions are counted: enough that what is done once does not show.
    """

    name: str
    modules: tuple[str, ...]
    prepare: Callable[[int], Callable[[], int]]
    counted: int = 20_000


def _probe(name: str, *arguments: Callable[[], object]) -> Callable[[int], Callable[[], int]]:
    """A class of probes.pyx, made with these arguments."""

    def prepare(n: int) -> Callable[[], int]:
        probe = getattr(compiled.load(), name)(*(argument() for argument in arguments))
        return lambda: int(probe.run(n))

    return prepare


FRAMES: Final = 100


def _frames() -> bytes:
    one = b"PUB " + stages.SUBJECT + b" _INBOX.one.00000001 128\r\n" + stages.PAYLOAD + b"\r\n"
    return one * FRAMES


def _remember(n: int) -> Callable[[], int]:
    blocks = stages.Broker().office.blocks
    probe = compiled.load().Remember([b"order-%d" % number for number in range(n)], blocks)
    return lambda: int(probe.run(n))


def _names(count: int) -> list[bytes]:
    return [b"m-%026d" % (number * 2_654_435_761) for number in range(count)]


ALL: Final = (
    Benchmark("parse a frame", ("wire/frames",), _probe("Parse", _frames, lambda: FRAMES)),
    Benchmark("write the head of a frame", ("wire/encode",), _probe("Encode", lambda: stages.SUBJECT, lambda: b"17")),
    Benchmark(
        "read a header block", ("wire/headers",), _probe("Headers", lambda: stages.HEADERS, lambda: b"traceparent")
    ),
    Benchmark(
        "look at a subject",
        ("routing/subjects",),
        _probe("Subjects", lambda: b"orders.*.>", lambda: b"orders.eu.new.42"),
    ),
    Benchmark(
        "route a message",
        ("routing/router",),
        _probe("Match", lambda: [b"orders.%d" % number for number in range(1_000)], lambda: False),
    ),
    Benchmark(
        "route to a subject that is new",
        ("routing/router",),
        _probe("Match", lambda: [b"orders.%d" % number for number in range(1_000)], lambda: True),
    ),
    Benchmark("find a mailbox", ("native/bytemap",), _probe("Find", lambda: _names(50_000))),
    Benchmark("write a record", ("mailboxes/writing", "mailboxes/format"), _probe("Write", lambda: stages.PAYLOAD)),
    Benchmark(
        "read the headers of a send",
        ("server/sending", "wire/headers"),
        _probe("ReadSend", stages.make_mailbox, lambda: stages.HEADERS, lambda: stages.PAYLOAD),
    ),
    Benchmark("index a message", ("mailboxes/index",), _probe("Index")),
    Benchmark("set a timer, and let it fire", ("mailboxes/timers",), _probe("Timing")),
    Benchmark("remember an id", ("mailboxes/dedup",), _remember),
    Benchmark(
        "send",
        (
            *("server/connection", "server/session", "server/mail", "mailboxes/office", "mailboxes/batch"),
            *("mailboxes/blocks", "mailboxes/mailbox", "mailboxes/drops", "mailboxes/numbers", "mailboxes/capacity"),
        ),
        stages.send,
    ),
    Benchmark("send among many mailboxes", ("native/bytemap", "mailboxes/index", "mailboxes/batch"), stages.send_among),
    Benchmark("send with headers", ("server/sending", "server/mail"), stages.send_with_headers),
    Benchmark("sum up a message", ("native/checksum",), stages.sum_up),
    Benchmark("put a message into a frame of the journal", ("store/frame",), stages.frame),
    Benchmark("deliver", ("mailboxes/delivery", "mailboxes/late", "server/mail"), stages.deliver),
    Benchmark("pass on, core NATS", ("server/session", "server/connection", "routing/router"), stages.core),
    Benchmark(
        "lease and ack",
        ("mailboxes/group", "mailboxes/groups", "mailboxes/settling", "mailboxes/leased"),
        stages.work,
        counted=6_400,
    ),
    Benchmark("fetch", ("mailboxes/reading", "mailboxes/mailbox"), stages.fetch, counted=5_000),
    Benchmark("load", ("mailboxes/loading", "mailboxes/blocks"), stages.load),
)

# Compiled, but not passed by every message: each says when it is.
NOT_ON_THE_PATH: Final = {
    "mailboxes/appeared": "for messages with mq9-delay",
    "mailboxes/keys": "for messages with mq9-key",
    "mailboxes/owner": "for mailboxes that belong to a user",
    "native/base32": "for mailboxes that are created",
    "server/permissions": "for users who may not do everything",
    "server/user": "for users",
    "server/clock": "reads a clock of the system, as what it took the place of did",
    "store/writer": "its work is two system calls for each commit",
    "mailboxes/removals": "for messages that are deleted or replaced",
    "mailboxes/rewriting": "in the background",
    "wire/events": "for tests and tools",
}
