"""KV truncation by precision alignment: a decoding row reads of K and V only what it can use.

After "AlignedKV" (arXiv 2409.16546). In a sum, what an addend has below the precision of the
largest addend is lost; so a factor of a small product need not be read in full. K and V are kept
as float16 in two planes, high bytes (sign, exponent, 2 bits of mantissa) and low bytes (the rest),
and of what matters less only the high byte is read, or nothing:

    scores    addends are the products of one KV block's positions in each dimension. Their largest
              exponents are known without reading K: the query's, plus the block's largest in that
              dimension, which is kept beside it. A dimension's difference is how far it lies below
              the greatest of them.
    output    addends are the positions. A position's difference is how far its weight lies below
              the greatest one, in powers of two.

Query heads that share a KV head share its bytes: the head that needs the most precision decides.
float16 holds bfloat16 exactly between 2^-14 and 65,504; what is smaller is rounded, what is larger
clamped. It approximates, so it is never used while the computation is verified.

Where this differs from the paper: a bfloat16 fills 5 bits of a low byte, so a low byte of K can go
at a difference of 5 (of V, 7), not 8; and positions are many, so one is left out only when all of
its kind together could not matter, which depends on how many there are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.attention import Options
from engine.kv_cache import LayerShape

KEY_LOW = 5
"""From this difference on, a dimension's low bytes are not read."""
KEY_NONE = 11
"""From this difference on, a dimension is not read at all."""
VALUE_LOW = 7
"""As for keys, and a margin: positions are many, and their errors add up."""
VALUE_NONE = 8
"""To which the logarithm of the context's length is added."""
MIDDLE = 0x7C
"""Stands for a low byte that is not read: the middle of those that a bfloat16 leaves there."""
_LARGEST = 65504.0


@dataclass(frozen=True)
class Planes:
    """One layer's K or V, uint8; see `AlignedKVPool` for the shapes."""

    high: Tensor
    low: Tensor


@dataclass(frozen=True)
class Reading:
    """What one row's attention read of the cache, in bytes, and what it would have read."""

    read: int
    whole: int


