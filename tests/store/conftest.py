"""The engines as a fixture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.store.engines import ENGINES

if TYPE_CHECKING:
    from pathlib import Path

    from tests.store.engines import Place


@pytest.fixture(params=ENGINES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty place of each engine in turn."""
    return ENGINES[request.param](tmp_path / "data")
