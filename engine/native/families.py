"""What tells one family of decoders from another, as far as the library is concerned.

A family is known by its class in transformers, every module of which was read before it got a line
here. Names are those of the modules in transformers' code.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Family:
    """Where a family's modules are, and in what it differs from Llama. None: there is no such norm.

    Attributes:
        interleaved: rotations turn dimensions 2i and 2i + 1, not i and i + half.
        centred: norms are LayerNorms.
        norm_offset: what a norm adds to its weight.
        parallel: attention and MLP both start from the layer's input; None: the configuration says.
        whole_norms: norms of queries and keys run over all heads together.
    """

    attention_norm: str | None = "input_layernorm"
    attention_post_norm: str | None = None
    mlp_norm: str | None = "post_attention_layernorm"
    mlp_post_norm: str | None = None
    final_norm: str = "norm"
    attention: str = "self_attn"
    output: str = "o_proj"
    up: str = "up_proj"
    down: str = "down_proj"
    gated: bool = True
    interleaved: bool = False
    centred: bool = False
    norm_offset: float = 0.0
    parallel: bool | None = False
    whole_norms: bool = False

    def is_parallel(self, config: Any) -> bool:  # noqa: ANN401 - one class an architecture
        """Whether attention and MLP of a model of this configuration start from one input."""
        return bool(config.use_parallel_residual) if self.parallel is None else self.parallel


_POST_NORM_ONLY = Family(
    attention_norm=None,
    attention_post_norm="post_attention_layernorm",
    mlp_norm=None,
    mlp_post_norm="post_feedforward_layernorm",
)
_SANDWICH = Family(
    attention_post_norm="post_attention_layernorm",
    mlp_norm="pre_feedforward_layernorm",
    mlp_post_norm="post_feedforward_layernorm",
    norm_offset=1.0,
)
_COHERE = Family(mlp_norm=None, interleaved=True, centred=True, parallel=True)

FAMILIES = {
    "LlamaForCausalLM": Family(),
    "MistralForCausalLM": Family(),
    "Qwen2ForCausalLM": Family(),
    "Qwen3ForCausalLM": Family(),
    "SeedOssForCausalLM": Family(),
    "SmolLM3ForCausalLM": Family(),
    "GraniteForCausalLM": Family(),
    "Phi3ForCausalLM": Family(),
    "Ernie4_5ForCausalLM": Family(interleaved=True),
    "HeliumForCausalLM": Family(interleaved=True),
    "GemmaForCausalLM": Family(norm_offset=1.0),
    "Gemma2ForCausalLM": _SANDWICH,
    "Gemma3ForCausalLM": _SANDWICH,
    "Glm4ForCausalLM": Family(
        attention_post_norm="post_self_attn_layernorm",
        mlp_post_norm="post_mlp_layernorm",
        interleaved=True,
    ),
    "Olmo2ForCausalLM": replace(_POST_NORM_ONLY, whole_norms=True),
    "Exaone4ForCausalLM": _POST_NORM_ONLY,
    "CohereForCausalLM": _COHERE,
    "Cohere2ForCausalLM": _COHERE,
    "StableLmForCausalLM": Family(centred=True, parallel=None),
    "Starcoder2ForCausalLM": Family(centred=True, gated=False, up="c_fc", down="c_proj"),
    "NemotronForCausalLM": Family(centred=True, gated=False, norm_offset=1.0),
    "PhiForCausalLM": Family(
        mlp_norm=None,
        final_norm="final_layernorm",
        output="dense",
        up="fc1",
        down="fc2",
        gated=False,
        centred=True,
        parallel=True,
    ),
    "GPTNeoXForCausalLM": Family(
        final_norm="final_layer_norm",
        attention="attention",
        output="dense",
        up="dense_h_to_4h",
        down="dense_4h_to_h",
        gated=False,
        centred=True,
        parallel=None,
    ),
}

SILU, GELU_TANH, GELU, SQUARED_RELU = range(4)

ACTIVATIONS = {
    "SiLU": SILU,
    "SiLUActivation": SILU,
    "GELUTanh": GELU_TANH,
    "PytorchGELUTanh": GELU_TANH,
    "NewGELUActivation": GELU_TANH,
    "GELUActivation": GELU,
    "ReLUSquaredActivation": SQUARED_RELU,
}
"""What the library bends an MLP by, by the class that transformers makes of a configured name."""

UNKNOWN = ("qk_layernorm", "use_qk_norm")
"""Switches of a configuration that change what a family computes, in a way not known here."""
