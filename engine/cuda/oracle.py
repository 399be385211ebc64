"""The kernels in plain torch: the same tables, tiles and splits, a loop where they are parallel.

For tests, and where there is no Triton. Everything is computed in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import torch
from torch import Tensor

from engine.attention import Options
from engine.cuda.backend import LayerCache
from engine.cuda.tables import Tables
from engine.kv_cache import KVPool


class TorchKernels:
    """See `engine.cuda.backend.Kernels`."""

    name = "torch"
    tile_rows = 32

    def __init__(self, splits: int = 1, tile: int = 16) -> None:
        self._splits = splits
        self._tile = tile

    def prepare(self, tables: Tables, pool: KVPool) -> None:
        """See `Kernels`; there is nothing to note."""

    def write(self, pool: KVPool, layer: int, slots: Tensor, k: Tensor, v: Tensor) -> None:
        """See `Kernels`."""
        real = slots >= 0
        pool.write(layer, slots[real], k[real], v[real])

    def decode(self, q: Tensor, cache: LayerCache, tables: Tables, out: Tensor) -> None:
        """See `Kernels`: each split gives a maximum, a sum and a product; then they are joined."""
        for sequence in tables.decoding.tolist():
            row, context = int(tables.borders[sequence]), int(tables.contexts[sequence])
            line = tables.blocks[:, sequence]
            parts = []
            for start, stop in split(context, cache.options.window, self._splits, self._tile):
                seen = torch.arange(start, stop, device=q.device)
                scores, values = _scores(q[row : row + 1], cache, line, seen)
                parts.append(_partial(scores[:, 0], values))
            out[row] = _join(parts, q.shape[1], out.shape[-1], cache.options).to(out.dtype)

    def prefill(self, q: Tensor, cache: LayerCache, tables: Tables, out: Tensor) -> None:
        """See `Kernels`: a tile ends where the next one of its sequence begins."""
        tiles = tables.tiles.tolist()
        for (sequence, first), (other, start) in zip(tiles, [*tiles[1:], (-1, 0)], strict=True):
            border, end = (int(n) for n in tables.borders[sequence : sequence + 2])
            last = border + start if other == sequence else end
            rows = slice(border + first, last)
            before = int(tables.contexts[sequence]) - (end - rows.start)
            positions = torch.arange(before, before + last - rows.start, device=q.device)
            window = cache.options.window
            floor = 0 if window is None else max(0, before - window + 1)
            seen = torch.arange(floor, before + len(positions), device=q.device)
            line = tables.blocks[:, sequence]
            scores, values = _scores(q[rows], cache, line, seen)
            hidden = seen > positions[:, None]
            if window is not None:
                hidden |= seen <= positions[:, None] - window
            scores.masked_fill_(hidden, float("-inf"))
            out[rows] = _attend(scores, values, cache.options).transpose(0, 1).to(out.dtype)

    def zero(self, pool: KVPool, blocks: Sequence[int]) -> None:
        """See `Kernels`."""
        pool.zero(blocks)


def split(context: int, window: int | None, splits: int, tile: int) -> list[tuple[int, int]]:
    """Cut the positions a decoding row sees into at most `splits` parts of whole tiles.

    A part begins at a multiple of `tile`, the first one at what the window leaves; parts that
    would be empty are left out.
    """
    first = 0 if window is None else max(0, context - window)
    origin = first // tile * tile
    part = ceil(ceil((context - origin) / splits) / tile) * tile
    starts = range(origin, context, part) if part else ()
    return [(max(start, first), min(start + part, context)) for start in starts]


def _scores(q: Tensor, cache: LayerCache, line: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """Return scores [query heads, rows, positions] and values [query heads, positions, size]."""
    size, options = cache.pool.block_size, cache.options
    slots = line[seen // size] * size + seen % size
    shared = q.shape[1] // cache.keys.shape[1]
    keys = cache.keys[slots].float().repeat_interleave(shared, 1)
    values = cache.values[slots].float().repeat_interleave(shared, 1)
    scale = q.shape[-1] ** -0.5 if options.scaling is None else options.scaling
    scores = torch.einsum("qhd,khd->hqk", q.float(), keys) * scale
    if options.softcap is not None:
        scores = options.softcap * torch.tanh(scores / options.softcap)
    return scores, values.transpose(0, 1)


def _attend(scores: Tensor, values: Tensor, options: Options) -> Tensor:
    heads, rows, _ = scores.shape
    if options.sinks is not None:
        sinks = options.sinks.float().view(heads, 1, 1).expand(heads, rows, 1)
        scores = torch.cat([scores, sinks], -1)
        return scores.softmax(-1)[..., :-1] @ values
    return scores.softmax(-1) @ values


def _partial(scores: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    top = scores.amax(-1)
    weights = (scores - top[:, None]).exp()
    return top, weights.sum(-1), torch.einsum("hk,hkd->hd", weights, values)


def _join(
    parts: list[tuple[Tensor, Tensor, Tensor]], heads: int, size: int, options: Options
) -> Tensor:
    if not parts:
        return torch.zeros(heads, size)
    tops, sums, products = (torch.stack(part) for part in zip(*parts, strict=True))
    top = tops.amax(0)
    if options.sinks is not None:
        top = torch.maximum(top, options.sinks.float())
    factors = (tops - top).exp()
    total = (factors * sums).sum(0)
    if options.sinks is not None:
        total += (options.sinks.float() - top).exp()
    return (factors[..., None] * products).sum(0) / total[:, None]
