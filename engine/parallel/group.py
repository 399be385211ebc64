"""The ranks of one engine, and what they say to each other.

Two channels: *control*, always gloo on the host, carries orders and what T reads; *data* carries
activations, by gloo on a CPU and by NCCL between GPUs. Whatever a channel reports as an error means
that a rank is lost, and with it the engine: no rank can go on with a part of a model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from engine.errors import ModelFiles, RankLost

_PATIENCE = timedelta(days=365)
"""An idle engine says nothing, for as long as nobody asks it anything."""
_FIRST = 512
"""Words of an order that travel with its length; a step of a few sequences fits."""


class Group:
    """This process among its ranks. Every rank calls the same methods in the same order."""

    def __init__(self, rank: int, size: int, device: torch.device) -> None:
        """Join a group whose default process group was initialised with gloo."""
        self.rank = rank
        self.size = size
        ranks = list(range(size))
        self._control: Any = dist.new_group(ranks, backend="gloo", timeout=_PATIENCE)
        self._data: Any = self._control
        if device.type != "cpu":
            self._data = dist.new_group(ranks, backend="nccl", timeout=_PATIENCE)

    @property
    def leads(self) -> bool:
        """Whether this is rank 0, the front."""
        return self.rank == 0

    def sum(self, x: Tensor) -> Tensor:
        """Return the sum of every rank's x, the same on all of them; x is overwritten."""
        x = x.contiguous()
        with _lost():
            dist.all_reduce(x, group=self._of(x))
        return x

    def join(self, x: Tensor, dim: int) -> Tensor:
        """Return every rank's x, of one shape, side by side along `dim` in order of rank."""
        x = x.contiguous()
        parts = [torch.empty_like(x) for _ in range(self.size)]
        with _lost():
            dist.all_gather(parts, x, group=self._of(x))
        return torch.cat(parts, dim)

    def mine(self, x: Tensor, dim: int) -> Tensor:
        """Return this rank's slice of a tensor that divides evenly, in memory of its own."""
        return x.chunk(self.size, dim)[self.rank].clone()

    def send(self, x: Tensor, to: int) -> None:
        """Send x to a rank, which waits for it in `receive`."""
        with _lost():
            dist.send(x.contiguous(), to, group=self._of(x))

    def receive(self, x: Tensor, origin: int) -> None:
        """Overwrite x, contiguous, with what `origin` sends."""
        with _lost():
            dist.recv(x, origin, group=self._of(x))

    def tell(self, words: Sequence[int], ids: Tensor | None = None) -> None:
        """Say an order, and ids that belong to it (int64), to all others; only rank 0."""
        count = 0 if ids is None else len(ids)
        at = 2 + len(words)
        order = torch.zeros(max(_FIRST, at + count), dtype=torch.int64)
        order[:at] = torch.tensor([len(words), count, *words])
        if ids is not None:
            order[at : at + count] = ids
        self._broadcast(order[:_FIRST])
        if len(order) > _FIRST:
            self._broadcast(order[_FIRST:])
        order.zero_()

    def hear(self) -> tuple[list[int], Tensor]:
        """Wait for the next order; return its words and its ids."""
        first = torch.zeros(_FIRST, dtype=torch.int64)
        self._broadcast(first)
        at, count = 2 + int(first[0]), int(first[1])
        rest = torch.zeros(max(0, at + count - _FIRST), dtype=torch.int64)
        if len(rest):
            self._broadcast(rest)
        order = torch.cat([first, rest])
        words, ids = order[2:at].tolist(), order[at : at + count].clone()
        for tensor in (first, rest, order):
            tensor.zero_()
        return words, ids

    def share(self, x: Tensor) -> None:
        """Overwrite every other rank's x, of one shape and on the host, with that of rank 0."""
        self._broadcast(x)

    def meet(self) -> None:
        """Wait until every rank is here: what it was told before is done."""
        with _lost():
            dist.barrier(group=self._control)

    def check_same(self, digest: bytes) -> None:
        """Check that every rank has the same bytes.

        Raises:
            ModelFiles: a rank read another model than this one.
        """
        own = torch.frombuffer(bytearray(digest), dtype=torch.uint8)
        if not bool((self.join(own[None], 0) == own).all()):
            raise ModelFiles("the ranks of the group read different models")

    def _of(self, x: Tensor) -> Any:  # noqa: ANN401 - torch's process groups
        return self._control if x.device.type == "cpu" else self._data

    def _broadcast(self, x: Tensor) -> None:
        with _lost():
            dist.broadcast(x, 0, group=self._control)


@contextmanager
def _lost() -> Iterator[None]:
    """Turn whatever a channel raises into the one thing that it means."""
    try:
        yield
    except RuntimeError:
        raise RankLost("a rank of the group cannot be reached") from None
