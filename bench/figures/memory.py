"""What a mailbox, a message and a connection cost in memory: P7b, P8b, P9a.

Each is taken at three sizes, from what the operating system says the server holds of its own (resident, without the page cache), less
what it held before the first of them. The value is the one at the largest size; the others are beside it, and show whether it is a
cost of each or a cost once.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, ClassVar

from bench.bars import at_most
from bench.figures.base import Figure, Measured, scaled
from bench.figures.loads import CONNECTIONS, create, idle, store
from bench.peers.mq9 import Mq9
from bench.peers.nats_server import JetStream, NatsServer
from bench.resources import steady_resident_bytes
from bench.writing import Quantity

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.peers.base import Peer, Server

MAILBOXES_FOR_MESSAGES = 1_000
SENDERS = 10


class Memory(Figure):
    """Bytes for each of something, at `sizes`, of which a peer is given its pace."""

    quantity = Quantity.BYTES
    sizes: ClassVar[tuple[int, int, int]]
    least: ClassVar[int] = CONNECTIONS

    def run(self, peer: Peer, place: Path, scale: float) -> Measured:
        """Keep the files that the load needs beside those of the server."""
        self._place = place
        return super().run(peer, place, scale)

    def grow(self, server: Server, sizes: list[int], reached: Callable[[int, int], None]) -> None:
        """Bring the server to each of `sizes`; say how many there are at each, and how much memory it has then."""
        raise NotImplementedError

    def measure(self, server: Server, scale: float, peer: Peer) -> Measured:
        """Take the memory before, and at each size."""
        del peer
        at: dict[int, int] = {}
        # Each of the three is larger than the one before, however little is asked for.
        sizes = [scaled(size, scale, least=self.least * rank) for rank, size in enumerate(self.sizes, 1)]
        self.grow(server, sizes, at.__setitem__)
        base = at.pop(0)
        each = {count: (resident - base) / count for count, resident in at.items()}
        count, value = list(each.items())[-1]
        return Measured(
            value=value,
            count=count,
            details={f"each_at_{size}_bytes": cost for size, cost in each.items()} | {"empty_bytes": float(base)},
        )


class MailboxMemory(Memory):
    """Private mailboxes without messages."""

    key = "P7b"
    sizes = (10_000, 100_000, 1_000_000)
    title = "memory of an empty mailbox"
    conditions = f"at {', '.join(f'{size:,}' for size in sizes)} of them (JetStream: a hundredth of that)"
    unit = "each"
    bars = (at_most(400, Quantity.BYTES),)
    peers: tuple[Peer, ...] = (Mq9("a private mailbox"), JetStream("a file stream with one subject", pace=0.01))

    def grow(self, server: Server, sizes: list[int], reached: Callable[[int, int], None]) -> None:
        """Create up to each size."""
        server.open_storage(1)
        reached(0, steady_resident_bytes(server.pid))
        there = 0
        for number, size in enumerate(sizes):
            create(server, size - there, self._place / f"names-{number}", first=there)
            there = size
            reached(there, steady_resident_bytes(server.pid))


class MessageMemory(Memory):
    """Messages of 128 bytes, a thousand mailboxes of them."""

    key = "P8b"
    sizes = (1_000_000, 3_000_000, 10_000_000)
    title = "memory of a stored message"
    conditions = f"at {', '.join(f'{size:,}' for size in sizes)} of them, in {MAILBOXES_FOR_MESSAGES:,} mailboxes (JetStream: a tenth)"
    unit = "each"
    bars = (at_most(40, Quantity.BYTES),)
    peers: tuple[Peer, ...] = (Mq9("kept on disk; an index in memory"), JetStream("kept on disk", pace=0.1))

    def grow(self, server: Server, sizes: list[int], reached: Callable[[int, int], None]) -> None:
        """Store up to each size; every message is answered with a number of its own."""
        storage = server.open_storage(MAILBOXES_FOR_MESSAGES)
        there = 0
        reached(there, steady_resident_bytes(server.pid))
        for size in sizes:
            store(server, storage, (size - there) // SENDERS, SENDERS, spread=True)
            there = size
            reached(there, steady_resident_bytes(server.pid))


class ConnectionMemory(Memory):
    """Connections that have said who they are."""

    key = "P9a"
    sizes = (1_000, 3_000, 10_000)
    # Fewer may fit into memory that the server holds already, and then cost nothing.
    least = 256
    title = "memory of an idle connection"
    conditions = f"at {', '.join(f'{size:,}' for size in sizes)} of them"
    unit = "each"
    bars = (at_most(6 * 1024, Quantity.BYTES),)
    peers: tuple[Peer, ...] = (Mq9("CONNECT and PING were answered"), NatsServer("CONNECT and PING were answered"))

    def grow(self, server: Server, sizes: list[int], reached: Callable[[int, int], None]) -> None:
        """Connect up to each size; in the end each must still be there."""
        reached(0, steady_resident_bytes(server.pid))
        there = 0
        with contextlib.ExitStack() as connected:
            for size in sizes:
                connected.enter_context(idle(server, size - there))
                there = size
                reached(there, steady_resident_bytes(server.pid))


FIGURES = {figure.key: figure for figure in (MailboxMemory(), MessageMemory(), ConnectionMemory())}
