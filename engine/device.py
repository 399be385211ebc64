"""U, the untrusted side: weights, KV pool, matrix work. No seed, no parameter, no sampling here.

The interface is what may later be checked, sealed or made to lie: rows go in (token ids, or
embeddings looked up by T), logits of the rows asked for come out, in float32. What a step returns
is valid until `finish_step`, which zeroes it.

Numerics: a row's logits depend in their last bits on how many rows share its products (bf16
kernels choose their order of summation by shape). In float32 this is noise of about 1e-6; in bf16
it can decide between two ids that are almost equally likely.

On a GPU the device is `engine.cuda.device.CudaDevice`; what is below computes on the CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from engine.attention import AttentionBatch, AttentionHook, Span
from engine.kv_cache import KVPool
from engine.linear import Siblings
from engine.verification.transcript import Transcript


@dataclass(frozen=True)
class StepInput:
    """The rows of one step, span after span."""

    rows: Tensor
    """int64 [rows]: token ids; or floating [rows, hidden]: their embeddings."""
    spans: Sequence[Span]
    logit_rows: Sequence[int]
    """The rows whose logits are wanted, ascending; may be empty."""


@dataclass(frozen=True)
class StepOutput:
    """What U says about one step. Until it is verified, a claim."""

    logits: Tensor
    """float32 [wanted rows, vocab] in host memory."""
    transcript: Transcript | None = None
    """What was computed on the way, if U was asked to tell; closed by whoever checks it."""


class Device(Protocol):
    """The whole of what T may ask of U."""

    def step(self, batch: StepInput) -> StepOutput:
        """Write the rows' K and V into their blocks and return the logits asked for."""
        ...

    def finish_step(self) -> None:
        """Zero what the last step returned and what it staged; after a failed step too."""
        ...

    def copy_blocks(self, source: Sequence[int], target: Sequence[int]) -> None:
        """Copy the K and V of whole blocks, pairwise."""
        ...

    def zero_blocks(self, blocks: Sequence[int]) -> None:
        """Overwrite the K and V of whole blocks with zeros; on return it is done."""
        ...


class Computation(Protocol):
    """A loaded model: how U computes it."""

    def on(self, pool: KVPool, *, max_rows: int, max_logit_rows: int) -> Device:
        """Return a device that computes the model over `pool`, up to so many rows a step."""
        ...


@dataclass(frozen=True)
class TorchModel:
    """A converted transformers model, computed by torch."""

    model: nn.Module
    hook: AttentionHook
    siblings: Sequence[Siblings]
    vocab_size: int

    def on(self, pool: KVPool, *, max_rows: int, max_logit_rows: int) -> Device:
        """See `Computation`."""
        if pool.device.type == "cuda":
            from engine.cuda.device import CudaDevice  # noqa: PLC0415 - it imports this module

            return CudaDevice(self, pool, max_rows=max_rows, max_logit_rows=max_logit_rows)
        return TorchDevice(self, pool, max_rows=max_rows, max_logit_rows=max_logit_rows)


class TorchDevice:
    """A `Device` that runs a converted transformers model by torch."""

    def __init__(
        self, computation: TorchModel, pool: KVPool, *, max_rows: int, max_logit_rows: int
    ) -> None:
        self._model: Any = computation.model
        self._hook = computation.hook
        self._pool = pool
        self._siblings = computation.siblings
        self._rows = torch.zeros(max_rows, dtype=torch.int64)
        self._logits = torch.zeros(max_logit_rows, computation.vocab_size)
        self._used_rows = self._used_logits = 0

    @torch.inference_mode()
    def step(self, batch: StepInput) -> StepOutput:
        """See `Device`."""
        wanted = len(batch.logit_rows)
        self._used_rows, self._used_logits = len(batch.rows), wanted
        attention = self._attention(batch.spans)
        inputs: dict[str, Any] = {
            "position_ids": attention.positions[None],
            "use_cache": False,
        }
        if batch.rows.is_floating_point():
            embeddings = batch.rows.to(self._pool.keys[0].dtype)
            inputs["inputs_embeds"] = embeddings[None]
        else:
            rows = self._rows[: len(batch.rows)]
            rows.copy_(batch.rows)
            inputs["input_ids"] = rows[None]
        logits = self._logits[:wanted]
        with self._hook.use(attention):
            if wanted:
                inputs["logits_to_keep"] = torch.tensor(batch.logit_rows)
                logits.copy_(self._model(**inputs).logits[0])
            else:
                self._model.base_model(**inputs)
        return StepOutput(logits)

    def finish_step(self) -> None:
        """See `Device`."""
        self._rows[: self._used_rows].zero_()
        self._logits[: self._used_logits].zero_()
        for siblings in self._siblings:
            siblings.clear()

    def copy_blocks(self, source: Sequence[int], target: Sequence[int]) -> None:
        """See `Device`."""
        self._pool.copy(source, target)

    def zero_blocks(self, blocks: Sequence[int]) -> None:
        """See `Device`."""
        self._pool.zero(blocks)

    def _attention(self, spans: Sequence[Span]) -> AttentionBatch:
        return AttentionBatch(self._pool, spans)
