"""How many connections each address has."""

from __future__ import annotations

from mq9.server.throttle import network_of


class Addresses:
    """The addresses of those who are connected."""

    def __init__(self) -> None:
        self._connections: dict[str, int] = {}

    def enter(self, address: str, most: int) -> bool:
        """Count one more connection of `address`, unless it has `most` already (0: no limit); returns whether it was counted."""
        network = network_of(address)
        there = self._connections.get(network, 0)
        if 0 < most <= there:
            return False
        self._connections[network] = there + 1
        return True

    def leave(self, address: str) -> None:
        """A connection that was counted has ended."""
        network = network_of(address)
        self._connections[network] -= 1
        if not self._connections[network]:
            del self._connections[network]
