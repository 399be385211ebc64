"""The KV pool: one preallocated region, cut into blocks, zeroed block by block.

Per layer, keys are [slots, heads, key_size] and values [slots, heads, value_size]; block b holds
the slots b * block_size and following. Nothing of a sequence lives elsewhere between steps.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from engine.memory import region


@dataclass(frozen=True)
class LayerShape:
    """What one layer keeps of one token."""

    heads: int
    key_size: int
    value_size: int

    @property
    def width(self) -> int:
        """Elements of one token, keys and values."""
        return self.heads * (self.key_size + self.value_size)


class KVPool:
    """Memory for `blocks` blocks of every layer."""

    def __init__(
        self,
        shapes: Sequence[LayerShape],
        *,
        blocks: int,
        block_size: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.blocks = blocks
        self.block_size = block_size
        self.dtype, self.device = dtype, device
        slots = blocks * block_size
        sizes = [
            (slots, shape.heads, width)
            for shape in shapes
            for width in (shape.key_size, shape.value_size)
        ]
        flat = _region(sum(prod(size) for size in sizes), dtype, device)
        parts = torch.split(flat, [prod(size) for size in sizes])
        tensors = [part.view(size) for part, size in zip(parts, sizes, strict=True)]
        self.keys = tensors[::2]
        self.values = tensors[1::2]

    def write(self, layer: int, slots: Tensor, keys: Tensor, values: Tensor) -> None:
        """Store keys and values [rows, heads, size] of one layer at `slots`, int64 [rows]."""
        self.keys[layer].index_copy_(0, slots, keys)
        self.values[layer].index_copy_(0, slots, values)

    def zero(self, blocks: Iterable[int]) -> None:
        """Overwrite whole blocks with zeros, in every layer."""
        for first, count in runs(sorted(blocks)):
            start, stop = first * self.block_size, (first + count) * self.block_size
            for tensor in (*self.keys, *self.values):
                tensor[start:stop].zero_()

    def parts(self, layer: int, block: int) -> tuple[Tensor, Tensor]:
        """Return what a layer keeps of a block: views of keys and values, [positions, ...]."""
        slots = slice(block * self.block_size, (block + 1) * self.block_size)
        return self.keys[layer][slots], self.values[layer][slots]

    def copy(self, source: Sequence[int], target: Sequence[int]) -> None:
        """Copy whole blocks, pairwise; `source` and `target` share no block."""
        for one, other in zip(source, target, strict=True):
            start, to = one * self.block_size, other * self.block_size
            for tensor in (*self.keys, *self.values):
                tensor[to : to + self.block_size] = tensor[start : start + self.block_size]


def runs(blocks: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Group block numbers, in their order, into (first, count) runs of consecutive ones."""
    first, count = 0, 0
    for block in blocks:
        if count and block == first + count:
            count += 1
            continue
        if count:
            yield first, count
        first, count = block, 1
    if count:
        yield first, count


def _region(elements: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    if device.type != "cpu":
        return torch.zeros(elements, dtype=dtype, device=device)
    # Pages of an anonymous mapping are zero and cost nothing until written; core dumps and
    # forked children do not get this one.
    taken = region(elements * dtype.itemsize)
    taken.madvise(mmap.MADV_DONTDUMP)
    taken.madvise(mmap.MADV_DONTFORK)
    return torch.frombuffer(taken, dtype=dtype, count=elements)
