"""The attention of one step on the device: new rows into the pool, then every row over its own."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from engine.attention import Group, Options, Span
from engine.cuda.backend import Kernels, LayerCache
from engine.cuda.tables import Tables
from engine.kv_alignment import AlignedKVPool, AlignedLayer, attend_aligned
from engine.kv_cache import KVPool


class PagedAttention:
    """An `engine.attention.Attention` by kernels over a step's tables."""

    def __init__(self, kernels: Kernels, pool: KVPool, tables: Tables) -> None:
        self._kernels = kernels
        self._pool = pool
        self._tables = tables

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, options: Options) -> Tensor:
        """Attend; see `Attention`."""
        kernels, pool, tables = self._kernels, self._pool, self._tables
        rows, keys, values = (part[0].transpose(0, 1) for part in (q, k, v))
        kernels.write(pool, layer, tables.slots, keys, values)
        out = q.new_empty(len(rows), rows.shape[1], values.shape[2])
        cache = LayerCache(pool, layer, options)
        if len(tables.decoding):
            kernels.decode(rows, cache, tables, out)
        if len(tables.tiles):
            kernels.prefill(rows, cache, tables, out)
        return out[None]


class AlignedAttention:
    """An `engine.attention.Attention` over a pool in planes; see `engine.kv_alignment`.

    Decoding rows read what they can use. Chunks read everything: their cost is arithmetic.
    """

    def __init__(
        self, pool: AlignedKVPool, tables: Tables, spans: Sequence[Span], *, by_triton: bool
    ) -> None:
        """Take a step; `spans` may be empty if every sequence has one row and Triton is there."""
        self._pool = pool
        self._tables = tables
        self._spans = spans
        self._by_triton = by_triton

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, options: Options) -> Tensor:
        """Attend; see `Attention`."""
        rows, keys, values = (part[0].transpose(0, 1) for part in (q, k, v))
        out = q.new_empty(len(rows), rows.shape[1], values.shape[2])
        self._write(layer, keys, values)
        if self._by_triton and len(self._tables.decoding):
            from engine.kv_alignment_triton import decode_aligned  # noqa: PLC0415 - see _write

            decode_aligned(rows, AlignedLayer(self._pool, layer, options), self._tables, out)
        first = 0
        for span in self._spans:
            part = slice(first, first + span.length)
            if span.length > 1:
                out[part] = self._chunk(layer, rows[part], span, options)
            elif not self._by_triton:
                cache = AlignedLayer(self._pool, layer, options)
                row, _ = attend_aligned(rows[first], cache, span.blocks, span.context)
                out[first] = row.to(out.dtype)
            first = part.stop
        return out[None]

    def _write(self, layer: int, keys: Tensor, values: Tensor) -> None:
        slots = self._tables.slots
        if self._by_triton:
            from engine.kv_alignment_triton import write_aligned  # noqa: PLC0415 - may be absent

            write_aligned(self._pool, layer, slots, keys, values)
        else:
            real = slots >= 0
            self._pool.write(layer, slots[real], keys[real], values[real])

    def _chunk(self, layer: int, rows: Tensor, span: Span, options: Options) -> Tensor:
        used = -(-span.context // self._pool.block_size)
        keys, values = self._pool.read(layer, span.blocks[:used], span.context)
        every = slice(0, span.length)
        group = Group(every, [span.start], span.length, 0, 0, None, rows.device)
        return group.attend(rows, keys.contiguous(), values.contiguous(), options)
