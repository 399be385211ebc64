"""EMULATED: what a streamed model costs over a link that is computed, not run.

Three things go on side by side on a virtual clock: the device and the thread that drives it, one
core that seals ahead, and the link. Sealing is really done; its time is what the caller says or
measures. The thread waits, before it hands a batch over, until the core has sealed all that it was
asked for, also what is needed later: the result is an upper bound.

    python -m engine.streaming.emulated            one JSON object a line
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from engine.streaming.layer import Layer
from engine.streaming.ring import Ring
from engine.transfer.channel import Kind
from engine.transfer.counts import TransferCounts
from engine.transfer.frame import Frame
from engine.transfer.link import Done, Link, ModelledLink
from engine.transfer.sealer import Task


@dataclass(frozen=True)
class Set:
    """What is streamed, and over what.

    Attributes:
        layers: of the model.
        size: bytes of a layer.
        buffers: of the device.
        bandwidth: of the link, bytes a second.
        crossing_s: that a batch costs on top.
        computes_s: that the device works on a layer.
        passes: that count, after one that does not.
    """

    layers: int = 12
    size: int = 16 << 20
    buffers: int = 4
    bandwidth: float = 4e9
    crossing_s: float = 0.3e-3
    computes_s: float = 1e-3
    passes: int = 3


@dataclass(frozen=True)
class Result:
    """Of the passes that count.

    Attributes:
        of_link: share of the time that the link was busy: 1 is its limit.
        of_bandwidth: share of the link's bandwidth that the model's bytes had.
        model: bytes of the layers.
        device: bytes of the ring.
        counts: of the channel.
    """

    of_link: float
    of_bandwidth: float
    model: int
    device: int
    counts: TransferCounts


class Core:
    """A core that seals, in its own time (a `Sealer`)."""

    def __init__(self, clock: Callable[[], float], cost: Callable[[Task], float]) -> None:
        """Begin idle; `cost` runs a task and says what it took."""
        self._clock, self._cost = clock, cost
        self.free_at = 0.0

    def submit(self, task: Task) -> bool:
        """See `Sealer`."""
        self.free_at = max(self.free_at, self._clock()) + self._cost(task)
        return True

    def close(self) -> None:
        """See `Sealer`."""


def measured(task: Task) -> float:
    """Run a task; return the processor time that it took."""
    began = time.thread_time()
    task()
    return time.thread_time() - began


class _Waiting:
    """A link that is given a batch when all of it is sealed."""

    def __init__(self, run: Run, behind: Link) -> None:
        self._run, self._behind = run, behind

    def send(self, frames: Sequence[Frame], done: Done) -> None:
        """See `Link`."""
        self._run.now = max(self._run.now, self._run.core.free_at)
        self._behind.send(frames, done)


class Run:
    """One set in one form."""

    def __init__(self, what: Set, kind: Kind, cost: Callable[[Task], float] = measured) -> None:
        """Make a model of random weights."""
        self.now = 0.0
        self.core = Core(lambda: self.now, cost)
        self._what = what
        self._layers = [Layer(_weights(what.size)) for _ in range(what.layers)]
        self._ring = Ring(
            self._layers, buffers=what.buffers, kind=kind, secret=os.urandom(32),
            attested=kind != "plain", link=self._linked, sealer=self.core,
        )  # fmt: skip
        self._arrives: dict[int, float] = {}

    def result(self) -> Result:
        """Run the passes."""
        self._pass()
        began, busy, counted = self._link.free_at, self._link.busy_s, self._ring.counts
        for _ in range(self._what.passes):
            self._pass()
        elapsed, busy = self._link.free_at - began, self._link.busy_s - busy
        model = self._what.layers * self._what.size
        return Result(
            of_link=busy / elapsed,
            of_bandwidth=self._what.passes * model / self._what.bandwidth / elapsed,
            model=model,
            device=self._ring.size,
            counts=self._ring.counts - counted,
        )

    def close(self) -> None:
        """End the channel."""
        self._ring.close()

    def _pass(self) -> None:
        for index in range(len(self._layers)):
            self._ring.enter(index)
            self._note(index)
            self.now = max(self.now, self._arrives.pop(index)) + self._what.computes_s
            before = self._link.batches
            self._ring.leave(index)
            if self._link.batches > before:
                following = (index + self._what.buffers) % len(self._layers)
                self._arrives[following] = self._link.free_at

    def _note(self, index: int) -> None:
        """The first layers are fetched together."""
        self._arrives.setdefault(index, self._link.free_at)

    def _linked(self, arriving: Link) -> Link:
        what = self._what
        self._link = ModelledLink(what.bandwidth, what.crossing_s, lambda: self.now, arriving)
        return _Waiting(self, self._link)


def _weights(size: int) -> nn.Module:
    return nn.Linear(size // 4 // 1024, 1024, bias=False)


def main() -> None:
    """Print how near sealed and plain streaming come to the link's limit."""
    for kind in ("plain", "sealed"):
        run = Run(Set(), kind)
        result = run.result()
        line: dict[str, Any] = {
            "case": f"sweep streamed weights @ {result.model // result.device} x the ring, {kind}",
            "value": round(100 * result.of_link, 1),
            "unit": "% of the link",
            "bandwidth": round(100 * result.of_bandwidth, 1),
            "hit rate": round(100 * result.counts.hit_rate, 2),
            "emulated": True,
        }
        sys.stdout.write(json.dumps(line) + "\n")
        run.close()


if __name__ == "__main__":
    main()
