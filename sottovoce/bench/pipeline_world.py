"""EMULATED: a device, the link to it and a sealing core, on a virtual clock.

Sealing and opening on the host are really done, on a core of this machine, and timed (in processor
time, so that neighbours do not count); so is every call of a channel. The link and the device's
own time are arithmetic. Three things go on side by side: the thread that serves, one core that
seals ahead and opens behind, and the link, both ways.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeVar

from engine.transfer.blocks import BlockStore, State
from engine.transfer.channel import Duplex, Kind, open_channel
from engine.transfer.counts import TransferCounts
from engine.transfer.frame import Frame
from engine.transfer.link import Done, MemoryLink, ModelledLink
from engine.transfer.predict import Never, Predictor
from engine.transfer.sealer import InlineSealer, Sealer, Task
from engine.transfer.staging import Entry

Mode = Literal["plain", "naive", "pipelined"]
Result = TypeVar("Result")

DEVICE_CRYPTO = 1e11
"""Bytes a second that the device itself opens or seals: computed, not run."""
DEPTH = 24
_QUEUE = 256


@dataclass(frozen=True)
class LinkFigures:
    """What a link is said to do."""

    bandwidth: float = 4e9
    """Bytes a second, each way."""
    crossing_s: float = 0.3e-3
    """Seconds that each batch costs before its first byte."""


class Core:
    """A core that runs tasks in order, in its own time (a `Sealer`)."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Begin idle."""
        self._clock = clock
        self._queue: deque[tuple[float, Task]] = deque()
        self.free_at = self.not_before = 0.0
        self._began: tuple[float, float] | None = None
        """When the task that runs began: here, and in processor time."""
        self.done: Callable[[], None] = lambda: None
        """Called after each task."""

    def submit(self, task: Task) -> bool:
        """See `Sealer`."""
        if len(self._queue) >= _QUEUE:
            return False
        self._queue.append((max(self._now(), self.not_before), task))
        return True

    def close(self) -> None:
        """See `Sealer`."""
        self.until(float("inf"))

    def until(self, moment: float) -> None:
        """Run what begins before a moment."""
        while self._queue and max(self._queue[0][0], self.free_at) < moment:
            submitted, task = self._queue.popleft()
            self._began = max(submitted, self.free_at), time.thread_time()
            task()
            self.free_at = self._now()
            self._began = None
            self.done()

    def _now(self) -> float:
        """Whoever asks: a task of this core, which is in its own time, or somebody else."""
        if self._began is None:
            return self._clock()
        moment, began = self._began
        return moment + time.thread_time() - began

    def next(self) -> None:
        """Run one task, whenever it begins."""
        self.until(max(self._queue[0][0], self.free_at) + 1e-12)


class _Arriving(MemoryLink):
    """What has crossed, copied in nobody's time: on a real link no processor does that."""

    def __init__(self) -> None:
        super().__init__()
        self.copied_s = 0.0

    def send(self, frames: Sequence[Frame], done: Done) -> None:
        """See `Link`."""
        began = time.thread_time()
        super().send(frames, lambda: None)
        self.copied_s += time.thread_time() - began
        done()


