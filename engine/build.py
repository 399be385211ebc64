"""From a configuration and a loaded model to an engine."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from engine.blocks import BlockAllocator
from engine.combinations import check_combination
from engine.config import EngineConfig
from engine.core import Engine
from engine.device import Computation, Device
from engine.errors import EngineError, ModelRefused
from engine.kv_alignment import AlignedKVPool
from engine.kv_cache import KVPool
from engine.loader import LoadedModel, load
from engine.native.model import NativeModel
from engine.offload.assemble import offload_of
from engine.scheduler import Scheduler
from engine.slot import SlotGeometry
from engine.speculative import MAX_EXTRA
from engine.speculative_draft import Draft, Pair, draft_config
from engine.speculative_ngram import Ngrams
from engine.speculative_steps import Speculation, measure
from engine.trusted import TrustedSide
from engine.verification.assemble import SHARED, gate_of


def pool_blocks(config: EngineConfig, loaded: LoadedModel) -> int:
    """Return how many blocks the KV pool gets; see `EngineConfig`.

    Raises:
        EngineError: the configuration leaves less than one block.
    """
    full = -(-loaded.max_model_len // config.block_size)
    if config.kv_blocks is not None:
        if config.kv_blocks < 1:
            raise EngineError("kv_blocks must be positive")
        return config.kv_blocks
    token = sum(shape.width for shape in loaded.shapes) * loaded.dtype.itemsize
    affordable = config.kv_bytes // (token * config.block_size)
    return max(full, min(full * config.max_sequences, affordable))


def build(
    config: EngineConfig,
    loaded: LoadedModel,
    changed: Callable[[Any], None],
    alarm: Callable[[], None] | None = None,
) -> tuple[Engine, SlotGeometry]:
    """Build an engine around a loaded model, and say what slots it takes.

    The context shrinks to what the pool holds, so that a sequence alone can always finish.

    Args:
        config: what is asked for.
        loaded: the model.
        changed: called with a slot's key whenever its capsule should look.
        alarm: called, once, when a step of the device did not verify.

    Raises:
        EngineError: the configuration asks for what cannot be had.
    """
    check_combination(config)
    blocks = pool_blocks(config, loaded)
    geometry = SlotGeometry(
        max_model_len=min(loaded.max_model_len, blocks * config.block_size),
        vocab_size=loaded.vocab_size,
        max_logprobs=config.max_logprobs,
    )
    # Only a GPU's device is given the pool in planes, and it takes both.
    pool_type: Any = AlignedKVPool if config.kv_truncation else KVPool
    pool = pool_type(
        loaded.shapes,
        blocks=blocks,
        block_size=config.block_size,
        dtype=loaded.dtype,
        device=loaded.device,
    )
    gate = gate_of(config, loaded, alarm)
    extra = 0 if config.speculation == "none" else MAX_EXTRA
    max_rows = config.max_sequences + config.max_batch_tokens + extra
    logit_rows = config.max_sequences + config.prompt_logit_rows + extra
    computation = _telling(config, loaded.computation)
    device = computation.on(pool, max_rows=max_rows, max_logit_rows=logit_rows)
    offload = offload_of(config, pool)
    trusted = TrustedSide(
        geometry,
        max_sequences=config.max_sequences,
        max_rows=max_rows,
        pinned=loaded.device.type != "cpu",
        gate=gate,
        crossings=None if offload is None else offload.crossings,
    )
    device, speculation = _speculation(config, loaded, device, trusted, blocks)
    scheduler = Scheduler(
        BlockAllocator(blocks),
        device.zero_blocks,
        block_size=config.block_size,
        max_sequences=config.max_sequences,
        max_batch_tokens=config.max_batch_tokens,
        max_mixed_tokens=min(config.max_mixed_tokens, config.max_batch_tokens),
        prompt_logit_rows=config.prompt_logit_rows,
        horizon=_horizon(loaded.computation),
        share_within=None if gate is None else SHARED,
        outside=offload,
    )
    return Engine(device, trusted, scheduler, changed, speculation, gate=gate), geometry


def _horizon(model: Computation) -> float:
    """Return the context at which attention costs as much as the products; see `Scheduler`.

    Only of models whose products are known. Attention is counted twice: its kernels reach half the
    speed of products.
    """
    if not isinstance(model, NativeModel):
        return math.inf
    layer = model.layers[0]
    products = sum(
        each.values.numel() for each in (layer.qkv, layer.output, layer.gate_up, layer.down)
    )
    return products / (2 * 2 * model.heads * model.shape.key_size)


def _telling(config: EngineConfig, model: Computation) -> Computation:
    """Return the model, which tells how it computes where that is to be verified.

    Raises:
        EngineError: it cannot tell.
    """
    if config.verification == "none":
        return model
    if not isinstance(model, NativeModel):
        raise EngineError(
            "this model is not computed by the compiled kernels, so it cannot be verified; "
            "--verification none serves it all the same, and the receipt says so"
        )
    return model.telling


def _speculation(
    config: EngineConfig, loaded: LoadedModel, device: Device, trusted: TrustedSide, blocks: int
) -> tuple[Device, Speculation | None]:
    """Return the engine's device, with the draft's if there is one, and what proposes ids.

    Raises:
        ModelRefused: the draft model is not served, or has another vocabulary.
    """
    if config.speculation == "none":
        return device, None
    slots = blocks * config.block_size
    timed = partial(
        measure, vocab_size=loaded.vocab_size, slots=slots, block_size=config.block_size
    )
    costs = timed(device)
    if config.speculation == "ngram":
        return device, Speculation(Ngrams(trusted), costs, block_size=config.block_size)
    draft = load(draft_config(config))
    if draft.vocab_size != loaded.vocab_size:
        raise ModelRefused("the draft model's rows of logits have another width")
    drafting = _draft_device(config, draft, blocks)
    proposer = Draft(
        drafting, trusted, vocab_size=draft.vocab_size, catch_up=config.max_batch_tokens
    )
    own = timed(drafting)
    return Pair(device, drafting), Speculation(proposer, costs, own, block_size=config.block_size)


def _draft_device(config: EngineConfig, draft: LoadedModel, blocks: int) -> Device:
    """Return the draft model's device, over a pool with the blocks of the large model's."""
    pool = KVPool(
        draft.shapes,
        blocks=blocks,
        block_size=config.block_size,
        dtype=draft.dtype,
        device=draft.device,
    )
    rows = max(config.max_batch_tokens, config.max_sequences, MAX_EXTRA)
    return draft.computation.on(
        pool, max_rows=rows, max_logit_rows=max(config.max_sequences, MAX_EXTRA)
    )
