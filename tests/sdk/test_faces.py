"""The two faces of the SDK are one text, and what `mq9` exports is what a user needs, quickly loaded."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Any

import pytest

import mq9
from tests.support.broker import clean_environment
from tools import sync_face


def test_the_blocking_face_is_the_one_that_the_text_gives() -> None:
    assert sync_face.TARGET.read_text() == sync_face.blocking_text(sync_face.SOURCE.read_text()), (
        "run: python tools/sync_face.py"
    )


@pytest.mark.parametrize("name", ["Mailbox", "Message", "Receiver", "Watch"])
def test_both_faces_have_the_same_public_parts(name: str) -> None:
    blocking, asynchronous = getattr(mq9, name), getattr(mq9, f"Async{name}")

    def public(face: type[Any]) -> dict[str, Any]:
        return {key: value for key, value in inspect.getmembers(face) if not key.startswith("_")}

    assert public(blocking).keys() == public(asynchronous).keys()
    for key, value in public(blocking).items():
        if inspect.isfunction(value):
            other = public(asynchronous)[key]
            assert list(inspect.signature(value).parameters) == list(inspect.signature(other).parameters)
            assert not inspect.iscoroutinefunction(value)
            assert value.__doc__


def test_nothing_asynchronous_is_left_in_the_blocking_text() -> None:
    text = sync_face.TARGET.read_text()
    for word in ("async ", "await ", "Async", "asyncio", "event loop's"):
        assert word not in text, word


def test_everything_exported_is_there_and_documented() -> None:
    for name in mq9.__all__:
        assert getattr(mq9, name).__doc__, name


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        mq9.nonsense  # noqa: B018 - the access is the test


def python(code: str) -> str:
    """What a fresh Python says that runs `code`."""
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30, env=clean_environment()
    ).stdout


def test_importing_the_client_loads_nothing_of_the_broker() -> None:
    loaded = python("import sys; from mq9 import Mailbox, AsyncMailbox; print(*sys.modules)").split()
    assert "mq9.sdk.mailbox" in loaded
    for name in loaded:
        assert not name.startswith(("mq9.server", "mq9.store", "mq9.mailboxes", "mq9.wire", "uvloop", "lmdb")), name


def test_importing_the_broker_loads_nothing_of_the_client() -> None:
    for name in python("import sys; from mq9 import Broker; print(*sys.modules)").split():
        assert not name.startswith(("mq9.sdk", "nats")), name


def test_asking_for_the_broker_loads_it() -> None:
    assert python("import sys, mq9; mq9.Broker; print('mq9.server.embedded' in sys.modules)") == "True\n"
    assert python("from mq9 import *; print(Broker.__name__, Mailbox.__name__)") == "Broker Mailbox\n"


@pytest.mark.parametrize("code", ["import mq9", "from mq9 import Mailbox, AsyncMailbox"])
def test_importing_mq9_is_quick(code: str) -> None:
    measured = f"import time; started = time.process_time(); {code}; print(time.process_time() - started)"
    assert min(float(python(measured)) for _ in range(3)) < 0.25