class AlignedKVPool:
    """A KV pool in planes. Offers what `engine.kv_cache.KVPool` does, but for its tensors.

    Attributes:
        keys: planes [blocks, heads, size, block_size]: a dimension's bytes lie together, so that
            one that is not needed is not touched.
        values: planes [slots, heads, size]: likewise a position's.
        tops: int32 [blocks, heads, size]: the largest exponent (0 to 31) among a block's keys.
    """

    def __init__(
        self,
        shapes: Sequence[LayerShape],
        *,
        blocks: int,
        block_size: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.shapes = list(shapes)
        self.blocks, self.block_size = blocks, block_size
        self.dtype, self.device = dtype, device
        slots = blocks * block_size
        self.keys = [
            self._planes(blocks, shape.heads, shape.key_size, block_size) for shape in shapes
        ]
        self.values = [self._planes(slots, shape.heads, shape.value_size) for shape in shapes]
        self.tops = [
            torch.zeros(blocks, shape.heads, shape.key_size, dtype=torch.int32, device=device)
            for shape in shapes
        ]

    def write(self, layer: int, slots: Tensor, keys: Tensor, values: Tensor) -> None:
        """Store keys and values [rows, heads, size] of one layer at `slots`, int64 [rows]."""
        block, place = slots // self.block_size, slots % self.block_size
        high, low = split_bytes(keys)
        self.keys[layer].high[block, :, :, place] = high
        self.keys[layer].low[block, :, :, place] = low
        exponents = _exponent(high)
        where = block[:, None, None].expand_as(exponents)
        self.tops[layer].scatter_reduce_(0, where, exponents, "amax")
        self.values[layer].high[slots], self.values[layer].low[slots] = split_bytes(values)

    def read(self, layer: int, blocks: Sequence[int], length: int) -> tuple[Tensor, Tensor]:
        """Return keys and values of a sequence's first positions, [length, heads, size], whole."""
        lines = torch.tensor(list(blocks), dtype=torch.int64, device=self.device)
        keys, values = self.keys[layer], self.values[layer]
        k = join_bytes(keys.high[lines], keys.low[lines]).permute(0, 3, 1, 2).flatten(0, 1)
        places = torch.arange(self.block_size, device=self.device)
        slots = (lines[:, None] * self.block_size + places).flatten()
        v = join_bytes(values.high[slots], values.low[slots])
        return k[:length].to(self.dtype), v[:length].to(self.dtype)

    def zero(self, blocks: Iterable[int]) -> None:
        """Overwrite whole blocks with zeros, in every layer."""
        lines = torch.tensor(sorted(blocks), dtype=torch.int64, device=self.device)
        for tensor in self._by_block():
            tensor[lines] = 0

    def copy(self, source: Sequence[int], target: Sequence[int]) -> None:
        """Copy whole blocks, pairwise; `source` and `target` share no block."""
        old, new = (torch.tensor(list(each), device=self.device) for each in (source, target))
        for tensor in self._by_block():
            tensor[new] = tensor[old]

    def _by_block(self) -> list[Tensor]:
        planes = [*self.keys, *self.values]
        tensors = [plane for pair in planes for plane in (pair.high, pair.low)]
        return [tensor.view(self.blocks, -1) for tensor in (*tensors, *self.tops)]

    def _planes(self, *size: int) -> Planes:
        high, low = torch.zeros(2, *size, dtype=torch.uint8, device=self.device)
        return Planes(high, low)


@dataclass(frozen=True)
class AlignedLayer:
    """One layer of a pool, and what the layer asks of its attention."""

    pool: AlignedKVPool
    layer: int
    options: Options

    @property
    def shape(self) -> LayerShape:
        """What the layer keeps of one token."""
        return self.pool.shapes[self.layer]

    @property
    def keys(self) -> Planes:
        """[blocks, heads, size, block_size]."""
        return self.pool.keys[self.layer]

    @property
    def values(self) -> Planes:
        """[slots, heads, value size]."""
        return self.pool.values[self.layer]

    @property
    def tops(self) -> Tensor:
        """[blocks, heads, size]."""
        return self.pool.tops[self.layer]


def split_bytes(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the high and the low bytes of values as float16."""
    halves = values.float().clamp(-_LARGEST, _LARGEST).to(torch.float16)
    pairs = halves.contiguous().view(torch.uint8).view(*values.shape, 2)
    return pairs[..., 1], pairs[..., 0]  # little-endian


def join_bytes(high: Tensor, low: Tensor) -> Tensor:
    """Return float16 values of their bytes."""
    return torch.stack([low, high], dim=-1).view(torch.float16)[..., 0]


def key_differences(q: Tensor, tops: Tensor) -> Tensor:
    """Return how far each dimension's largest product lies below the greatest, int [..., size].

    Args:
        q: [query heads of one KV head, size].
        tops: [..., size], the blocks' largest exponents.
    """
    exponents = torch.frexp(q.float())[1]
    exponents = torch.where(q == 0, -1000, exponents)
    products = exponents + tops[..., None, :]
    differences = products.amax(-1, keepdim=True) - products
    # A head that is nothing needs nothing; otherwise the neediest head decides.
    return torch.where((q == 0).all(-1, keepdim=True), 1000, differences).amin(-2)


def value_differences(scores: Tensor) -> Tensor:
    """Return how far each position's weight lies below the greatest, int [positions].

    Args:
        scores: [query heads of one KV head, positions].
    """
    below = (scores.amax(-1, keepdim=True) - scores) * math.log2(math.e)
    return below.amin(0).clamp_max(1000).int()


def attend_aligned(
    q: Tensor, cache: AlignedLayer, blocks: Sequence[int], context: int
) -> tuple[Tensor, Reading]:
    """Attend one decoding row, q [query heads, size], in plain torch, and count bytes.

    Returns [query heads, value size] in float32. What the Triton kernels are held against.
    """
    shape, options, block_size = cache.shape, cache.options, cache.pool.block_size
    first = 0 if options.window is None else max(0, context - options.window)
    used = slice(first // block_size, -(-context // block_size))
    device = cache.tops.device
    lines = torch.tensor(list(blocks[used]), dtype=torch.int64, device=device)
    positions = torch.arange(first, context, device=device) - used.start * block_size
    slots = lines[positions // block_size] * block_size + positions % block_size
    grouped = q.float().view(shape.heads, -1, q.shape[1])
    sinks = None if options.sinks is None else options.sinks.float().view(shape.heads, -1)
    outputs, read = [], 0
    for head in range(shape.heads):
        keys, key_bytes = _keys(grouped[head], cache, head, lines)
        scores = _scores(grouped[head], keys[:, positions], options)
        values, value_bytes = _values(scores, cache, head, slots)
        outputs.append(_weights(scores, None if sinks is None else sinks[head]) @ values)
        read += key_bytes + value_bytes
    elements = len(lines) * block_size * shape.key_size + len(slots) * shape.value_size
    return torch.cat(outputs), Reading(read, 2 * shape.heads * elements)


def _keys(q: Tensor, cache: AlignedLayer, head: int, lines: Tensor) -> tuple[Tensor, int]:
    """Return the keys as read, [size, positions of whole blocks], and the bytes that took."""
    tops = cache.tops[lines, head]
    differences = key_differences(q, tops)
    high, low = (plane[lines, head] for plane in (cache.keys.high, cache.keys.low))
    values, count = _truncate(high, low, differences[..., None], KEY_LOW, KEY_NONE)
    return values.permute(1, 0, 2).flatten(1), count + 4 * tops.numel()


def _values(scores: Tensor, cache: AlignedLayer, head: int, slots: Tensor) -> tuple[Tensor, int]:
    """Return the values as read, [positions, size], and the bytes that took."""
    differences = value_differences(scores)
    high, low = (plane[slots, head] for plane in (cache.values.high, cache.values.low))
    none = VALUE_NONE + math.ceil(math.log2(max(1, len(slots))))
    return _truncate(high, low, differences[:, None], VALUE_LOW, none)


def _truncate(
    high: Tensor, low: Tensor, differences: Tensor, from_low: int, from_none: int
) -> tuple[Tensor, int]:
    with_low = (differences < from_low).expand_as(high)
    with_high = (differences < from_none).expand_as(high)
    values = join_bytes(high, torch.where(with_low, low, MIDDLE)).float()
    count = int(with_low.sum()) + int(with_high.sum())
    return torch.where(with_high, values, 0.0), count


def _scores(q: Tensor, keys: Tensor, options: Options) -> Tensor:
    scale = q.shape[-1] ** -0.5 if options.scaling is None else options.scaling
    scores = q @ keys * scale
    if options.softcap is not None:
        scores = options.softcap * torch.tanh(scores / options.softcap)
    return scores


def _weights(scores: Tensor, sinks: Tensor | None) -> Tensor:
    if sinks is None:
        return scores.softmax(-1)
    return torch.cat([scores, sinks.float()[:, None]], -1).softmax(-1)[:, :-1]


def _exponent(high: Tensor) -> Tensor:
    return ((high >> 2) & 31).int()
