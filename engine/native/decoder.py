"""A decoder as the library takes it, packed. `engine.native.model` makes it."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from engine.kv_cache import LayerShape
from engine.native.weights import PackedWeights


@dataclass(frozen=True)
class NativeLayer:
    """One layer's weights, packed; norms are float32 vectors, None where the layer has none."""

    attention_norm: Tensor | None
    mlp_norm: Tensor | None
    attention_post_norm: Tensor | None
    mlp_post_norm: Tensor | None
    query_norm: Tensor | None
    key_norm: Tensor | None
    qkv: PackedWeights
    output: PackedWeights
    gate_up: PackedWeights
    down: PackedWeights
    window: int
    """Positions a row sees, itself included; 0 for all."""
    rotary: int
    """Which row of `NativeWeights.frequencies` rotates it; -1 for none."""


@dataclass(frozen=True)
class NativeWeights:
    """A decoder's weights and numbers, as the library takes them.

    Attributes:
        embeddings: bfloat16 [vocabulary, hidden].
        frequencies: float32 [tables, head size / 2], radians a position; 0 where nothing turns.
        rotary_scales: float32 [tables], of cosines and sines.
        score_cap: scores become cap * tanh(score / cap); 0 for none. `logit_cap` likewise.
    """

    layers: tuple[NativeLayer, ...]
    embeddings: Tensor
    final_norm: Tensor
    head: PackedWeights
    frequencies: Tensor
    rotary_scales: Tensor
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
    shape: LayerShape
    intermediate: int
    vocabulary: int
    threads: int = field(default_factory=torch.get_num_threads)
