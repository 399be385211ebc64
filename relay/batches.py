"""Whatever crosses the relay crosses at the ticks of one clock, in random order.

Who sees both sides of a relay can match what enters with what leaves, by time. Where the relay
batches, it shows in which tick something crossed, and all that crossed in one tick is alike but for
its size. What that is worth depends on how many share a tick: docs/threat_model.md has figures. A
request's body is carried from its tick on: what a client sends late crosses late, by itself.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Self

from relay.connection import Source

MAX_HELD = 64 * 1024
"""Bytes of an answer that are held until a tick; the worker is held up beyond them."""

Call = Callable[[], None]
_SYSTEM = secrets.SystemRandom()


class Batches:
    """One clock for all requests of a relay; it stands still while nothing waits."""

    def __init__(
        self, period_s: float, shuffle: Callable[[list[Call]], None] | None = None
    ) -> None:
        self._period_s = period_s
        self._shuffle = shuffle or _SYSTEM.shuffle
        self._waiting: list[Call] = []

    async def turn(self) -> None:
        """Wait for the next tick."""
        turn = asyncio.Event()
        self.at_tick(turn.set)
        await turn.wait()

    def at_tick(self, call: Call) -> None:
        """Have something called at the next tick, before or after others, at random."""
        if not self._waiting:
            loop = asyncio.get_running_loop()
            now = loop.time()
            loop.call_at(now - now % self._period_s + self._period_s, self._tick)
        self._waiting.append(call)

    def _tick(self) -> None:
        due, self._waiting = self._waiting, []
        self._shuffle(due)
        for call in due:
            call()


class Held:
    """One answer's pieces, held until the next tick; both ends are held up as without it."""

    def __init__(self, batches: Batches, sink: Callable[[bytes], None], source: Source) -> None:
        self._batches, self._sink, self._source = batches, sink, source
        self._held = bytearray()
        self._unread = self._ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.clear()
        self._ended = True

    def write(self, piece: bytes) -> None:
        """Hold a piece."""
        if not self._held:
            self._batches.at_tick(self._release)
        self._held += piece
        if len(self._held) >= MAX_HELD:
            self._source.pause()

    def pause(self) -> None:
        """The client reads too slowly."""
        self._unread = True
        self._source.pause()

    def resume(self) -> None:
        """The client has read."""
        self._unread = False
        if len(self._held) < MAX_HELD:
            self._source.resume()

    def _release(self) -> None:
        if self._ended:
            return  # the connection may be another answer's by now
        piece, self._held = bytes(self._held), bytearray()
        self._sink(piece)
        if not self._unread:
            self._source.resume()
