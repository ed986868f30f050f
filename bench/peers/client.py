"""A connection for what has to be set up before a load: mailboxes, streams, consumers."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import nats
import nats.errors

from bench.generator import RunFailedError
from bench.processes import HOST

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nats.aio.client import Client


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[Client]:
    """Connect to the server on `port` while the block runs.

    Raises RunFailedError for whatever a request in the block raises, or when there is no connection.
    """
    try:
        client = await nats.connect(f"nats://{HOST}:{port}", allow_reconnect=False)
        try:
            yield client
        finally:
            await client.close()
    except (nats.errors.Error, TimeoutError, OSError) as error:
        raise RunFailedError(f"a server could not be set up: {error!r}") from error
