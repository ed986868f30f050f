"""Fixtures for the faults: the compiled shim, and a broker with it below."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.shim import Shim, build
from tests.support.broker import BrokerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled shim."""
    return build(tmp_path_factory.mktemp("shim"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """An empty data directory."""
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def shim(library: Path, data: Path, tmp_path: Path) -> Iterator[Shim]:
    """What is to fail."""
    made = Shim(library, data, tmp_path / "control")
    yield made
    made.close()


@pytest.fixture
def broker(data: Path, shim: Shim) -> Iterator[BrokerProcess]:
    """A running broker over the shim."""
    with BrokerProcess(data, environment=shim.environment) as running:
        yield running
