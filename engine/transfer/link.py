"""The way to the device, for machines that have none.

A link carries batches: what one `sync` releases crosses together. Whatever arrives on a link may
have been changed by whoever owns it; nothing here protects it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from engine.transfer.frame import Frame

Done = Callable[[], None]


class Link(Protocol):
    """One direction of a link."""

    def send(self, frames: Sequence[Frame], done: Done) -> None:
        """Let a batch cross, in order; call `done` once the frames' memory may be used again."""


class MemoryLink:
    """The device is another region of memory: frames arrive as copies of their bytes."""

    def __init__(self) -> None:
        """Begin with nothing on the way."""
        self.arrived: deque[bytes] = deque()

    def send(self, frames: Sequence[Frame], done: Done) -> None:
        """See `Link`."""
        self.arrived.extend(frame.encode() for frame in frames)
        done()

    def take(self) -> list[Frame]:
        """Return what has arrived, oldest first, and forget it.

        Raises:
            FrameRefused: something arrived that is not a frame.
        """
        taken = []
        while self.arrived:
            taken.append(Frame.decode(self.arrived.popleft()))
        return taken


class ModelledLink:
    """EMULATED: a link that takes its time on a virtual clock, and no memory.

    A batch takes `crossing_s` and then its bytes by `bandwidth`; batches follow each other.
    """

    def __init__(
        self,
        bandwidth: float,
        crossing_s: float,
        clock: Callable[[], float],
        behind: Link | None = None,
    ) -> None:
        """Begin idle.

        Args:
            bandwidth: bytes a second.
            crossing_s: seconds that a batch costs, however small.
            clock: the virtual time at which a batch is handed over.
            behind: what frames go to, if anything is to arrive.
        """
        self._bandwidth, self._crossing_s = bandwidth, crossing_s
        self._clock, self._behind = clock, behind
        self.free_at = 0.0
        self.busy_s = 0.0
        self.batches = 0
        self.bytes = 0

    def send(self, frames: Sequence[Frame], done: Done) -> None:
        """See `Link`. `free_at` is when the batch will have arrived."""
        size = sum(frame.wire_bytes for frame in frames)
        seconds = self._crossing_s + size / self._bandwidth
        self.free_at = max(self.free_at, self._clock()) + seconds
        self.busy_s += seconds
        self.batches += 1
        self.bytes += size
        if self._behind is None:
            done()
        else:
            self._behind.send(frames, done)
