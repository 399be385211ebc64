"""What the served model makes of a prompt: its ids, and its rows of the KV cache."""

import torch
from tokenizers import Tokenizer

from engine.attention import Span
from engine.config import EngineConfig
from engine.device import StepInput
from engine.kv_cache import KVPool
from engine.loader import load
from sottovoce.models import choose_model


class Model:
    """The served model here, to know ids and KV rows from."""

    def __init__(self):
        folder = choose_model(None, None).folder
        loaded = load(EngineConfig(model=folder))
        self.pool = KVPool(
            loaded.shapes, blocks=8, block_size=64, dtype=loaded.dtype, device=loaded.device
        )
        self.device = loaded.computation.on(self.pool, max_rows=512, max_logit_rows=4)
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def add_prompt(self, needles, prompt):
        """Add what the engine makes of a prompt of `COMPLETIONS`."""
        ids = self.tokenizer.encode(prompt).ids
        span = Span(range(8), 0, len(ids))
        self.device.step(StepInput(torch.tensor(ids), [span], [len(ids) - 1]))
        self.device.finish_step()
        needles.ids(prompt[:12], ids)
        for layer, (keys, values) in enumerate(zip(self.pool.keys, self.pool.values, strict=True)):
            needles.rows(f"{prompt[:12]}: K of layer {layer}", keys[: len(ids)])
            needles.rows(f"{prompt[:12]}: V of layer {layer}", values[: len(ids)])
