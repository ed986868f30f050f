"""The rule that a missing peer is skipped where somebody works, and a failure where it would be missed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support import peers
from tools.peers import REQUIRING

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine on which no peer is installed."""
    monkeypatch.setattr(peers, "BUILT", tmp_path)
    monkeypatch.setattr(peers, "SYSTEM", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in REQUIRING:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("nowhere")
def test_a_missing_peer_is_skipped_with_the_way_to_install_it() -> None:
    with pytest.raises(pytest.skip.Exception, match="nats is not installed: `make peers` installs it"):
        peers.need(peers.NATS)


@pytest.mark.usefixtures("nowhere")
@pytest.mark.parametrize("name", REQUIRING)
def test_a_missing_peer_is_a_failure_where_it_is_required(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "true")
    with pytest.raises(pytest.fail.Exception, match="is not installed"):
        peers.need(peers.NEW_NATS_SERVER)


def test_a_built_peer_is_found_before_the_systems(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(peers, "BUILT", tmp_path)
    (tmp_path / peers.NATS).touch()
    assert peers.need(peers.NATS) == str(tmp_path / peers.NATS)
