"""The attention of one step on the device: new rows into the pool, then every row over its own."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from engine.attention import Group, Options, Span
from engine.cuda.backend import Kernels
from engine.cuda.tables import Tables
from engine.kv_alignment import AlignedKVPool, attend_aligned
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
        if len(tables.decoding):
            kernels.decode(rows, pool, layer, tables, options, out)
        if len(tables.tiles):
            kernels.prefill(rows, pool, layer, tables, options, out)
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
        if self._by_triton:
            self._by_kernels(layer, rows, keys, values, options, out)
        else:
            real = self._tables.slots >= 0
            self._pool.write(layer, self._tables.slots[real], keys[real], values[real])
        first = 0
        for span in self._spans:
            part = slice(first, first + span.length)
            if span.length > 1:
                out[part] = self._chunk(layer, rows[part], span, options)
            elif not self._by_triton:
                row, _ = attend_aligned(
                    rows[first], self._pool, layer, span.blocks, span.context, options
                )
                out[first] = row.to(out.dtype)
            first += span.length
        return out[None]

    def _by_kernels(
        self, layer: int, rows: Tensor, keys: Tensor, values: Tensor, options: Options, out: Tensor
    ) -> None:
        from engine.kv_alignment_triton import (  # noqa: PLC0415 - not in a CPU's torch
            decode_aligned,
            write_aligned,
        )

        write_aligned(self._pool, layer, self._tables.slots, keys, values)
        if len(self._tables.decoding):
            decode_aligned(rows, self._pool, layer, self._tables, options, out)

    def _chunk(self, layer: int, rows: Tensor, span: Span, options: Options) -> Tensor:
        used = -(-span.context // self._pool.block_size)
        keys, values = self._pool.read(layer, span.blocks[:used], span.context)
        every = slice(0, span.length)
        group = Group(every, [span.start], span.length, 0, 0, None, rows.device)
        return group.attend(rows, keys.contiguous(), values.contiguous(), options)
