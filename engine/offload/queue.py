"""Which unit comes back next. Nobody has to guess: the scheduler admits in order of arrival.

What makes this a prediction all the same is that a request may end before its turn.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence


class Queue:
    """The units that lie ready in private memory, in the order of their return (a `Predictor`).

    Two threads use it: one makes units ready, one sends them.
    """

    def __init__(self) -> None:
        """Begin empty."""
        self._ready: dict[int, None] = {}
        self._lock = threading.Lock()

    def add(self, block: int) -> None:
        """A unit is ready, and comes back after those before."""
        with self._lock:
            self._ready[block] = None

    def observe(self, block: int) -> None:
        """See `Predictor`."""
        self.forget(block)

    def left(self, blocks: Sequence[int]) -> None:
        """See `Predictor`. They are at rest first."""

    def forget(self, block: int) -> None:
        """See `Predictor`."""
        with self._lock:
            self._ready.pop(block, None)

    def predict(self, count: int) -> list[int]:
        """See `Predictor`."""
        with self._lock:
            return list(self._ready)[:count]
