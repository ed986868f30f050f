"""`nats`, the command line tool of nats-server, used as people use it; it must see no difference to nats-server."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.clients.command import PATIENCE_S, Tool, ended

if TYPE_CHECKING:
    from tests.clients.conftest import Restartable


@pytest.fixture
def tool(server: Restartable, tmp_path_factory: pytest.TempPathFactory) -> Tool:
    """The tool, for the server at hand."""
    return Tool(server, tmp_path_factory.mktemp("home"))


def test_connecting(tool: Tool) -> None:
    assert tool("server", "check", "connection").startswith("OK Connection OK")
    assert re.search(r"\d+(\.\d+)?(µs|ms)", tool("rtt"))


def test_publishing_to_a_subscriber(tool: Tool) -> None:
    with tool.started("sub", "desk.>", "--count", "4", "--raw", probe="desk.ready") as subscriber:
        tool("pub", "desk.a", "one")
        tool("pub", "desk.b.c", "--force-stdin", body="two, from standard input")
        tool("pub", "desk", "not for desk.>")
        tool("pub", "desk.d", "three")
        assert ended(subscriber).split("\n")[:4] == ["ready", "one", "two, from standard input", "three"]


def test_headers(tool: Tool) -> None:
    with tool.started("sub", "headed.>", "--count", "2", probe="headed.ready") as subscriber:
        tool("pub", "headed.a", "body", "-H", "Content-Type:text/plain", "-H", "X-Two:a", "-H", "X-Two:b")
        said = ended(subscriber)
    assert re.search(r"X-Two: a\nX-Two: b\n", said), said
    assert "Content-Type: text/plain" in said
    assert said.rstrip().endswith("body")


def test_queue_subscribers_share(tool: Tool) -> None:
    with (
        tool.started("sub", "--queue", "workers", "--raw", "jobs.*.open", probe="jobs.first.open") as first,
        tool.started("sub", "--queue", "workers", "--raw", "jobs.june.*", probe="jobs.june.second") as second,
    ):
        tool("pub", "jobs.june.open", "job {{ Count }}", "--count", "100")
        shares = []
        for process, own in ((first, "jobs.first.open"), (second, "jobs.june.second")):
            tool("pub", own, "enough")
            assert process.stdout is not None
            said = [line.rstrip("\n") for line in iter(process.stdout.readline, "enough\n")]
            shares.append([line for line in said if line.startswith("job")])
    assert sorted(shares[0] + shares[1]) == sorted(f"job {number}" for number in range(1, 101))
    assert min(map(len, shares)) > 10, shares


def test_requests_and_replies(tool: Tool) -> None:
    with tool.started("reply", "service.>", "answer to {{ .Request }}", probe="service.ready"):
        assert "answer to question" in tool("req", "service.a", "question")
        said = tool("req", "service.b", "question", "--count", "5", "--raw")
        assert said.count("answer to question") == 5


def test_several_replies_to_one_request(tool: Tool) -> None:
    with (
        tool.started("reply", "--queue", "a", "poll.*.open", "vote of a", probe="poll.a.open"),
        tool.started("reply", "--queue", "b", "poll.june.*", "vote of b", probe="poll.june.b"),
    ):
        said = tool("req", "poll.june.open", "which?", "--replies", "2")
        assert "vote of a" in said
        assert "vote of b" in said


def test_a_replier_that_has_done_its_share_drains(tool: Tool) -> None:
    with tool.started("reply", "drained.*", "done", "--count", "2", probe="drained.ready") as replier:
        assert "done" in tool("req", "drained.a", "question")
        said, _ = replier.communicate(timeout=PATIENCE_S)
        assert "Draining" in said
        assert "question" in said


def test_a_request_that_nobody_takes(tool: Tool) -> None:
    assert "No responders are available" in tool("req", "nobody.is.there", "question")


def test_a_service_is_found_by_its_name(tool: Tool) -> None:
    with tool.started("service", "serve", "weather", probe="$SRV.PING.weather"):
        assert "weather" in tool("service", "ls")
        assert "weather" in tool("service", "info", "weather")
        assert "weather" in tool("service", "stats", "weather")


def test_jetstream_is_not_there(tool: Tool) -> None:
    with pytest.raises(AssertionError, match=r"(?i)jetstream|no responders"):
        tool("stream", "ls")
