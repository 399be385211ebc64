"""From a configuration and a loaded model to an engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine.blocks import BlockAllocator
from engine.config import EngineConfig
from engine.core import Engine
from engine.errors import EngineError
from engine.kv_cache import KVPool
from engine.loader import LoadedModel
from engine.scheduler import Scheduler
from engine.slot import SlotGeometry
from engine.trusted import TrustedSide


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
    config: EngineConfig, loaded: LoadedModel, changed: Callable[[Any], None]
) -> tuple[Engine, SlotGeometry]:
    """Build an engine around a loaded model, and say what slots it takes.

    The context shrinks to what the pool holds, so that a sequence alone can always finish.
    """
    blocks = pool_blocks(config, loaded)
    geometry = SlotGeometry(
        max_model_len=min(loaded.max_model_len, blocks * config.block_size),
        vocab_size=loaded.vocab_size,
        max_logprobs=config.max_logprobs,
    )
    pool = KVPool(
        loaded.shapes,
        blocks=blocks,
        block_size=config.block_size,
        dtype=loaded.dtype,
        device=loaded.device,
    )
    max_rows = config.max_sequences + config.max_batch_tokens
    device = loaded.computation.on(
        pool,
        max_rows=max_rows,
        max_logit_rows=config.max_sequences + config.prompt_logit_rows,
    )
    trusted = TrustedSide(
        geometry,
        max_sequences=config.max_sequences,
        max_rows=max_rows,
        pinned=loaded.device.type != "cpu",
    )
    scheduler = Scheduler(
        BlockAllocator(blocks),
        device.zero_blocks,
        block_size=config.block_size,
        max_sequences=config.max_sequences,
        max_batch_tokens=config.max_batch_tokens,
        max_mixed_tokens=config.max_mixed_tokens,
        prompt_logit_rows=config.prompt_logit_rows,
    )
    return Engine(device, trusted, scheduler, changed), geometry
