"""Fixtures for the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli.support import Command

if TYPE_CHECKING:
    from tests.support.broker import BrokerProcess


@pytest.fixture
def mq9(broker: BrokerProcess) -> Command:
    """The command, against the shared broker."""
    return Command(broker.url)
