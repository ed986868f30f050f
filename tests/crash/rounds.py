"""Rounds of load on a broker that end with its end, and the look at what the next one knows."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
from typing import TYPE_CHECKING, Final

from tests.crash.ledger import Ledger
from tests.crash.load import Load
from tests.store.post import Post
from tests.support.broker import BrokerProcess

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType
    from typing import Self

# The same seed makes the same choices, though the broker and its clients race as they will.
SEED: Final = int(os.environ.get("MQ9_SEED", str(secrets.randbelow(1 << 32))))


def seeded() -> random.Random:
    """Chance, by the seed that the output of a failed test shows."""
    print(f"MQ9_SEED={SEED}")  # noqa: T201
    return random.Random(SEED)


class Rounds:
    """A broker on one data directory, whose end in the midst of work comes as often as a test likes.

    Arguments:
        data_dir: where it keeps its data.
    """

    def __init__(self, data_dir: Path) -> None:
        self.chance = seeded()
        self.ledger = Ledger()
        self.broker = BrokerProcess(data_dir)

    def work_until(self, end: Callable[[], object], least_s: float, most_s: float) -> None:
        """Keep the broker busy, and end it with `end` at some moment between `least_s` and `most_s` seconds later."""
        asyncio.run(self._work_until(end, self.chance.uniform(least_s, most_s)))

    async def _work_until(self, end: Callable[[], object], after_s: float) -> None:
        load = Load(self.ledger, self.chance)
        await load.begin(self.broker.url)
        await asyncio.sleep(after_s)
        await asyncio.to_thread(end)
        await load.end()

    def compare(self) -> None:
        """Start the broker again: what it knows must be what clients were told."""
        assert self.broker.damage() == []
        self.broker.start()
        assert "ERROR" not in self.broker.log()
        with Post(self.broker.url) as post:
            self.ledger.compare(post)

    def report(self, what: str) -> None:
        """Say what was compared, for whoever reads the output of the tests."""
        told = self.ledger
        print(  # noqa: T201
            f"{what}; told: {told.sends_told} sends, {told.deletes_told} deletes, {told.others_told} creations, renewals"
            f" and removals; shown to receivers: {told.shown_count}; decided afterwards: {told.unanswered};"
            f" messages compared: {told.compared}"
        )

    def __enter__(self) -> Self:
        self.broker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.broker.close()
