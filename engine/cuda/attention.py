"""The attention of one step on the device: new rows into the pool, then every row over its own."""

from __future__ import annotations

from torch import Tensor

from engine.attention import Options
from engine.cuda.backend import Kernels
from engine.cuda.tables import Tables
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
