"""Fixtures for all tests: a broker, names that no other test uses, and the rule that a test leaves nothing running."""

from __future__ import annotations

import asyncio
import secrets
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.broker import BrokerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ENDING_S = 3.0


def pytest_configure() -> None:
    """Let programs that the tests start be interrupted: a shell starts what it runs in the background without that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """One broker for all tests that only use it; a test that stops or kills one starts its own."""
    with BrokerProcess(tmp_path_factory.mktemp("broker") / "data") as running:
        yield running


@pytest.fixture
def unique() -> Callable[[str], str]:
    """Makes mailbox names that no other test uses: `unique("orders")` is `orders.` and something random."""
    return lambda name: f"{name}.{secrets.token_hex(6)}"


@pytest.fixture(autouse=True)
def nothing_left_running(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test that leaves a thread behind, or a task when its `asyncio.run` ends."""
    before = set(threading.enumerate())
    left: list[str] = []
    cancel_all_tasks = asyncio.runners._cancel_all_tasks  # type: ignore[attr-defined]

    def noting(loop: asyncio.AbstractEventLoop) -> None:
        if threading.current_thread() is threading.main_thread():
            left.extend(repr(task) for task in asyncio.all_tasks(loop) if not task.cancelling())
        cancel_all_tasks(loop)

    monkeypatch.setattr(asyncio.runners, "_cancel_all_tasks", noting)
    yield
    deadline = time.monotonic() + _ENDING_S
    threads = set(threading.enumerate()) - before
    while threads and time.monotonic() < deadline:
        for thread in threads:
            thread.join(0.05)
        threads = {thread for thread in threads if thread.is_alive()}
    assert not threads, f"the test left threads running: {threads}"
    assert not left, f"the test left tasks running: {left}"
