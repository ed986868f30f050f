"""Fixtures for the domain."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.mailboxes.place import Place

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def place() -> Iterator[Place]:
    """A mailbox in a post office of the test's own."""
    place = Place()
    yield place
    place.office.close()
    place.loop.close()
