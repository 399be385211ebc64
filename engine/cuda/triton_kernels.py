"""Launches of the Triton kernels: sizes become constants, everything else stays on the device."""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
import triton
from torch import Tensor

from engine.attention import Options
from engine.cuda import paged, prefill
from engine.cuda.backend import LayerCache
from engine.cuda.tables import Tables, tile_length
from engine.kv_cache import KVPool

_NO_WINDOW = 1 << 30
_MOST_SPLITS = 64
_SMALLEST_PRODUCT = 16
"""What `tl.dot` takes at least of each dimension."""
_PACKED = 128
"""Rows of one product of the prefill kernel."""
_CHUNK = 4096


class TritonKernels:
    """See `engine.cuda.backend.Kernels`."""

    name: str = "triton"
    tile_rows = _PACKED

    def __init__(
        self, device: torch.device, *, programs: int | None = None, exact: bool = False
    ) -> None:
        """Take a device.

        Args:
            device: where the pools are.
            programs: how many programs a decoding step should at least be cut into.
            exact: multiply in float32, whatever the pool holds.
        """
        self._device = device
        self._exact = exact
        self._programs = programs or 4 * _multiprocessors(device)
        self._extents: WeakKeyDictionary[KVPool, tuple[Tensor, Tensor]] = WeakKeyDictionary()

    def prepare(self, tables: Tables, pool: KVPool) -> None:
        """See `Kernels`; there is nothing to note."""

    def write(self, pool: KVPool, layer: int, slots: Tensor, k: Tensor, v: Tensor) -> None:
        """See `Kernels`."""
        for rows, target in ((k, pool.keys[layer]), (v, pool.values[layer])):
            count, heads, size = rows.shape
            elements = heads * size
            paged.store_rows[(count,)](
                _unit(rows),
                target,
                slots,
                rows.stride(0),
                rows.stride(1),
                size=size,
                elements=elements,
                elements_pad=triton.next_power_of_2(elements),
            )

    def decode(self, q: Tensor, cache: LayerCache, tables: Tables, out: Tensor) -> None:
        """See `Kernels`."""
        keys, values, options = cache.keys, cache.values, cache.options
        count, query_heads, q = len(tables.decoding), q.shape[1], _unit(q)
        sizes = _sizes(q, cache, exact=self._exact)
        splits = self.splits(count, sizes["heads"])
        shared_pad = max(_SMALLEST_PRODUCT, triton.next_power_of_2(sizes["shared"]))
        value_size = sizes["value_size"]
        products = q.new_empty(count, query_heads, splits, value_size, dtype=torch.float32)
        tops, sums = q.new_empty(2, count, query_heads, splits, dtype=torch.float32)
        paged.decode_split[(count, sizes["heads"], splits)](
            q,
            keys,
            values,
            products,
            tops,
            sums,
            tables.decoding,
            tables.borders,
            tables.contexts,
            tables.blocks,
            *_numbers(q, options),
            tables.blocks.shape[1],
            q.stride(0),
            q.stride(1),
            **sizes,
            shared_pad=shared_pad,
            splits=splits,
            num_warps=4,
            num_stages=3,
        )
        paged.join_splits[(count, query_heads)](
            products,
            tops,
            sums,
            out,
            tables.decoding,
            tables.borders,
            _sinks(options, sums),
            query_heads,
            value_size=value_size,
            value_pad=sizes["value_pad"],
            splits=splits,
            splits_pad=triton.next_power_of_2(splits),
            sunk=options.sinks is not None,
        )

    def prefill(self, q: Tensor, cache: LayerCache, tables: Tables, out: Tensor) -> None:
        """See `Kernels`."""
        keys, values, options, q = cache.keys, cache.values, cache.options, _unit(q)
        sizes = _sizes(q, cache, exact=self._exact)
        wide = max(sizes["size_pad"], sizes["value_pad"]) > 128
        prefill.prefill_tile[(len(tables.tiles), sizes["heads"])](
            q,
            keys,
            values,
            out,
            tables.tiles,
            tables.borders,
            tables.contexts,
            tables.blocks,
            _sinks(options, q),
            *_numbers(q, options),
            tables.blocks.shape[1],
            q.stride(0),
            q.stride(1),
            **sizes,
            queries=tile_length(self.tile_rows, sizes["shared"]),
            packed=max(_PACKED, triton.next_power_of_2(sizes["shared"])),
            sunk=options.sinks is not None,
            num_warps=8,
            num_stages=2 if wide else 3,
        )

    def zero(self, pool: KVPool, blocks: Sequence[int]) -> None:
        """See `Kernels`."""
        if pool not in self._extents:
            self._extents[pool] = self._layout(pool)
        offsets, extents = self._extents[pool]
        numbers = torch.tensor(list(blocks), dtype=torch.int64).to(self._device)
        grid = (len(blocks), len(offsets))
        paged.zero_blocks[grid](pool.keys[0], offsets, extents, numbers, chunk=_CHUNK)

    def splits(self, sequences: int, heads: int) -> int:
        """Return into how many parts each of so many sequences is cut."""
        wanted = -(-self._programs // max(1, sequences * heads))
        return min(_MOST_SPLITS, max(1, wanted))

    def _layout(self, pool: KVPool) -> tuple[Tensor, Tensor]:
        """Return where each tensor of the pool begins, in elements from the first, and a block."""
        tensors = [*pool.keys, *pool.values]
        origin = pool.keys[0].storage_offset()
        offsets = [tensor.storage_offset() - origin for tensor in tensors]
        extents = [tensor[0].numel() * pool.block_size for tensor in tensors]
        numbers = torch.tensor([offsets, extents], dtype=torch.int64).to(self._device)
        return numbers[0], numbers[1]


def tile_of(block_size: int) -> int:
    """Return how many positions are attended at a time: a power of two that divides a block.

    Raises:
        ValueError: that is less than what the kernels take.
    """
    tile = min(64, block_size & -block_size)
    if tile < _SMALLEST_PRODUCT:
        raise ValueError("blocks must be a multiple of 16 tokens on a GPU")
    return tile


def _sizes(q: Tensor, cache: LayerCache, *, exact: bool) -> dict[str, Any]:
    heads, size, value_size = *cache.keys.shape[1:], cache.values.shape[2]
    return {
        "heads": heads,
        "shared": q.shape[1] // heads,
        "size": size,
        "size_pad": max(_SMALLEST_PRODUCT, triton.next_power_of_2(size)),
        "value_size": value_size,
        "value_pad": max(_SMALLEST_PRODUCT, triton.next_power_of_2(value_size)),
        "block_size": cache.pool.block_size,
        "tile": tile_of(cache.pool.block_size),
        "capped": cache.options.softcap is not None,
        "exact": exact or q.dtype == torch.float32,
    }


def _numbers(q: Tensor, options: Options) -> tuple[float, float, int]:
    scale = q.shape[-1] ** -0.5 if options.scaling is None else options.scaling
    cap = 0.0 if options.softcap is None else options.softcap
    return scale, cap, _NO_WINDOW if options.window is None else options.window


def _sinks(options: Options, otherwise: Tensor) -> Tensor:
    return otherwise if options.sinks is None else options.sinks.float().contiguous()


def _unit(rows: Tensor) -> Tensor:
    return rows if rows.stride(-1) == 1 else rows.contiguous()


def _multiprocessors(device: torch.device) -> int:
    if device.type != "cuda":
        return 1
    return int(torch.cuda.get_device_properties(device).multi_processor_count)
