"""Which transformers models the library can compute, and their weights made ready for it.

A model is taken by its class, every module of which is known to be what `src/model.cpp` computes;
sizes that do not fit the kernels are refused. Whatever is taken is compared with the stock model
before it serves (`engine.loader`), like any other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from engine.attention import ShapeProbe
from engine.device import Device
from engine.kv_cache import KVPool, LayerShape
from engine.native import library
from engine.native.device import NativeDevice
from engine.native.library import NativeUnavailable
from engine.native.weights import PackedWeights, pack, pack_pairs

FAMILIES = {
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "Qwen2ForCausalLM",
    "Qwen3ForCausalLM",
    "SeedOssForCausalLM",
    "SmolLM3ForCausalLM",
}
"""Pre-norm decoders with rotary positions, SiLU-gated MLPs and nothing else in between."""
BLOCK_MULTIPLE = 32
"""Blocks of the KV pool are a multiple of this many tokens."""
_MAX_HEAD = 256


@dataclass(frozen=True)
class NativeLayer:
    """One layer's weights, packed; norms are float32 vectors."""

    attention_norm: Tensor
    mlp_norm: Tensor
    query_norm: Tensor | None
    key_norm: Tensor | None
    qkv: PackedWeights
    output: PackedWeights
    gate_up: PackedWeights
    down: PackedWeights
    window: int
    """Positions a row sees, itself included; 0 for all."""
    rotary: bool


@dataclass(frozen=True)
class NativeModel:
    """A decoder ready for the library (`engine.device.Computation`).

    Attributes:
        embeddings: bfloat16 [vocabulary, hidden].
        frequencies: float32 [head size / 2], radians a position.
    """

    layers: tuple[NativeLayer, ...]
    embeddings: Tensor
    final_norm: Tensor
    head: PackedWeights
    frequencies: Tensor
    rotary_scale: float
    epsilon: float
    scaling: float
    heads: int
    shape: LayerShape
    intermediate: int
    vocabulary: int
    threads: int = field(default_factory=torch.get_num_threads)

    def on(self, pool: KVPool, *, max_rows: int, max_logit_rows: int) -> Device:
        """Return a device that computes this model over `pool`."""
        return NativeDevice(self, pool, max_rows=max_rows, max_logit_rows=max_logit_rows)


def objections(model: Any, dtype: torch.dtype, block_size: int) -> Iterator[str]:  # noqa: ANN401
    """Yield what keeps the library from computing a transformers model."""
    config = model.config
    if type(model).__name__ not in FAMILIES:
        yield f"{type(model).__name__} is not of the Llama family"
        return
    if dtype != torch.bfloat16 or model.device.type != "cpu":
        yield "it computes in bfloat16 on a CPU"
    try:
        library.load()
    except NativeUnavailable as error:
        yield str(error)
    size = _head_size(config)
    widths = (config.hidden_size, config.intermediate_size, config.num_attention_heads * size)
    if any(width % 64 for width in widths):
        yield "a width is not a multiple of 64"
    if size % 32 or size > _MAX_HEAD or block_size % BLOCK_MULTIPLE:
        yield "the size of a head or a block does not suit its tiles"
    if config.hidden_act != "silu":
        yield "its MLP is not gated by SiLU"


def convert(model: Any, probe: ShapeProbe, *, int8: bool) -> NativeModel:  # noqa: ANN401
    """Pack a model that `objections` has nothing against. Its own linear weights are let go.

    Args:
        model: the transformers model.
        probe: what its layers ask of their attention.
        int8: whether weights are rounded to 8 bits.
    """
    config = model.config
    decoder = model.model
    rotary = decoder.rotary_emb
    embeddings = decoder.embed_tokens.weight.detach()
    return NativeModel(
        layers=tuple(
            _layer(layer, probe.windows[index] or 0, int8=int8)
            for index, layer in enumerate(decoder.layers)
        ),
        embeddings=embeddings,
        final_norm=_vector(decoder.norm.weight),
        head=pack(model.lm_head.weight, model.lm_head.bias, int8=int8),
        frequencies=_vector(rotary.inv_freq),
        rotary_scale=float(rotary.attention_scaling),
        epsilon=float(config.rms_norm_eps),
        scaling=float(decoder.layers[0].self_attn.scaling),
        heads=config.num_attention_heads,
        shape=probe.shapes[0],
        intermediate=config.intermediate_size,
        vocabulary=len(embeddings),
    )


def _layer(layer: Any, window: int, *, int8: bool) -> NativeLayer:  # noqa: ANN401
    attention, mlp = layer.self_attn, layer.mlp
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    biases = [projection.bias for projection in projections]
    qkv = torch.cat([projection.weight.detach() for projection in projections])
    packed = NativeLayer(
        attention_norm=_vector(layer.input_layernorm.weight),
        mlp_norm=_vector(layer.post_attention_layernorm.weight),
        query_norm=_norm_of(attention, "q_norm"),
        key_norm=_norm_of(attention, "k_norm"),
        qkv=pack(qkv, None if biases[0] is None else torch.cat(biases), int8=int8),
        output=pack(attention.o_proj.weight, attention.o_proj.bias, int8=int8),
        gate_up=pack_pairs(mlp.gate_proj.weight, mlp.up_proj.weight, int8=int8),
        down=pack(mlp.down_proj.weight, mlp.down_proj.bias, int8=int8),
        window=window,
        rotary=bool(getattr(attention, "use_rope", True)),
    )
    for linear in (*projections, attention.o_proj, mlp.gate_proj, mlp.up_proj, mlp.down_proj):
        linear.weight = None  # else a model would be in memory twice
    return packed


def _norm_of(attention: Any, name: str) -> Tensor | None:  # noqa: ANN401
    norm = getattr(attention, name, None)
    return None if norm is None else _vector(norm.weight)


def _vector(weight: Tensor) -> Tensor:
    return weight.detach().float().contiguous()


def _head_size(config: Any) -> int:  # noqa: ANN401
    size = getattr(config, "head_dim", None)
    return int(size or config.hidden_size // config.num_attention_heads)
