"""Prefill by flashinfer, where it is installed; decoding stays with our own kernels.

flashinfer plans a batch on the host before it runs, so a graph cannot hold it, and its kernels know
no sinks. Chunks of layers without sinks are its business; everything else is `TritonKernels`'.
"""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import flashinfer
import torch
from torch import Tensor

from engine.attention import Options
from engine.cuda.backend import LayerCache
from engine.cuda.tables import Tables
from engine.cuda.triton_kernels import TritonKernels
from engine.kv_cache import KVPool

_WORKSPACE = 256 << 20


@dataclass(frozen=True)
class Chunks:
    """The sequences of a step that have several rows, as flashinfer wants to hear of them.

    int32 on the host, but for `rows`: which of the step's rows they are, on the device.
    """

    borders: Tensor
    page_borders: Tensor
    pages: Tensor
    last_page_lengths: Tensor
    rows: Tensor


def chunks_of(tables: Tables, block_size: int) -> Chunks:
    """Return the chunks of a step's tables, which are on the host."""
    borders, contexts = tables.borders, tables.contexts
    lengths = borders.diff()
    chosen = (lengths > 1).nonzero()[:, 0].tolist()
    counts = [-(-int(contexts[at]) // block_size) for at in chosen]
    pages = [tables.blocks[:count, at] for at, count in zip(chosen, counts, strict=True)]
    rows = [torch.arange(int(borders[at]), int(borders[at + 1])) for at in chosen]
    return Chunks(
        borders=_sums(lengths[chosen]),
        page_borders=_sums(torch.tensor(counts)),
        pages=torch.cat(pages).int(),
        last_page_lengths=((contexts[chosen] - 1) % block_size + 1).int(),
        rows=torch.cat(rows),
    )


class FlashinferKernels(TritonKernels):
    """See `engine.cuda.backend.Kernels`."""

    name = "flashinfer and triton"

    def __init__(self, device: torch.device, *, programs: int | None = None) -> None:
        super().__init__(device, programs=programs)
        self._workspace = torch.empty(_WORKSPACE, dtype=torch.uint8, device=device)
        self._chunks: Chunks | None = None
        self._plans: dict[tuple[object, ...], Any] = {}

    def prepare(self, tables: Tables, pool: KVPool) -> None:
        """Note the step's chunks; plans of the step before are void."""
        chunks = chunks_of(tables, pool.block_size)
        rows = chunks.rows.to(self._device)
        self._chunks = Chunks(
            chunks.borders, chunks.page_borders, chunks.pages, chunks.last_page_lengths, rows
        )
        self._plans.clear()

    def prefill(self, q: Tensor, cache: LayerCache, tables: Tables, out: Tensor) -> None:
        """See `Kernels`."""
        pool, options = cache.pool, cache.options
        if options.sinks is not None or self._chunks is None:
            super().prefill(q, cache, tables, out)
            return
        keys, values = (
            part.view(pool.blocks, pool.block_size, *part.shape[1:])
            for part in (cache.keys, cache.values)
        )
        rows = self._chunks.rows
        plan = self._plan(q, keys, values, options)
        out[rows] = plan.run(q[rows].contiguous(), (keys, values))

    def _plan(self, q: Tensor, keys: Tensor, values: Tensor, options: Options) -> Any:  # noqa: ANN401
        """Return the plan for layers like this one; made once a step."""
        assert self._chunks is not None  # noqa: S101 - the only caller has looked
        shape = (q.shape[1], keys.shape[2], keys.shape[3], values.shape[3])
        kind = (*shape, options.scaling, options.window, options.softcap)
        if kind not in self._plans:
            chunks = self._chunks
            plan = flashinfer.BatchPrefillWithPagedKVCacheWrapper(self._workspace, "NHD")
            plan.plan(
                chunks.borders,
                chunks.page_borders,
                chunks.pages.to(self._device),
                chunks.last_page_lengths,
                shape[0],
                shape[1],
                shape[2],
                keys.shape[1],
                head_dim_vo=shape[3],
                causal=True,
                sm_scale=options.scaling,
                window_left=-1 if options.window is None else options.window - 1,
                logits_soft_cap=options.softcap,
                q_data_type=q.dtype,
                kv_data_type=keys.dtype,
            )
            self._plans[kind] = plan
        return self._plans[kind]


def _sums(lengths: Tensor) -> Tensor:
    return torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]).int()
