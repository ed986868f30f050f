"""Looks at a broker once in a while: what it holds, and how long messages take."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING

from bench import generator
from bench.machine import Bystanders
from bench.peers.client import connected
from bench.resources import descriptors, disk_bytes, processor_seconds, resident_bytes
from bench.soak import verdict
from bench.soak.verdict import Series
from mq9 import protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RATE = 200
SIZE = 128
_WINDOWS = 60
_WINDOW_MIN_S = 2.0
_WINDOW_MAX_S = 30.0
_SAMPLES = 300


class Watcher:
    """Takes the series of `verdict.JUDGED` and `OTHERS` for `seconds`.

    Arguments:
        port, pid, data: of the broker: where it listens, its process, its directory.
        seconds: how long.
    """

    def __init__(self, port: int, pid: int, data: Path, seconds: float) -> None:
        self.series = {watched.name: Series(watched) for watched in (*verdict.JUDGED, verdict.OTHERS)}
        self._port = port
        self._pid = pid
        self._data = data
        self._seconds = seconds
        self._started = time.monotonic()

    @property
    def now(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._started

    async def sample(self, goes_on: Callable[[], bool]) -> None:
        """Look at memory, disk and descriptors until it is over."""
        pause_s = max(0.2, self._seconds / _SAMPLES)
        while goes_on():
            bystanders, ours_s = Bystanders(), processor_seconds(self._pid)
            started = self.now
            await asyncio.sleep(pause_s)
            # The broker is a process that has not ended, and so is taken for somebody else.
            ours = (processor_seconds(self._pid) - ours_s) / (self.now - started)
            for watched, value in (
                (verdict.MEMORY, resident_bytes(self._pid)),
                (verdict.DISK, disk_bytes(self._data)),
                (verdict.DESCRIPTORS, descriptors(self._pid)),
                (verdict.OTHERS, max(0.0, bystanders.cores() - ours)),
            ):
                self.series[watched.name].add(self.now, float(value))

    async def probe(self, goes_on: Callable[[], bool]) -> None:
        """Send on a schedule to a receiver, in windows that each give a 99th percentile.

        Each window has a mailbox and connections of its own; every message is verified. Raises RunFailedError as the generator does.
        """
        window_s = min(_WINDOW_MAX_S, max(_WINDOW_MIN_S, self._seconds / _WINDOWS))
        while goes_on():
            async with connected(self._port) as client:
                created = await client.request(protocol.CREATE, b'{"ttl": 60}', timeout=10)
            subject = protocol.MESSAGES + json.loads(created.data)["mail_id"]
            load = await asyncio.to_thread(
                generator.run, "publish", [subject], port=self._port, rate=RATE, count=int(RATE * window_s), size=SIZE
            )
            assert load.p99_us is not None
            self.series[verdict.LATENCY.name].add(self.now, load.p99_us)
