"""A model of a given shape with random weights: as slow as a real one, and as silent.

The tokenizer is that of the model in the box, its vocabulary filled up with names of numbers, so
that whatever id such a model draws has a text.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file


@dataclass(frozen=True)
class Shape:
    """A decoder of the Qwen2 family."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    vocabulary: int
    context: int = 4096

    @property
    def body(self) -> int:
        """Weights that every row is multiplied with: all layers, without the head."""
        kv_width = self.hidden // self.heads * self.kv_heads
        attention = 2 * self.hidden * (self.hidden + kv_width)
        return self.layers * (attention + 3 * self.hidden * self.intermediate)

    @property
    def head(self) -> int:
        """Weights that a row with logits is multiplied with at the end."""
        return self.vocabulary * self.hidden


HALF_B = Shape(24, 896, 4864, 14, 2, 151_936)
"""Qwen2-0.5B: 494 million weights, 988 MB in bfloat16."""
TINY_10M = Shape(8, 320, 896, 5, 5, 4096)
"""11.5 million weights, 23 MB: what is left of a step is everything but weights."""

_SCALE = 0.02


def write_random_model(folder: Path, shape: Shape, tokenizer_of: Path) -> None:
    """Write a Hugging Face folder of `shape`, with the tokenizer of another folder made larger."""
    folder.mkdir()
    for name in ("tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(tokenizer_of / name, folder / name)
    ends = json.loads((tokenizer_of / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps(ends))
    (folder / "config.json").write_text(json.dumps(_config(shape, ends), indent=2))
    tokenizer = json.loads((tokenizer_of / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps(_grown(tokenizer, shape.vocabulary)))
    save_file(_weights(shape), folder / "model.safetensors", metadata={"format": "pt"})


def _config(shape: Shape, ends: dict[str, object]) -> dict[str, object]:
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": shape.context,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": 1_000_000.0,
        "tie_word_embeddings": True,
        "use_sliding_window": False,
        "bos_token_id": ends.get("bos_token_id"),
        "eos_token_id": ends.get("eos_token_id"),
        "dtype": "bfloat16",
    }


def _grown(tokenizer: dict[str, Any], size: int) -> dict[str, Any]:
    vocabulary = tokenizer["model"]["vocab"]
    taken = {*vocabulary.values(), *(token["id"] for token in tokenizer["added_tokens"])}
    free = (i for i in range(size) if i not in taken)
    vocabulary.update({f"\u0120n{i}": i for i in free})  # U+0120 is byte-level BPE's space
    return tokenizer


def _weights(shape: Shape) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)

    def draw(*size: int) -> torch.Tensor:
        # Uniform noise of the usual scale; its distribution makes no step faster or slower.
        values = torch.empty(size, dtype=torch.bfloat16)
        return values.uniform_(-_SCALE, _SCALE, generator=generator)

    hidden, inner = shape.hidden, shape.intermediate
    kv_width = hidden // shape.heads * shape.kv_heads
    weights = {
        "model.embed_tokens.weight": draw(shape.vocabulary, hidden),
        "model.norm.weight": torch.ones(hidden, dtype=torch.bfloat16),
    }
    for layer in range(shape.layers):
        at = f"model.layers.{layer}."
        for name, width in (("q", hidden), ("k", kv_width), ("v", kv_width)):
            weights[f"{at}self_attn.{name}_proj.weight"] = draw(width, hidden)
            weights[f"{at}self_attn.{name}_proj.bias"] = draw(width)
        weights[f"{at}self_attn.o_proj.weight"] = draw(hidden, hidden)
        weights[f"{at}mlp.gate_proj.weight"] = draw(inner, hidden)
        weights[f"{at}mlp.up_proj.weight"] = draw(inner, hidden)
        weights[f"{at}mlp.down_proj.weight"] = draw(hidden, inner)
        for name in ("input_layernorm", "post_attention_layernorm"):
            weights[f"{at}{name}.weight"] = torch.ones(hidden, dtype=torch.bfloat16)
    return weights
