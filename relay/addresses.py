"""What a client's address is good for here: to count by, in memory, and nothing else.

An IPv4 address counts by itself; an IPv6 address by its /64, which is the least a single customer
is given: with one's own 2**64 addresses, counting them singly would count nothing.
"""

from __future__ import annotations

import ipaddress
import time
from collections import Counter, OrderedDict
from collections.abc import Callable

MAX_ADDRESSES = 65_536
"""Most addresses remembered: about 12 MiB. The one that asked longest ago is forgotten first."""

_SWEEP = 2  # old entries looked at for each new one, so that the table shrinks faster than it grows


class Limited:
    """Which addresses are counted at all: those outside `unlimited`, CIDR networks.

    Raises:
        ValueError: one of them is not a network.
    """

    def __init__(self, unlimited: tuple[str, ...]) -> None:
        self._unlimited = tuple(ipaddress.ip_network(network) for network in unlimited)

    def key(self, host: str) -> bytes | None:
        """Return what to count `host` by; None if it is not limited."""
        address: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(host)
        if isinstance(address, ipaddress.IPv6Address):
            address = address.ipv4_mapped or address
        if any(address in network for network in self._unlimited):
            return None
        return address.packed[:8]


class Rates:
    """How often each address asks: a token bucket each, written as the time it is full again.

    A bucket that is full again is as good as none and is dropped, so an address is remembered for
    `burst` / `per_s` seconds after its last request, and until another request sweeps it out.
    """

    def __init__(
        self,
        per_s: float,
        burst: int,
        *,
        max_addresses: int = MAX_ADDRESSES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._interval = 1 / per_s
        self._depth = burst / per_s
        self._max = max_addresses
        self._clock = clock
        self._full_at: OrderedDict[bytes, float] = OrderedDict()

    def __len__(self) -> int:
        """Return how many addresses are remembered."""
        return len(self._full_at)

    def allow(self, key: bytes) -> bool:
        """Take one token of `key`; return whether there was one."""
        now = self._clock()
        self._sweep(now)
        full_at = max(now, self._full_at.get(key, now)) + self._interval
        allowed = full_at - now <= self._depth
        if allowed:
            self._full_at[key] = full_at
            self._full_at.move_to_end(key)
        if len(self._full_at) > self._max:
            self._full_at.popitem(last=False)
        return allowed

    def _sweep(self, now: float) -> None:
        for _ in range(_SWEEP):
            oldest = next(iter(self._full_at), None)
            if oldest is None or self._full_at[oldest] > now:
                return
            del self._full_at[oldest]


class Places:
    """How many connections each address has: never more than `limit`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken: Counter[bytes] = Counter()

    def take(self, key: bytes) -> bool:
        """Take a place; return whether there was one."""
        if self._taken[key] >= self._limit:
            return False
        self._taken[key] += 1
        return True

    def leave(self, key: bytes) -> None:
        """Give a place back."""
        self._taken[key] -= 1
        if not self._taken[key]:
            del self._taken[key]
