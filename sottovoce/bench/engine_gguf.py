"""Write a GGUF file from the safetensors of a Qwen2 model: the same weights for llama.cpp.

A program of its own, run by an interpreter that has `gguf` and knows nothing of ours:

    python -I engine_gguf.py FOLDER FILE bf16|q8_0

Matrices become BF16 as they are, or Q8_0 by the package's own rounding; vectors become F32, as in
every published GGUF file. There is no vocabulary: ids go in and logits come out.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from gguf import (  # type: ignore[import-not-found]
    GGMLQuantizationType,
    GGUFWriter,
    LlamaFileType,
    quants,
)

_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
}
_PARTS = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write(folder: Path, file: Path, *, rounded: bool) -> None:
    """Write `file` from the model in `folder`; `rounded` to Q8_0, else BF16."""
    config = json.loads((folder / "config.json").read_text())
    writer = GGUFWriter(str(file), "qwen2")
    _describe(writer, config, rounded=rounded)
    for name, bits in _tensors(folder / "model.safetensors"):
        _add(writer, _renamed(name), bits, rounded=rounded)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _describe(writer: GGUFWriter, config: dict[str, Any], *, rounded: bool) -> None:
    types = LlamaFileType
    writer.add_file_type(types.MOSTLY_Q8_0 if rounded else types.MOSTLY_BF16)
    writer.add_tokenizer_model("none")
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])


def _tensors(file: Path) -> Iterator[tuple[str, np.ndarray[Any, np.dtype[np.uint16]]]]:
    """Yield names and the bits of bfloat16 values, as the safetensors format lays them down."""
    data = np.memmap(file, np.uint8, "r")
    start = 8 + int.from_bytes(data[:8].tobytes(), "little")
    for name, entry in json.loads(data[8:start].tobytes()).items():
        if name != "__metadata__":
            if entry["dtype"] != "BF16":
                raise SystemExit(f"{name} is not in bfloat16")
            first, last = entry["data_offsets"]
            bits = data[start + first : start + last].view(np.uint16)
            yield name, bits.reshape(entry["shape"])


def _renamed(name: str) -> str:
    if name in _NAMES:
        return _NAMES[name]
    _, _, layer, rest = name.split(".", 3)
    part, _, kind = rest.rpartition(".")
    return f"blk.{layer}.{_PARTS[part]}.{kind}"


def _add(
    writer: GGUFWriter,
    name: str,
    bits: np.ndarray[Any, np.dtype[np.uint16]],
    *,
    rounded: bool,
) -> None:
    if bits.ndim > 1 and not rounded:
        writer.add_tensor(name, bits.view(np.uint8), raw_dtype=GGMLQuantizationType.BF16)
        return
    values = (bits.astype(np.uint32) << 16).view(np.float32)
    if bits.ndim == 1:
        writer.add_tensor(name, values)
        return
    kind = GGMLQuantizationType.Q8_0
    writer.add_tensor(name, quants.quantize(values, kind), raw_dtype=kind)


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]), rounded=sys.argv[3] == "q8_0")
