"""A block of the KV pool, cut into units: each is all that some layers keep of it, in one piece.

Sealing is fastest between 64 KiB and 1 MiB, and a block of a large model is more than that.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from engine.kv_cache import KVPool

LIMIT = 1 << 20
"""Bytes of a unit at most, unless one layer alone has more."""


class Units:
    """How the blocks of a pool are cut. Every block is cut alike."""

    def __init__(self, pool: KVPool, limit: int = LIMIT) -> None:
        """Put as many layers into a unit as its limit allows."""
        self._pool = pool
        self._layers = list(_grouped([_layer_bytes(pool, i) for i in range(len(pool.keys))], limit))
        self.sizes = [sum(_layer_bytes(pool, i) for i in layers) for layers in self._layers]
        """Bytes of a block's units."""
        self._scratch = None
        if pool.device.type != "cpu":  # one crossing a unit, not one a tensor
            self._scratch = torch.empty(max(self.sizes), dtype=torch.uint8, device=pool.device)

    @property
    def count(self) -> int:
        """Units of a block."""
        return len(self.sizes)

    @property
    def block_bytes(self) -> int:
        """Bytes of a block."""
        return sum(self.sizes)

    def gather(self, block: int, unit: int, out: memoryview) -> None:
        """Copy a unit of a block into `out`; done on return."""
        target = torch.frombuffer(out, dtype=torch.uint8)
        flat = self._flat(unit, target)
        for part, piece in self._pieces(block, unit, flat):
            piece.copy_(part)
        if self._scratch is not None:
            target.copy_(flat)
            flat.zero_()

    def scatter(self, block: int, unit: int, data: memoryview) -> None:
        """Copy a unit's content into a block of the pool; done on return."""
        source = torch.frombuffer(data, dtype=torch.uint8)
        flat = self._flat(unit, source)
        if self._scratch is not None:
            flat.copy_(source)
        for part, piece in self._pieces(block, unit, flat):
            part.copy_(piece)
        if self._scratch is not None:
            flat.zero_()
            torch.cuda.synchronize(self._pool.device)

    def _flat(self, unit: int, host: Tensor) -> Tensor:
        return host if self._scratch is None else self._scratch[: self.sizes[unit]]

    def _pieces(self, block: int, unit: int, flat: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield each tensor's part of the block, and where it lies in the unit."""
        at = 0
        for layer in self._layers[unit]:
            for part in self._pool.parts(layer, block):
                size = part.numel() * part.element_size()
                yield part, flat[at : at + size].view(part.dtype).view(part.shape)
                at += size


def _layer_bytes(pool: KVPool, layer: int) -> int:
    return sum(part.numel() * part.element_size() for part in pool.parts(layer, 0))


def _grouped(sizes: list[int], limit: int) -> Iterator[list[int]]:
    """Yield runs of indexes whose sizes add up to the limit at most, or single ones."""
    group: list[int] = []
    for index, size in enumerate(sizes):
        if group and sum(sizes[i] for i in group) + size > limit:
            yield group
            group = []
        group.append(index)
    yield group
