"""Small random models of the native families, with T's part and an honest or lying device."""

import functools
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import torch
import transformers

from engine.attention import Span
from engine.config import EngineConfig
from engine.device import StepInput
from engine.kv_cache import KVPool
from engine.loader import load
from engine.verification.model import observe_packed, trusted_model, weights
from engine.verification.plain_decoder import HONEST, PlainDecoder, Products
from engine.verification.secrets import Secrets
from engine.verification.sketch import Sketcher
from engine.verification.transcript import Matrix

VOCAB = 331
BLOCK = 32
_SHAPE = {
    "hidden_size": 192,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "intermediate_size": 320,
    "vocab_size": VOCAB,
    "max_position_embeddings": 4096,
    "head_dim": 32,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "initializer_range": 0.08,
}
_WINDOWS = {
    "sliding_window": 20,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
}
_SPECIAL = {
    "cohere2": _WINDOWS,
    "gemma2": {**_WINDOWS, "attn_logit_softcapping": 5.0, "query_pre_attn_scalar": 32},
    "gemma3_text": {**_WINDOWS, "query_pre_attn_scalar": 32},
    "granite": {
        "embedding_multiplier": 3.0, "residual_multiplier": 0.4, "attention_multiplier": 0.1,
        "logits_scaling": 4.0,
    },
    "phi": {"num_key_value_heads": 6},
    "gpt_neox": {"num_key_value_heads": 6},
}  # fmt: skip
FAMILIES = [
    "llama", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "olmo2", "cohere", "cohere2",
    "phi", "glm4", "granite", "starcoder2", "nemotron", "gpt_neox", "stablelm",
]  # fmt: skip


@functools.cache
def native_model(name, weights="as stored"):
    """Return a random model of a family, packed."""
    torch.manual_seed(7)
    config = transformers.CONFIG_MAPPING[name](**{**_SHAPE, **_SPECIAL.get(name, {})})
    model = transformers.AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    with tempfile.TemporaryDirectory() as folder:
        model.to(torch.bfloat16).save_pretrained(folder)
        return load(EngineConfig(model=Path(folder), weights=weights)).computation


@functools.cache
def trusted(name, weights="as stored"):
    """Return T's part of a model."""
    model = native_model(name, weights)
    sketcher = Sketcher(Secrets(bytes), int8=weights == "int8")
    observe_packed(model, sketcher)
    return trusted_model(model, sketcher)


@functools.cache
def products(name):
    """Return a model's matrices, for the plain decoder."""
    model = native_model(name)
    found = Products(model.head.unpack()[: model.vocabulary].bfloat16())
    if model.head.bias is not None:
        found.head_bias = model.head.bias[: model.vocabulary]
    for layer in range(len(model.layers)):
        for matrix in Matrix:
            weight, bias = weights(model, layer, matrix)
            found.observe(layer, matrix, weight.bfloat16(), bias)
    return found


def _pool(model, blocks):
    return KVPool(
        [model.shape] * len(model.layers),
        blocks=blocks,
        block_size=BLOCK,
        dtype=torch.bfloat16,
        device=torch.device("cpu"),
    )


@dataclass
class Plain:
    """A device in plain torch, with a pool of its own."""

    name: str
    hands: object = HONEST
    blocks: int = 16
    pool: KVPool = field(init=False)

    def __post_init__(self):
        self.pool = _pool(native_model(self.name), self.blocks)

    def step(self, ids, spans, logit_rows):
        """Return logits and transcript of ids, int64 [rows]."""
        model = native_model(self.name)
        decoder = PlainDecoder(model, products(self.name), self.pool, self.hands)
        return decoder.step(StepInput(ids, spans, logit_rows))


def prompt(length, seed=3):
    """Return random ids, int64 [length]."""
    return torch.randint(0, VOCAB, (length,), generator=torch.Generator().manual_seed(seed))


def span(start, length, blocks=tuple(range(8))):
    """Return a span over some blocks."""
    return Span(blocks[: (start + length + BLOCK - 1) // BLOCK], start, length)


@dataclass
class Native:
    """The compiled device, which transcribes."""

    name: str
    weights: str = "as stored"
    blocks: int = 16

    def __post_init__(self):
        self.model = native_model(self.name, self.weights)
        self.pool = _pool(self.model, self.blocks)
        self._device = self.model.on(self.pool, max_rows=256, max_logit_rows=64, transcribe=True)

    def step(self, ids, spans, logit_rows):
        """Return logits and transcript of ids; of the last step both are void."""
        output = self._device.step(StepInput(ids, spans, logit_rows))
        return output.logits.clone(), output.transcript
