"""The shape of the model: a Llama of four layers, and one training step's loss."""

from __future__ import annotations

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


def config(tokenizer: Tokenizer) -> Any:  # noqa: ANN401 - transformers is untyped here
    """Return the configuration: 3.3 million parameters, two query heads to a key-value head."""
    return LlamaConfig(
        vocab_size=VOCABULARY_SIZE,
        hidden_size=256,
        intermediate_size=640,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.token_to_id(BEGIN),
        eos_token_id=tokenizer.token_to_id(END),
        pad_token_id=tokenizer.token_to_id(PAD),
        attention_bias=False,
        use_cache=True,
    )


def create(tokenizer: Tokenizer, seed: int) -> Any:  # noqa: ANN401
    """Return the untrained model of `seed`, in fp32."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config(tokenizer))
    model.config._attn_implementation = "sdpa"  # noqa: SLF001 - transformers' own switch
    return model


def loss(model: Any, body: Any, batch: Batch) -> Tensor:  # noqa: ANN401
    """Return the mean cross-entropy of the trained tokens of `batch`.

    `body` is `model.model` or its compiled form. Only trained positions meet the output layer.
    """
    wanted = batch.targets != IGNORED
    with torch.autocast("cpu", torch.bfloat16):
        hidden = body(
            input_ids=batch.ids,
            attention_mask=batch.mask,
            position_ids=batch.positions,
            use_cache=False,
        ).last_hidden_state
        logits = model.lm_head(hidden[wanted])
    return functional.cross_entropy(logits.float(), batch.targets[wanted])
