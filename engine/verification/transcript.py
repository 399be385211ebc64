"""What U says about a step, for T to check: products with their inputs, keys, values, scores.

U ships the keys and values of all rows of a step, then lays open the rows that T names: for every
layer and matrix the product's output Y as U went on with it, and the input X that U multiplied. K
and V commit U: whatever it did to a row before, the row's K and V of the next layer follow from
it, and they were shipped before T named its rows; what follows the last layer's K and V matters to
the rows that logits are taken from, and those are always laid open.

Everything here is a claim. Tensors are in host memory, [layers, rows, ...], and belong to the
transcript: they are valid until `close`, which zeroes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from torch import Tensor


class Matrix(StrEnum):
    """The products of a decoder layer, siblings joined."""

    QKV = "qkv"
    """hidden -> (heads + 2 key heads) * size: queries, keys, values."""
    OUTPUT = "output"
    """heads * size -> hidden."""
    GATE_UP = "gate_up"
    """hidden -> 2 * intermediate: all gates, then all ups; ungated: -> intermediate."""
    DOWN = "down"
    """intermediate -> hidden."""


@dataclass(frozen=True)
class Product:
    """Rows of one product and of what was multiplied, read where they lie.

    Attributes:
        outputs: bfloat16 [layers, rows, outputs]; the numbers of a row lie side by side.
        inputs: bfloat16 [layers, rows, inputs]; likewise.
    """

    outputs: Tensor
    inputs: Tensor

    def rows(self, which: slice | Tensor) -> Product:
        """Return some of the rows."""
        return Product(self.outputs[:, which], self.inputs[:, which])


@dataclass(frozen=True)
class Opening:
    """Rows of a step laid open."""

    rows: Sequence[int]
    """Which rows of the step."""
    products: Mapping[Matrix, Product]
    queries: Tensor
    """bfloat16 [layers, rows, heads, size]: normalised and rotated, as scored."""


class Transcript(Protocol):
    """One step, told by U."""

    @property
    def keys(self) -> Tensor:
        """bfloat16 [layers, rows, key heads, size]: of all rows, as written to the cache."""
        ...

    @property
    def values(self) -> Tensor:
        """bfloat16 [layers, rows, key heads, size]."""
        ...

    @property
    def final(self) -> Tensor:
        """bfloat16 [wanted, hidden]: what the head multiplied, where logits were asked for."""
        ...

    def open(self, rows: Sequence[int]) -> Opening:
        """Lay rows open; may be asked once a step."""
        ...

    def scores(self, row: int) -> Tensor:
        """Return a decoding row's scores, float32 [layers, heads, context].

        Scaled, before any cap, before the softmax; positions in order from 0. What a windowed
        layer does not see is undefined.
        """
        ...

    def close(self) -> None:
        """Zero it and give its memory back."""
        ...
