"""T's part of some layers of a shape, and what U would tell of them: numbers at random.

Time does not depend on the numbers, so sketches of no weights do. Only what decides a path is
right: attention's outputs follow from its queries, keys and values. Verdicts mean nothing here.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod

import torch
from torch import Tensor
from torch.nn import functional

from engine.verification.attention.sketched import SketchedAttention
from engine.verification.model import Norms, TrustedModel
from engine.verification.secrets import Secrets
from engine.verification.sketch import HEAD_WIDTH, WIDTH, HeadSketch, Sketch
from engine.verification.transcript import Matrix, Opening, Product
from engine.verification.verifier import Verifier, Work
from sottovoce.bench.verify_model import Shape

_KEY = "bench"
_DRAWN = (1 << 20) - 3
_TABLE = 64
"""Rows of embeddings: a look-up is as long in a small table."""


def bf16(*size: int) -> Tensor:
    """Return noise of the usual scale; a large tensor repeats itself."""
    count = prod(size)
    drawn = torch.empty(min(count, _DRAWN), dtype=torch.bfloat16).uniform_(-1, 1)
    return drawn.repeat(-(-count // _DRAWN))[:count].view(size)


def trusted(shape: Shape, layers: int) -> TrustedModel:
    """Return T's part of a llama of a shape with so many layers."""
    norms = torch.ones(layers, 1, shape.hidden)
    return TrustedModel(
        sketches={matrix: _sketch(layers, *sizes) for matrix, sizes in shape.products.items()},
        head=HeadSketch(
            torch.ones(HEAD_WIDTH, shape.vocabulary),
            torch.ones(HEAD_WIDTH, shape.hidden, dtype=torch.float64),
            torch.zeros(HEAD_WIDTH, dtype=torch.float64),
        ),
        norms=Norms(norms, norms, None, None, None, None),
        embeddings=bf16(_TABLE, shape.hidden),
        final_norm=torch.ones(shape.hidden),
        frequencies=torch.rand(layers, 1, shape.size // 2),
        rotary_scales=torch.ones(layers, 1, 1),
        windows=(0,) * layers,
        epsilon=1e-5,
        scaling=shape.size**-0.5,
        score_cap=0.0,
        logit_cap=0.0,
        embedding_scale=1.0,
        residual_scale=1.0,
        logit_scale=1.0,
        activation=0,
        gated=True,
        centred=False,
        parallel=False,
        whole_norms=False,
        heads=shape.heads,
        key_heads=shape.key_heads,
        size=shape.size,
    )


def _sketch(layers: int, outputs: int, inputs: int) -> Sketch:
    return Sketch(
        outputs=outputs,
        inputs=inputs,
        secrets=bf16(outputs // 2, WIDTH, 2),
        packed=bf16(layers, inputs, WIDTH, 2),
        spread=torch.ones(outputs),
        bias=torch.zeros(layers, WIDTH),
        floor=torch.ones(layers),
    )


@dataclass
class Told:
    """A `Transcript` of one sequence's rows; what it takes to tell is taken down."""

    shape: Shape
    keys: Tensor
    values: Tensor
    queries: Tensor
    """bfloat16 [layers, rows, heads, size]."""
    attended: Tensor
    """bfloat16 [layers, rows, heads * size]."""
    final: Tensor
    start: int = 0
    seconds: float = field(default=0.0, init=False)

    def open(self, rows: Sequence[int]) -> Opening:
        """See `Transcript`."""
        began = time.perf_counter()
        index = torch.tensor(rows)
        own = len(self.keys), len(rows)
        products = {
            matrix: Product(bf16(*own, outputs), bf16(*own, inputs))
            for matrix, (outputs, inputs) in self.shape.products.items()
        }
        products[Matrix.OUTPUT].inputs[:] = self.attended[:, index]
        opening = Opening(rows, products, self.queries[:, index])
        self.seconds += time.perf_counter() - began
        return opening

    def scores(self, row: int) -> Tensor:
        """See `Transcript`."""
        began = time.perf_counter()
        context = self.start + row + 1
        scores = torch.zeros(len(self.keys), self.shape.heads, context)
        self.seconds += time.perf_counter() - began
        return scores

    def close(self) -> None:
        """See `Transcript`."""


def told(shape: Shape, layers: int, rows: int, start: int = 0, *, right: bool = False) -> Told:
    """Return what U tells of some rows; with attention that is `right` if a check looks closer."""
    keys, values = (bf16(layers, rows, shape.key_heads, shape.size) for _ in range(2))
    queries = bf16(layers, rows, shape.heads, shape.size)
    attended = sdpa(queries, keys, values) if right else queries
    final = bf16(1, shape.hidden)
    return Told(shape, keys, values, queries, attended.flatten(2), final, start)


def sdpa(queries: Tensor, keys: Tensor, values: Tensor, *, causal: bool = True) -> Tensor:
    """Return attention of [layers, rows, heads, size], likewise."""
    attended: Tensor = functional.scaled_dot_product_attention(
        queries.transpose(1, 2),
        keys.transpose(1, 2),
        values.transpose(1, 2),
        is_causal=causal,
        enable_gqa=True,
    )
    return attended.transpose(1, 2)


class Checking:
    """T, checking one sequence of a shape."""

    def __init__(self, shape: Shape, layers: int, mode: str) -> None:
        """Begin a sequence."""
        self._model, self._shape = trusted(shape, layers), shape
        secrets = Secrets()
        attention = SketchedAttention(self._model, secrets)
        self._verifier = Verifier(self._model, attention, mode=mode, secrets=secrets)

    def seconds(self, step: Told) -> float:
        """Check rows; how long T took, less what U took to tell."""
        rows = step.keys.shape[1]
        ids = torch.zeros(rows, dtype=torch.int64)
        work = Work(_KEY, step.start, ids, [rows - 1])
        logits = torch.ones(1, self._shape.vocabulary)
        began = time.perf_counter()
        self._verifier.check([work], step, logits)
        return time.perf_counter() - began - step.seconds
