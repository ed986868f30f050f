"""Slows down who keeps failing to say who they are, by the address they come from.

The first few failures of an address cost it nothing: people mistype, and a fleet of agents may have an old password. After
those, each further attempt has to wait its turn, longer each time, whatever it says: a right password, too, or a guess could
be told from a wrong one by its speed.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from typing import Final

FREE_FAILURES: Final = 5
PAUSE_FIRST_S: Final = 0.1
PAUSE_MAX_S: Final = 1.6
FORGOTTEN_AFTER_S: Final = 60.0
# Addresses that are remembered; past them the one that failed longest ago is forgotten.
ADDRESSES_MAX: Final = 10_000


class Throttle:
    """The addresses from which attempts have failed lately."""

    def __init__(self) -> None:
        self._failures: OrderedDict[str, _Failures] = OrderedDict()

    def wait(self, address: str, now: float, most: float) -> float | None:
        """Take a turn for an attempt from `address` at `now`, in seconds of any clock that only goes forward.

        Returns for how many seconds it has to wait; None, and no turn is taken, when that would be more than `most`.
        """
        failures = self._failures.get(network_of(address))
        if failures is None or now - failures.last > FORGOTTEN_AFTER_S or failures.count < FREE_FAILURES:
            return 0.0
        turn = max(now, failures.next_turn)
        if turn - now > most:
            return None
        failures.next_turn = turn + min(PAUSE_MAX_S, PAUSE_FIRST_S * 2 ** min(failures.count - FREE_FAILURES, 16))
        return turn - now

    def failed(self, address: str, now: float) -> None:
        """An attempt from `address` has failed."""
        network = network_of(address)
        failures = self._failures.pop(network, None)
        if failures is None or now - failures.last > FORGOTTEN_AFTER_S:
            failures = _Failures()
        failures.count += 1
        failures.last = now
        self._failures[network] = failures
        if len(self._failures) > ADDRESSES_MAX:
            self._failures.popitem(last=False)


class _Failures:
    __slots__ = ("count", "last", "next_turn")

    def __init__(self) -> None:
        self.count = 0
        self.last = 0.0
        self.next_turn = 0.0


def network_of(address: str) -> str:
    """What counts as one address: of IPv6 the network that a subscriber is given, in which they have as many as they like."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if found.version == 4:
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, 64), strict=False))
