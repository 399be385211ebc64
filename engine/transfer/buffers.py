"""Private memory for what is sealed ahead, taken again and again."""

from __future__ import annotations

import threading
from collections.abc import Callable

from engine.aead import zeroise

_KEPT = 64
"""Spare buffers of one size; a channel stages fewer."""


def _pages(size: int) -> memoryview:
    return memoryview(bytearray(size))


class Buffers:
    """Buffers by size. Threads may share them."""

    def __init__(self, allocate: Callable[[int], memoryview] = _pages) -> None:
        """Begin with none; `allocate` makes writable memory of a size."""
        self._allocate = allocate
        self._spare: dict[int, list[memoryview]] = {}
        self._lock = threading.Lock()

    def take(self, size: int) -> memoryview:
        """Return a buffer; what stands in it is not defined."""
        with self._lock:
            spare = self._spare.get(size)
            if spare:
                return spare.pop()
        return self._allocate(size)

    def give(self, buffer: memoryview) -> None:
        """Take a buffer back whose content has left, or is nothing."""
        with self._lock:
            spare = self._spare.setdefault(len(buffer), [])
            if len(spare) < _KEPT:
                spare.append(buffer)

    def wipe(self, buffer: memoryview) -> None:
        """Zeroise a buffer whose content must never leave, and take it back."""
        zeroise(buffer)
        self.give(buffer)