class World:
    """One run of one mode."""

    def __init__(
        self,
        mode: Mode,
        figures: LinkFigures,
        *,
        size: int,
        predictor: Predictor | None = None,
    ) -> None:
        """Begin with an empty device.

        Args:
            mode: who seals when.
            figures: of the link.
            size: bytes of a block.
            predictor: what guesses, where something does.
        """
        self.now = self._began = self._device_free_at = 0.0
        self._counted = TransferCounts()
        self._size, self._mode, self._frame_s = size, mode, size / figures.bandwidth
        self._core = Core(lambda: self.now)
        self._core.done = self._note_sealed
        self._sealed_at: dict[int, float] = {}
        self._host, self._device = BlockStore(), BlockStore()
        self._arriving = _Arriving(), _Arriving()
        self._links = [
            ModelledLink(figures.bandwidth, figures.crossing_s, lambda: self.now, behind)
            for behind in self._arriving
        ]
        kind: Kind = "plain" if mode == "plain" else "sealed"
        ahead = mode == "pipelined"
        secret = os.urandom(32)
        worker: Sealer = self._core if ahead else InlineSealer()
        end = partial(open_channel, kind, secret=secret, attested=mode != "plain")
        self._here: Duplex = end(
            self._host, self._links[0], side="host", depth=DEPTH if ahead else 0,
            predictor=predictor if ahead else Never(), sealer=worker, opener=worker,
        )  # fmt: skip
        self._there: Duplex = end(
            self._device, self._links[1], side="device", depth=0, predictor=Never()
        )

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning that counts."""
        return self.now - self._began

    @property
    def counts(self) -> TransferCounts:
        """What the host's end counted since then."""
        return self._here.stats() - self._counted

    def begin(self) -> None:
        """From now on it counts: what came before was to get warm."""
        self._began, self._counted = self.now, self._here.stats()

    def add(self, blocks: Sequence[int], size: int | None = None) -> None:
        """Fill blocks on the host, with room for them on the device."""
        size = size or self._size
        for block in blocks:
            self._host.add(block, bytearray(os.urandom(64) * (size // 64)))
            self._device.reserve(block, bytearray(size))

    def change(self, blocks: Sequence[int]) -> None:
        """The host writes blocks anew: what was sealed of them is stale."""
        for block in blocks:
            with self._host.write(block):
                pass

    def load(self, blocks: Sequence[int]) -> float:
        """Send blocks to the device as one batch; return when they can be used there."""
        for block in blocks:
            self._wait_for(block)
            self._core.until(self.now)
            self.now = max(self.now, self._sealed_at.get(self._staged(block), 0.0))
            self._timed(lambda block=block: self._here.send(block))  # type: ignore[misc]
        self._timed(self._here.sync)
        arrived = self._links[0].free_at
        for frame in self._arriving[0].take():
            self._there.receive(frame).result()
        return arrived + self._crypto(len(blocks))

    def unload(self, blocks: Sequence[int]) -> float:
        """Bring blocks back from the device as one batch; return when the device has their room."""
        for block in blocks:
            with self._device.write(block):
                pass  # the device worked on it: another version
            self._there.send(block)
        self.now += self._crypto(len(blocks))
        self._there.sync()
        frames = self._arriving[1].take()
        arrived = self._links[1].free_at
        if self._mode == "naive":
            self.now = max(self.now, arrived)  # it opens what arrived, and the caller waits
        before = self.now
        for number, frame in enumerate(frames, 1):
            self._core.not_before = arrived - (len(frames) - number) * self._frame_s
            self._timed(lambda frame=frame: self._here.receive(frame))  # type: ignore[misc]
        self._timed(self._here.received)
        self._core.not_before = 0.0
        if self._mode == "plain":
            self.now = before  # it lands where it belongs; that we copy it is the emulation's
        return arrived

    def compute(self, ready: float, seconds: float) -> float:
        """Let the device work for a while from a moment on; return when it is done."""
        self._device_free_at = max(ready, self._device_free_at) + seconds
        return self._device_free_at

    def wait(self, moment: float) -> None:
        """Let the serving thread wait; the core works meanwhile."""
        self.now = max(self.now, moment)
        self._core.until(self.now)

    def read(self, blocks: Sequence[int]) -> None:
        """Wait until blocks that came back are open."""
        for block in blocks:
            self._wait_for(block)

    def close(self) -> None:
        """End both channels."""
        self._core.until(float("inf"))
        self._here.close()
        self._there.close()

    def _wait_for(self, block: int) -> None:
        """Wait until a block that came back was opened."""
        while self._host.state(block) is State.PENDING:
            self._core.next()
            self.now = max(self.now, self._core.free_at)

    def _note_sealed(self) -> None:
        """Remember when an entry was ready: tasks are run before their time is up."""
        for entry in self._entries().values():
            if entry.ready.is_set():
                self._sealed_at.setdefault(entry.number, self._core.free_at)

    def _staged(self, block: int) -> int:
        """Return the sequence number under which a block waits sealed; -1 for none."""
        numbers = (each.number for each in self._entries().values() if each.block == block)
        return next(numbers, -1)

    def _entries(self) -> dict[int, Entry]:
        return self._here._sender._staging._numbers  # noqa: SLF001 - nobody else asks when

    def _crypto(self, blocks: int) -> float:
        return 0.0 if self._mode == "plain" else blocks * self._size / DEVICE_CRYPTO

    def _timed(self, call: Callable[[], Result]) -> Result:
        copied, began = self._arriving[0].copied_s, time.thread_time()
        result = call()
        took = time.thread_time() - began
        self.now += took - (self._arriving[0].copied_s - copied)
        return result
