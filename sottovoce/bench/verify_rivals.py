"""What T does in the two older schemes (`engine.verification.baselines`), a layer at a time.

`full_tee` is given the fastest bfloat16 products and attention of this machine. Of `tsdp` what
costs most is done, and what is left out is left out in its favour: its products of attention are
not checked, and of a prompt's scores only the half that is seen crosses, there in float32 and back
in bfloat16.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from engine.verification.linear import judge, residuals
from engine.verification.model import TrustedModel
from engine.verification.transcript import Matrix, Product
from sottovoce.bench.verify_model import Accelerator, Link, Shape, Split
from sottovoce.bench.verify_world import bf16, sdpa, trusted

CROSSINGS = 7
"""Of a layer in `tsdp`."""


def seconds(work: Callable[[], object]) -> float:
    """Return how long something takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


class FullTee:
    """T computes a layer itself."""

    def __init__(self, shape: Shape) -> None:
        """Draw weights."""
        self._shape = shape
        self._weights = {matrix: bf16(*sizes) for matrix, sizes in shape.products.items()}

    def prefill(self, rows: int) -> float:
        """Return the seconds of a layer over a prompt."""
        shape = self._shape
        queries = bf16(1, rows, shape.heads, shape.size)
        keys, values = (bf16(1, rows, shape.key_heads, shape.size) for _ in range(2))
        attention = seconds(lambda: sdpa(queries, keys, values))
        return attention + self._around(rows)

    def decode(self, context: int) -> float:
        """Return the seconds of a layer over one row."""
        shape = self._shape
        query = bf16(1, 1, shape.heads, shape.size)
        keys, values = (bf16(1, context, shape.key_heads, shape.size) for _ in range(2))
        attention = seconds(lambda: sdpa(query, keys, values, causal=False))
        return attention + self._around(1)

    def _around(self, rows: int) -> float:
        """Return the seconds of products and what lies between them."""
        total = seconds(lambda: between(self._shape, rows))
        for matrix, weight in self._weights.items():
            x = bf16(rows, self._shape.products[matrix][1])
            total += seconds(partial(functional.linear, x, weight))
        return total


def between(shape: Shape, rows: int) -> None:
    """Do what lies between the products of a layer: norms, rotations, activation, sums."""
    h = torch.ones(rows, shape.hidden)
    for _ in range(2):
        x = functional.rms_norm(h, (shape.hidden,)).bfloat16()
        h = h + x
    turned = torch.ones(rows, shape.heads + shape.key_heads, shape.size, dtype=torch.bfloat16)
    a, b = turned.chunk(2, dim=-1)
    torch.cat([a * 0.5 - b * 0.5, b * 0.5 + a * 0.5], -1)
    gate, up = torch.ones(2, rows, shape.intermediate, dtype=torch.bfloat16)
    functional.silu(gate).mul_(up)


class Tsdp:
    """U multiplies, and T does everything else, each waiting for the other."""

    def __init__(self, shape: Shape, accelerator: Accelerator, link: Link) -> None:
        """Sketch one layer."""
        self._shape, self._device, self._link = shape, accelerator, link
        self._model = trusted(shape, 1)

    def prefill(self, rows: int) -> Split:
        """Return a layer's split over a prompt."""
        shape = self._shape
        work = self._around(rows) + seconds(lambda: _softmax(shape.heads, rows))
        scores = shape.score_bytes(rows, rows) * 3 / 4
        transfer = self._link.s(rows * self._row_bytes + scores, CROSSINGS)
        return Split(work, transfer, self._device.prefill_s(shape, rows))

    def decode(self, context: int) -> Split:
        """Return a layer's split over one row."""
        shape = self._shape
        scores = torch.ones(shape.heads, context)
        work = self._around(1) + seconds(lambda: scores.softmax(-1).bfloat16())
        size = self._row_bytes + shape.score_bytes(1, context) * 3 / 2
        return Split(work, self._link.s(size, CROSSINGS), self._device.decode_s(shape, context))

    @property
    def _row_bytes(self) -> int:
        """Bytes of one row of a layer that cross, scores left out."""
        return self._shape.opened_bytes + self._shape.kv_bytes

    def _around(self, rows: int) -> float:
        work = seconds(lambda: between(self._shape, rows))
        return work + sum(self._checked(matrix, rows) for matrix in self._shape.products)

    def _checked(self, matrix: Matrix, rows: int) -> float:
        outputs, inputs = self._shape.products[matrix]
        told = Product(bf16(1, rows, outputs), bf16(1, rows, inputs))
        return seconds(lambda: check(self._model, matrix, told))


def check(model: TrustedModel, matrix: Matrix, told: Product) -> Tensor:
    """Judge rows of one product; bool [layers, rows]."""
    sketch = model.sketches[matrix]
    return judge(residuals(told, sketch), sketch.floor).passed


_TILE = 512


def _softmax(heads: int, rows: int) -> None:
    """Do the softmax of a prompt's scores, those that are seen, tile by tile."""
    for stop in range(_TILE, rows + _TILE, _TILE):
        context = min(stop, rows)
        tile = torch.ones(1, min(_TILE, rows), context)
        for _ in range(heads):
            tile.softmax(-1).bfloat16()
