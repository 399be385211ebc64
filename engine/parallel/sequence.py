"""Sequence parallel: a prompt's chunk divided among the ranks by positions.

Every rank has the whole model and the whole KV. In a step with a long enough chunk a rank computes
a run of the step's rows; layer by layer the ranks exchange the new K and V, so that each pool is
complete and each row attends over everything before it, exactly as on one rank. All other steps,
decoding above all, every rank computes alone and alike, with nothing exchanged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from engine.attention import AttentionBatch, Options, Span
from engine.device import Computation, Device, StepInput, StepOutput, TorchDevice, TorchModel
from engine.kv_cache import KVPool, LayerShape
from engine.parallel.group import Group

_ROWS_A_RANK = 4
"""A chunk is divided when every rank gets so many of its rows, or more."""


class SequencePart:
    """The whole model (`engine.parallel.part.Part`)."""

    def __init__(self, group: Group) -> None:
        self._group = group

    @contextmanager
    def layer(self, layer: Any) -> Iterator[None]:  # noqa: ANN401, ARG002 - kept as it is
        """See `Part`."""
        yield

    def rest(self, model: Any) -> None:  # noqa: ANN401
        """See `Part`."""

    def shapes(self, shapes: list[LayerShape]) -> list[LayerShape]:
        """See `Part`."""
        return shapes

    def computation(self, model: TorchModel) -> Computation:
        """See `Part`."""
        return SharedModel(model, self._group)


@dataclass(frozen=True)
class SharedModel:
    """A model whose prompts are computed together (`engine.device.Computation`)."""

    model: TorchModel
    group: Group

    def on(self, pool: KVPool, *, max_rows: int, max_logit_rows: int) -> Device:
        """See `Computation`."""
        return SequenceDevice(
            self.model, self.group, pool, max_rows=max_rows, max_logit_rows=max_logit_rows
        )


@dataclass(frozen=True)
class Share:
    """The rows first .. first + length - 1 of a step."""

    first: int
    length: int

    def spans(self, spans: Sequence[Span]) -> list[Span]:
        """Return the parts of the spans that lie in it."""
        parts, at = [], 0
        for span in spans:
            first, stop = max(self.first, at), min(self.first + self.length, at + span.length)
            if first < stop:
                parts.append(Span(span.blocks, span.start + first - at, stop - first))
            at += span.length
        return parts

    def wanted(self, logit_rows: Sequence[int]) -> list[int]:
        """Return the logit rows that lie in it, counted from its first."""
        return [row - self.first for row in logit_rows if 0 <= row - self.first < self.length]


def shares(rows: int, ranks: int) -> list[Share]:
    """Return each rank's rows; some have one more than others."""
    ends = [-(-rows * rank // ranks) for rank in range(ranks + 1)]
    return [Share(first, stop - first) for first, stop in pairwise(ends)]


class SequenceDevice(TorchDevice):
    """A device that computes its share of long chunks, and everything else alone."""

    def __init__(
        self,
        model: TorchModel,
        group: Group,
        pool: KVPool,
        *,
        max_rows: int,
        max_logit_rows: int,
    ) -> None:
        super().__init__(model, pool, max_rows=max_rows, max_logit_rows=max_logit_rows)
        self._group = group
        self._all: Sequence[Span] | None = None

    def step(self, batch: StepInput) -> StepOutput:
        """See `Device`."""
        if max(span.length for span in batch.spans) < _ROWS_A_RANK * self._group.size:
            return super().step(batch)
        divided = shares(len(batch.rows), self._group.size)
        own = divided[self._group.rank]
        self._all = batch.spans
        try:
            super().step(
                StepInput(
                    batch.rows[own.first : own.first + own.length],
                    own.spans(batch.spans),
                    own.wanted(batch.logit_rows),
                )
            )
        finally:
            self._all = None
        return self._collect([len(share.wanted(batch.logit_rows)) for share in divided])

    def _attention(self, spans: Sequence[Span]) -> AttentionBatch:
        if self._all is None:
            return super()._attention(spans)
        return SharedAttention(self._pool, self._all, spans, self._group)

    def _collect(self, counts: list[int]) -> StepOutput:
        """Bring the ranks' logits to rank 0; they are in order of rank."""
        own = counts[self._group.rank]
        if not self._group.leads:
            if own:
                self._group.send(self._logits[:own], 0)
            return StepOutput(self._logits[:own])
        at = own
        for rank, count in enumerate(counts[1:], 1):
            if count:
                self._group.receive(self._logits[at : at + count], rank)
            at += count
        self._used_logits = at
        return StepOutput(self._logits[:at])


class SharedAttention(AttentionBatch):
    """The attention of one rank's rows, which see what all ranks' rows write."""

    def __init__(
        self, pool: KVPool, spans: Sequence[Span], own: Sequence[Span], group: Group
    ) -> None:
        super().__init__(pool, own)
        self._everybody = AttentionBatch(pool, spans)
        self._group = group
        self._shares = shares(sum(span.length for span in spans), group.size)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, options: Options) -> Tensor:
        """Attend; see `engine.attention.Attention`."""
        self._everybody.write(layer, self._joined(k), self._joined(v))
        return super().attend(layer, q, k, v, options)

    def _joined(self, own: Tensor) -> Tensor:
        """Return all ranks' rows of [1, heads, rows, size]."""
        size = max(share.length for share in self._shares)
        padded = functional.pad(own, (0, 0, 0, size - own.shape[2]))
        parts = torch.split(self._group.join(padded, 2), size, 2)
        lengths = (share.length for share in self._shares)
        return torch.cat([part[:, :, :n] for part, n in zip(parts, lengths, strict=True)], 2)
