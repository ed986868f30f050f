"""Fixtures for the SDK: clients of the shared broker, and brokers to be treated badly."""

from __future__ import annotations

import gc
import warnings
from typing import TYPE_CHECKING

import pytest

from mq9 import Mailbox
from mq9.sdk import readahead
from tests.sdk.support import READ_AHEAD
from tests.support.broker import BrokerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def nothing_left_for_the_collector() -> Iterator[None]:
    """Collect garbage within the test that made it, so that a socket or task left open fails that one."""
    with warnings.catch_warnings(action="ignore"):
        gc.collect()  # what another room's tests have left
    yield
    gc.collect()


@pytest.fixture(autouse=True)
def short_read_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let receivers read ahead less than usual, so that a test reaches the limit quickly."""
    monkeypatch.setattr(readahead, "LEVEL_MESSAGES_MAX", READ_AHEAD)
    monkeypatch.setattr(readahead, "FETCH_MESSAGES_MAX", READ_AHEAD // 2)


@pytest.fixture
def mailbox(broker: BrokerProcess) -> Iterator[Mailbox]:
    """A client of the shared broker."""
    with Mailbox(broker.url) as client:
        yield client


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    """A broker of the test's own, which it may kill."""
    with BrokerProcess(tmp_path / "data") as running:
        yield running
