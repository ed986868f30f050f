"""What a figure is, and what comes out of one run of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Self

from bench.writing import Quantity

if TYPE_CHECKING:
    from pathlib import Path

    from bench.bars import Bar
    from bench.generator import Load
    from bench.peers.base import Peer, Server


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What came out of one run.

    `value` is the figure's own, in the unit of its Quantity; `count` how many messages, or whatever is counted, went into
    it. Latencies are in microseconds, None where there are none. `generator_cores` is the generator's processor time over
    the elapsed time. `details` are other values that were taken; each name ends in its unit.
    """

    value: float
    count: int
    p50_us: float | None = None
    p99_us: float | None = None
    max_us: float | None = None
    generator_cores: float | None = None
    details: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, load: Load, value: float | None = None, **details: float) -> Self:
        """Take a run of the generator, whose rate is the value unless another one is given."""
        late = {} if load.late_p99_us is None else {"sent_late_p99_us": load.late_p99_us}
        return cls(
            value=load.rate if value is None else value,
            count=load.count,
            p50_us=load.p50_us,
            p99_us=load.p99_us,
            max_us=load.max_us,
            generator_cores=load.generator_cores,
            details={"seconds": load.seconds, **late, **details},
        )


class Figure:
    """One piece of work, done by each of `peers` in turn, mq9 being the first of them.

    `key` is its number in bench/README.md, with a letter where there are several; `title` and `conditions` say what is
    done, `unit` what the value is, which is of the kind `quantity`. `bars` are what it must reach.
    """

    key: str
    title: str
    conditions: str
    unit: str
    quantity: ClassVar[Quantity] = Quantity.RATE
    peers: tuple[Peer, ...]
    bars: tuple[Bar, ...] = ()

    def prepare(self, directory: Path, scale: float) -> None:
        """Make what all rounds need, below `directory`, before the first of them. Most need nothing."""
        del directory, scale

    def run(self, peer: Peer, place: Path, scale: float) -> Measured:
        """Start `peer` with all that it writes in `place`, which is empty, and do the work once.

        `scale` 1.0 is the whole of it. Raises RunFailedError when anything was not as promised.
        """
        with peer.start(place) as server:
            return self.measure(server, scale * peer.pace, peer)

    def measure(self, server: Server, scale: float, peer: Peer) -> Measured:
        """Do the work once on a server that was started for it. Raises RunFailedError as `run` does.

        A figure that needs more than a server overrides `run` instead.
        """
        raise NotImplementedError


def scaled(count: int, scale: float, least: int = 1) -> int:
    """Return how many of `count` there are at `scale`, and `least` at least."""
    return max(least, int(count * scale))
