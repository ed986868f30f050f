"""Skips, in the suite of nats-py, what `skipped.json` names, with its reason there."""

import json
from pathlib import Path

import pytest

_SKIPPED = json.loads(Path(__file__).with_name("skipped.json").read_text())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is left out."""
    for item in items:
        name = item.nodeid.partition("/")[2]
        for prefix, reason in _SKIPPED.items():
            if name == prefix or name.startswith(prefix + "::"):
                item.add_marker(pytest.mark.skip(reason=reason))
