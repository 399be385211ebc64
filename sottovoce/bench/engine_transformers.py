"""The same weights through transformers: `generate`, a plain forward, and `generate_batch`."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, ContinuousBatchingConfig, GenerationConfig

from sottovoce.bench.engine_rounds import BenchFailed, Prompts, Run, Way

_PAGE = 256
"""Tokens of a page of `generate_batch`'s cache: its own default."""


def load(folder: Path) -> Any:  # noqa: ANN401 - one class an architecture
    """Load a model at its best on a CPU: bfloat16, torch's fused attention."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    # It has a logger of its own, and warns of what is wanted here.
    logging.getLogger("ContinuousBatchingLogger").setLevel(logging.CRITICAL)
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.bfloat16, attn_implementation="sdpa", local_files_only=True
    )
    # Without an id that ends a text: every run has the length it was asked for.
    model.generation_config = GenerationConfig(do_sample=False, pad_token_id=0)
    return model.eval().requires_grad_(False)


class Generate:
    """`model.generate`, greedy; prompts by one forward of the model, which is faster still."""

    def __init__(self, model: Any) -> None:  # noqa: ANN401
        self._model = model

    def decoders(self, prompts: Prompts, count: int) -> Mapping[str, Way]:
        """See `Decoder`; the kinds of cache that `generate` offers a CPU."""
        ids = torch.tensor(prompts)
        return {
            "dynamic cache": lambda: self._decode(ids, count, "dynamic"),
            "static cache": lambda: self._decode(ids, count, "static"),
        }

    def prefills(self, prompt: Sequence[int]) -> Mapping[str, Way]:
        """See `Prefiller`."""
        ids = torch.tensor([prompt])
        return {"": lambda: self._prefill(ids)}

    @torch.inference_mode()
    def _decode(self, ids: torch.Tensor, count: int, cache: str) -> Run:
        clock = _Clock()
        output = self._model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=count + 1,
            cache_implementation=cache,
            disable_compile=True,
            stopping_criteria=[clock],
        )
        if len(clock.times) != count + 1:
            raise BenchFailed("generate did not draw one id a step")
        seconds = clock.times[-1] - clock.times[0]
        return Run(len(ids) * count / seconds, tuple(output[:, ids.shape[1]].tolist()))

    @torch.inference_mode()
    def _prefill(self, ids: torch.Tensor) -> Run:
        started = time.perf_counter()
        logits = self._model(input_ids=ids, use_cache=True, logits_to_keep=1).logits
        first = int(logits[0, -1].argmax())
        return Run(ids.shape[1] / (time.perf_counter() - started), (first,))


class _Clock:
    """Notes when each id is there; `generate` asks after every step whether to stop."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, ids: torch.Tensor, _scores: object, **_: object) -> torch.Tensor:
        self.times.append(time.perf_counter())
        return torch.zeros(len(ids), dtype=torch.bool)


class GenerateBatch:
    """`model.generate_batch`: transformers' continuous batching over a paged cache."""

    def __init__(self, model: Any) -> None:  # noqa: ANN401
        self._model = model

    def decoders(self, prompts: Prompts, count: int) -> Mapping[str, Way]:
        """See `Decoder`. The cache is made once, and holds these prompts."""
        self._model.destroy_cached_continuous_batching_manager()
        tokens = sum(len(prompt) for prompt in prompts)
        pages = len(prompts) * (1 + (len(prompts[0]) + count + 1) // _PAGE)
        config = ContinuousBatchingConfig(
            page_size=_PAGE,
            num_blocks=pages + 1,
            max_batch_tokens=tokens,
            max_requests_per_batch=len(prompts),
            allow_block_sharing=False,
            auto_switch_to_flash=False,
        )
        return {"": lambda: self._decode(prompts, count, config)}

    def _decode(self, prompts: Prompts, count: int, config: ContinuousBatchingConfig) -> Run:
        outputs = self._model.generate_batch(
            [list(prompt) for prompt in prompts],
            generation_config=GenerationConfig(
                do_sample=False, max_new_tokens=count + 1, eos_token_id=-1, pad_token_id=0
            ),
            continuous_batching_config=config,
            record_timestamps=True,
            persistent_manager=True,
        )
        done = list(outputs.values())
        if len(done) != len(prompts) or any(len(each.timestamps) != count + 1 for each in done):
            raise BenchFailed("generate_batch did not finish its requests")
        began = max(each.timestamps[0] for each in done)
        decoded = sum(sum(at > began for at in each.timestamps) for each in done)
        seconds = max(each.timestamps[-1] for each in done) - began
        return Run(decoded / seconds, tuple(each.generated_tokens[0] for each in done))
