"""Runs the load generator against a scripted server, and says how it ended."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final, Protocol

from bench import generator

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager

BROKEN_PROMISE: Final = 1
USAGE: Final = 2
COUNT: Final = 200
MIDDLE: Final = COUNT // 2
LAST: Final = COUNT - 1

Ended = tuple[int, str, str]


class Served(Protocol):
    """A server that plays a script."""

    def serving(self) -> AbstractAsyncContextManager[int]:
        """Serve on a free port while the block runs, which gets the port."""


async def _load(port: int, words: Sequence[str]) -> Ended:
    process = await asyncio.create_subprocess_exec(
        str(generator.build()),
        *("--port", str(port), "--count", str(COUNT), "--patience", "1", *words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()


def run(script: Served, *runs: str) -> Ended:
    """Run the generator with each of `runs`, command lines, one after the other; return how the last one ended."""

    async def scenario() -> Ended:
        async with script.serving() as port:
            ended = (0, "", "")
            for words in runs:
                ended = await _load(port, words.split())
            return ended

    return asyncio.run(scenario())


def figure(ended: Ended) -> dict[str, Any]:
    """Return the report of a run that must have ended well."""
    status, output, errors = ended
    assert (status, errors) == (0, "")
    told: dict[str, Any] = json.loads(output.splitlines()[-1])
    return told


def assert_refused(ended: Ended, sentence: str) -> None:
    """Check that the run has no figure, and says why."""
    status, output, errors = ended
    assert (status, output) == (BROKEN_PROMISE, "")
    assert sentence in errors
