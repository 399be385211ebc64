"""The replay set: every request of the Date window, remembered until it cannot be accepted again.

Kept in memory and bounded. It forgets nothing early: when it is full, new requests are answered
busy. A worker that starts anew has new keys, under which no old request opens.
"""

from __future__ import annotations

import hashlib
import heapq

from server.messages import Marking


class ReplaySet:
    """SHA-256 of each `enc` seen, with the time (Unix seconds) until which it is kept."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._seen: set[bytes] = set()
        self._expiries: list[tuple[int, bytes]] = []

    def __len__(self) -> int:
        return len(self._seen)

    def mark(self, enc: bytes, expiry: int, now: float) -> Marking:
        """Remember `enc` until `expiry`; exactly one caller is told FRESH."""
        while self._expiries and self._expiries[0][0] < now:
            self._seen.discard(heapq.heappop(self._expiries)[1])
        digest = hashlib.sha256(enc).digest()
        if digest in self._seen:
            return Marking.REPLAYED
        if len(self._seen) >= self._limit:
            return Marking.FULL
        self._seen.add(digest)
        heapq.heappush(self._expiries, (expiry, digest))
        return Marking.FRESH
