"""The replay itself: a transcript that says something wrong must fail, at the line that is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mq9.server.embedded import Broker
from tests.transcripts.expectation import Known, UnknownPlaceholderError
from tests.transcripts.replay import Feeding, MismatchError, Replay
from tests.transcripts.script import Server, load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SUBSCRIBED = "C1 connects\nC1> SUB a 1\nC1 silent\nC2 connects\n"
HEAD_LINES = 2


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A broker that keeps nothing."""
    with Broker() as broker:
        yield int(broker.url.rpartition(":")[2])


def replay(folder: Path, port: int, steps: str, feeding: Feeding = Feeding.BY_LINE, patience_s: float = 10) -> None:
    """Replay `steps`; their first line is the third of the transcript."""
    path = folder / "sample.txt"
    path.write_text(f"# A sample\nservers: mq9\n{steps}\n")
    Replay(load(path), Server("mq9"), port, feeding, patience_s).run()


@pytest.mark.parametrize("feeding", Feeding)
@pytest.mark.parametrize(
    ("line", "steps"),
    [
        (1, "C1 connects\nC1 closed"),
        (2, "C1 connects\nC1> PING\nC1< +OK"),
        (6, SUBSCRIBED + "C2> PUB a 1\nC2> x\nC2 silent\nC1 silent"),
        (6, SUBSCRIBED + "C2> PUB a 1\nC2> x\nC2 silent\nC1< MSG a 1 1\nC1< y"),
        (6, SUBSCRIBED + "C2> PUB a 1\nC2> x\nC2 silent\nC1< MSG a 2 1\nC1< x"),
        (6, SUBSCRIBED + "C2> PUB a 1\nC2> x\nC2 silent\nC1<~ MSG a 1 1\\r\\nx\nC1<~ MSG a 1 1\\r\\ny\nC2 silent"),
        (6, SUBSCRIBED + "C2> SUB a 1\nC2> PUB a 1\nC2> x\nC1|C2< MSG a 1 1\\r\\nx"),
        (6, SUBSCRIBED + "C2> PUB a 1\nC2> x\nC2 silent\nC1 leaves"),
        (0, SUBSCRIBED + "C2> PUB a 1\nC2> x\nC2 silent"),
        (0, 'C1 opens\nC1< INFO {"go": "<*:int>", ...}'),
        (0, 'C1 opens\nC1< INFO {"proto": 1}'),
        (3, "C1 connects\nC1> FOO\nC1< -ERR 'Unknown Protocol Operation'\nC1 silent"),
    ],
)
def test_what_is_wrong_fails(tmp_path: Path, port: int, feeding: Feeding, line: int, steps: str) -> None:
    with pytest.raises(MismatchError) as caught:
        replay(tmp_path, port, steps, feeding, patience_s=0.5)
    at = int(str(caught.value).split(":")[1].split()[0]) - HEAD_LINES - 1
    assert at >= line


def test_what_is_right_passes(tmp_path: Path, port: int) -> None:
    steps = (
        SUBSCRIBED
        + "C2> PUB a <size>\nC2> <x*3>\\x00\n[nats-server] C1 closed\n[mq9] C1< MSG a <sid:int> <*>\nC1< xxx\\0"
    )
    for feeding in Feeding:
        replay(tmp_path, port, steps + "\nC1> UNSUB <sid>\nC1 silent", feeding)


@pytest.mark.parametrize(
    "steps", ["C1 dances", "C1 connects\nsomething", "[redis] C1 connects", "[mq9 >= 2.12.] C1 connects", "c1 connects"]
)
def test_a_transcript_that_is_not_written_right_is_refused(tmp_path: Path, port: int, steps: str) -> None:
    with pytest.raises(ValueError, match=r"sample\.txt:[34]: "):
        replay(tmp_path, port, steps)


def test_versions_of_nats_server_are_told_apart() -> None:
    old, new, ours = Server("nats-server", (2, 9, 10)), Server("nats-server", (2, 12, 0)), Server("mq9")
    assert [server.is_meant_by(("mq9", "nats-server >= 2.12")) for server in (old, new, ours)] == [False, True, True]
    assert [server.is_meant_by(("nats-server < 2.12",)) for server in (old, new, ours)] == [True, False, False]


def test_a_placeholder_stands_for_what_it_met_first() -> None:
    known = Known(given=b"1")
    assert known.matches(b"a <given> <new:int> <*>", b"a 1 42 any")
    assert known.fill(b"<new> <given> <size>", size=b"7") == b"42 1 7"
    assert not known.matches(b"<new>", b"43")
    assert known.matches(
        b'{"n": "<new>", "list": ["<item>", {"deep": true, ...}]}', b'{"n": 42, "list": ["x", {"deep": true, "b": 1}]}'
    )
    assert known.fill(b"<item>") == b"x"
    assert not known.matches(b'{"n": "<new>"}', b'{"n": 42, "more": 1}')
    assert not known.matches(b'{"n": 1}', b'{"n": true}')
    assert not known.matches(b'{"n": "<number:int>"}', b'{"n": true}')
    assert not known.matches(b'{"n": 1}', b"no JSON")
    assert not known.matches(b"<word>", b"two words")
    with pytest.raises(UnknownPlaceholderError):
        known.fill(b"<word>")
