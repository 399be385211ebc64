"""Which kernels attend over the pool on this machine.

flashinfer where it can be imported, else Triton kernels of our own, else plain torch, which is
also what tests hold the others against. What was chosen is reported, not guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Protocol

import torch
from torch import Tensor

from engine.attention import Options
from engine.cuda.tables import Tables
from engine.kv_cache import KVPool


@dataclass(frozen=True)
class LayerCache:
    """One layer's K and V, and what the layer asks of its attention."""

    pool: KVPool
    layer: int
    options: Options

    @property
    def keys(self) -> Tensor:
        """[slots, heads, size]."""
        return self.pool.keys[self.layer]

    @property
    def values(self) -> Tensor:
        """[slots, heads, value size]."""
        return self.pool.values[self.layer]


class Kernels(Protocol):
    """Attention over one layer of a paged pool. Nothing here waits for the device.

    q is [rows, query heads, size] and `out` [rows, query heads, value size], of any strides and
    contiguous respectively; each call writes the rows that are its own and no others.
    """

    name: str
    tile_rows: int
    """Rows of a chunk times query heads that share a KV head, in a tile; but one row at least."""

    def prepare(self, tables: Tables, pool: KVPool) -> None:
        """Note a step that has chunks, by its tables on the host; called before its layers."""
        ...

    def write(self, pool: KVPool, layer: int, slots: Tensor, k: Tensor, v: Tensor) -> None:
        """Store k and v, [rows, heads, size] of any strides, at `slots`; nothing at -1."""
        ...

    def decode(self, q: Tensor, cache: LayerCache, tables: Tables, out: Tensor) -> None:
        """Attend the rows of `tables.decoding`."""
        ...

    def prefill(self, q: Tensor, cache: LayerCache, tables: Tables, out: Tensor) -> None:
        """Attend the rows of `tables.tiles`, causally, each over its sequence's whole context."""
        ...

    def zero(self, pool: KVPool, blocks: Sequence[int]) -> None:
        """Overwrite whole blocks with zeros, in every layer."""
        ...


def choose(device: torch.device, *, only: str | None = None) -> Kernels:
    """Return the fastest kernels there are here; `only` names the ones to take instead.

    Raises:
        ImportError: the ones named cannot be imported.
        ValueError: there are none of that name.
    """
    name = only or _best(device)
    if name == "flashinfer":
        from engine.cuda.flashinfer_kernels import FlashinferKernels  # noqa: PLC0415 - often not there

        return FlashinferKernels(device)
    if name == "triton":
        from engine.cuda.triton_kernels import TritonKernels  # noqa: PLC0415 - not in a CPU's torch

        return TritonKernels(device)
    if name == "torch":
        from engine.cuda.oracle import TorchKernels  # noqa: PLC0415 - beside the others

        return TorchKernels()
    raise ValueError("kernels are flashinfer, triton or torch")


def _best(device: torch.device) -> str:
    if device.type != "cuda" or not find_spec("triton"):
        return "torch"
    return "flashinfer" if find_spec("flashinfer") else "triton"
