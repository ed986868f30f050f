"""`mq9 health`, as a container asks it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.cli.test_data import run
from tests.support.broker import BrokerProcess
from tests.support.peers import free_port

if TYPE_CHECKING:
    from pathlib import Path


def test_a_broker_that_stores_messages_is_well(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path / "data", http=True) as broker:
        port = str(broker.http_port)
        assert run("health", "--http-port", port, where=tmp_path) == (0, '{"status":"ok"}\n', "")
        assert run("health", where=tmp_path, MQ9_HTTP_PORT=port, MQ9_HOST="0.0.0.0")[0] == 0
        (tmp_path / "mq9.toml").write_text(f"http_port = {port}\n")
        assert run("health", "--config", "mq9.toml", where=tmp_path)[0] == 0


def test_who_is_not_there_is_not_well(tmp_path: Path) -> None:
    code, said, complained = run("health", "--http-port", str(free_port()), where=tmp_path)
    assert (code, said) == (3, "")
    assert complained.startswith("the broker cannot be reached: ")


def test_without_a_port_there_is_nobody_to_ask(tmp_path: Path) -> None:
    code, _, complained = run("health", where=tmp_path)
    assert code == 1
    assert "--http-port" in complained
