"""Decoding steps as captured graphs: a few sizes, each recorded once, then only replayed.

A step is filled up with padding rows to the next size. Its numbers and its logits have fixed
places on the device that all graphs share; what lies between them is in one memory pool that all
graphs share too. Nothing that touches the host may happen within a recording.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import torch

DENSE_UP_TO = 8
STEP = 16


class Recorder(Protocol):
    """Turns device work into something that can be repeated without the host's part of it."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Do `work`, and return what repeats it on the same memory.

        Raises:
            RuntimeError: the work cannot be recorded, because it waits for a result, for example.
        """
        ...


class CudaRecorder:
    """A `Recorder` of CUDA graphs, whose memory is one pool."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """See `Recorder`. The first run, on a stream of its own, compiles what is not compiled."""
        stream: Any = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream):
            work()
        torch.cuda.current_stream(self._device).wait_stream(stream)
        torch.cuda.synchronize(self._device)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            work()
        return graph.replay


def sizes(largest: int) -> list[int]:
    """Return the sizes to record: 1, 2, 4, 8, then every 16, and `largest` itself."""
    small = [size for size in (1, 2, 4, DENSE_UP_TO) if size < largest]
    return [*small, *range(STEP, largest, STEP), largest]


class DecodeGraphs:
    """One recording a size.

    `prepare(size)` puts the numbers of a step of nothing but padding in their place, `work(size)`
    computes the step of that many rows whose numbers lie there.
    """

    def __init__(
        self,
        recorder: Recorder,
        prepare: Callable[[int], None],
        work: Callable[[int], None],
        *,
        largest: int,
    ) -> None:
        self._recorder = recorder
        self._prepare = prepare
        self._work = work
        self._sizes = sizes(largest)
        self._replays: dict[int, Callable[[], None]] = {}
        self.refused: str | None = None
        """Why there are no graphs, if there are none."""

    def record_all(self) -> None:
        """Record every size, the largest first: the others then fit into its memory.

        A model that cannot be recorded (a mixture that looks at who was chosen, for example) is
        computed without graphs, and `refused` says why.
        """
        try:
            for size in reversed(self._sizes):
                self._prepare(size)
                self._replays[size] = self._recorder.record(partial(self._work, size))
        except RuntimeError as error:
            self._replays.clear()
            self.refused = f"this model's steps cannot be recorded ({type(error).__name__})"

    @property
    def recorded(self) -> list[int]:
        """The sizes there are."""
        return sorted(self._replays)

    def size_for(self, rows: int) -> int | None:
        """Return the smallest recorded size that holds so many rows; None if there is none."""
        return next((size for size in self.recorded if size >= rows), None)

    def replay(self, size: int) -> None:
        """Compute the step whose numbers lie in their place."""
        self._replays[size]()
