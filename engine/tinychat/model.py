"""The shapes of the model and of its draft, both Llamas, and one training step's loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from engine.tinychat.chat import BEGIN, END, PAD
from engine.tinychat.packing import IGNORED, Batch
from engine.tinychat.tokenizer import VOCABULARY_SIZE

CONTEXT = 2048


@dataclass(frozen=True)
class Size:
    """What a model is made of; two query heads share a key-value head."""

    hidden: int
    layers: int
    heads: int
    inner: int


MAIN = Size(hidden=256, layers=4, heads=4, inner=640)
DRAFT = Size(hidden=128, layers=2, heads=2, inner=384)
_HEAD = 64


def config(tokenizer: Tokenizer, size: Size) -> Any:  # noqa: ANN401 - transformers is untyped here
    """Return the configuration of a Llama of `size`."""
    return LlamaConfig(
        vocab_size=VOCABULARY_SIZE,
        hidden_size=size.hidden,
        intermediate_size=size.inner,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads // 2,
        head_dim=_HEAD,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.token_to_id(BEGIN),
        eos_token_id=tokenizer.token_to_id(END),
        pad_token_id=tokenizer.token_to_id(PAD),
        attention_bias=False,
        use_cache=True,
    )


def create(tokenizer: Tokenizer, size: Size, seed: int) -> Any:  # noqa: ANN401
    """Return the untrained model of `seed`, in fp32."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config(tokenizer, size))
    model.config._attn_implementation = "sdpa"  # noqa: SLF001 - transformers' own switch
    return model


def logits(model: Any, body: Any, batch: Batch) -> Tensor:  # noqa: ANN401
    """Return the logits `[trained, vocabulary]`, fp32, of the trained positions of `batch`.

    `body` is `model.model` or its compiled form. Only trained positions meet the output layer.
    """
    with torch.autocast(batch.ids.device.type, torch.bfloat16):
        hidden = body(
            input_ids=batch.ids,
            attention_mask=batch.mask,
            position_ids=batch.positions,
            use_cache=False,
        ).last_hidden_state
        found: Tensor = model.lm_head(hidden[batch.targets != IGNORED])
    return found.float()


def loss(model: Any, body: Any, batch: Batch) -> Tensor:  # noqa: ANN401
    """Return the mean cross-entropy of the trained tokens of `batch`."""
    wanted = batch.targets[batch.targets != IGNORED]
    return functional.cross_entropy(logits(model, body, batch), wanted)


def distance(model: Any, body: Any, teacher: Any, batch: Batch) -> Tensor:  # noqa: ANN401
    """Return the mean cross-entropy against the teacher's distribution: how a draft learns."""
    with torch.no_grad():
        taught = logits(teacher, teacher.model, batch).softmax(-1)
    return functional.cross_entropy(logits(model, body, batch), taught)
