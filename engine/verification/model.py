"""What T knows of a model: its small parts as they are, its matrices as sketches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.native.decoder import NativeWeights
from engine.native.weights import PANEL, PackedWeights
from engine.verification.sketch import HeadSketch, Sketch, Sketcher
from engine.verification.transcript import Matrix


@dataclass(frozen=True)
class Norms:
    """A norm's weights in all layers, float32 [layers, 1, width]; None: the family has none."""

    attention: Tensor | None
    mlp: Tensor | None
    attention_post: Tensor | None
    mlp_post: Tensor | None
    query: Tensor | None
    key: Tensor | None


@dataclass(frozen=True)
class TrustedModel:
    """A model as T has it; members that are also `NativeWeights`'s mean the same.

    Attributes:
        embeddings: bfloat16 [vocabulary, hidden].
        frequencies: float32 [layers, 1, size / 2], radians a position; 0 where nothing turns.
        rotary_scales: float32 [layers, 1, 1].
        windows: positions that a row of each layer sees; 0 for all.
    """

    sketches: Mapping[Matrix, Sketch]
    head: HeadSketch
    norms: Norms
    embeddings: Tensor
    final_norm: Tensor
    frequencies: Tensor
    rotary_scales: Tensor
    windows: tuple[int, ...]
    epsilon: float
    scaling: float
    score_cap: float
    logit_cap: float
    embedding_scale: float
    residual_scale: float
    logit_scale: float
    activation: int
    gated: bool
    centred: bool
    parallel: bool
    whole_norms: bool
    heads: int
    key_heads: int
    size: int

    @property
    def layers(self) -> int:
        """How many layers there are."""
        return len(self.windows)


_SAME = (
    "embeddings", "final_norm", "epsilon", "scaling", "score_cap", "logit_cap", "embedding_scale",
    "residual_scale", "logit_scale", "activation", "gated", "centred", "parallel", "whole_norms",
    "heads",
)  # fmt: skip


def trusted_model(model: NativeWeights, sketcher: Sketcher) -> TrustedModel:
    """Return T's part of a model whose matrices the sketcher has observed."""
    tables = [layer.rotary for layer in model.layers]
    turned = torch.tensor([float(table >= 0) for table in tables])[:, None, None]
    return TrustedModel(
        sketches=sketcher.sketches(),
        head=sketcher.head(unpacked(model.head, model.vocabulary), model.head.bias),
        norms=_norms(model),
        frequencies=model.frequencies[tables][:, None] * turned,
        rotary_scales=torch.where(turned > 0, model.rotary_scales[tables][:, None, None], 1.0),
        windows=tuple(layer.window for layer in model.layers),
        key_heads=model.shape.heads,
        size=model.shape.key_size,
        **{name: getattr(model, name) for name in _SAME},
    )


def observe_packed(model: NativeWeights, sketcher: Sketcher) -> None:
    """Sketch a packed model: where T and U share a memory, and to sketch again under a new key."""
    for index in range(len(model.layers)):
        for matrix in Matrix:
            sketcher.observe(index, matrix, *weights(model, index, matrix))


def weights(model: NativeWeights, layer: int, matrix: Matrix) -> tuple[Tensor, Tensor | None]:
    """Return W [outputs, inputs], float32 and as multiplied with, and its bias; natural order."""
    packed: PackedWeights = getattr(model.layers[layer], matrix.value)
    pairs = matrix is Matrix.GATE_UP and model.gated
    order = natural(model.intermediate) if pairs else torch.arange(_outputs(model, matrix))
    bias = None if packed.bias is None else packed.bias[order]
    return packed.unpack()[order], bias


def unpacked(packed: PackedWeights, outputs: int) -> Tensor:
    """Return a matrix that was filled up to whole panels, in the type that it is stored in."""
    whole = packed.unpack()[:outputs]
    return whole.to(torch.bfloat16) if packed.scales is None else whole


def natural(width: int) -> Tensor:
    """Return where gates, then ups, are among the rows of panels of 16 and 16."""
    half = PANEL // 2
    at = torch.arange(width)
    gates = at // half * PANEL + at % half
    return torch.cat([gates, gates + half])


def _outputs(model: NativeWeights, matrix: Matrix) -> int:
    hidden, size = model.embeddings.shape[1], model.shape.key_size
    widths = {
        Matrix.QKV: (model.heads + 2 * model.shape.heads) * size,
        Matrix.OUTPUT: hidden,
        Matrix.GATE_UP: model.intermediate,
        Matrix.DOWN: hidden,
    }
    return widths[matrix]


def _norms(model: NativeWeights) -> Norms:
    names = (
        "attention_norm", "mlp_norm", "attention_post_norm", "mlp_post_norm", "query_norm",
        "key_norm",
    )  # fmt: skip
    return Norms(*(_together([getattr(layer, name) for layer in model.layers]) for name in names))


def _together(norms: list[Tensor | None]) -> Tensor | None:
    vectors = [norm for norm in norms if norm is not None]
    return torch.stack(vectors)[:, None] if vectors else None
