"""Attention recomputed in T from keys and values that T keeps: exact, and as dear as attention is.

The measure is the reference's: rho = |O - o| / (u sqrt(|o|^2 + sum p^2 |v|^2)), u = 2^-8, which
rounding the weights p and the output to bfloat16 leaves at 0.33 on average and below 0.75.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from engine.verification.model import TrustedModel
from engine.verification.secrets import Secrets
from engine.verification.thresholds import BOUNDS, Thresholds

_UNIT = 2.0**-8
_SMALLEST = 1e-30
_ROOM = 64
"""Positions that memory is taken for at least, and then doubled."""


class PlainAttention:
    """An `AttentionCheck` (`engine.verification.verifier`) without sketches."""

    def __init__(self, model: TrustedModel, thresholds: Thresholds = BOUNDS) -> None:
        self._model, self._thresholds = model, thresholds
        self._kept: dict[Hashable, Tensor] = {}  # bfloat16 [2, layers, room, key heads, size]
        self._lengths: dict[Hashable, int] = {}

    def append(self, key: Hashable, keys: Tensor, values: Tensor) -> None:
        """Keep keys and values of the next positions, [layers, rows, key heads, size]."""
        start = self._lengths.get(key, 0)
        stop = start + keys.shape[1]
        kept = self._with_room(key, stop)
        kept[0, :, start:stop] = keys
        kept[1, :, start:stop] = values
        self._lengths[key] = stop

    def _with_room(self, key: Hashable, stop: int) -> Tensor:
        kept = self._kept.get(key)
        if kept is not None and kept.shape[2] >= stop:
            return kept
        model, room = self._model, _ROOM
        while room < stop:
            room *= 2
        grown = torch.zeros(
            2, model.layers, room, model.key_heads, model.size, dtype=torch.bfloat16
        )
        if kept is not None:
            grown[:, :, : kept.shape[2]] = kept
            kept.zero_()
        self._kept[key] = grown
        return grown

    def truncate(self, key: Hashable, length: int) -> None:
        """Forget positions from `length` on."""
        if key in self._kept:
            self._kept[key][:, :, length : self._lengths[key]].zero_()
            self._lengths[key] = length

    def copy(self, source: Hashable, target: Hashable) -> None:
        """Let a sequence begin as another one is."""
        if source in self._kept:
            self._kept[target] = self._kept[source].clone()
            self._lengths[target] = self._lengths[source]

    def forget(self, key: Hashable) -> None:
        """Zero what is kept of a sequence."""
        kept = self._kept.pop(key, None)
        self._lengths.pop(key, None)
        if kept is not None:
            kept.zero_()

    def rekey(self, secrets: Secrets) -> None:
        """Nothing here is drawn."""

    def check(
        self,
        key: Hashable,
        positions: Sequence[int],
        queries: Tensor,
        outputs: Tensor,
        scores: Sequence[Tensor] | None = None,  # noqa: ARG002
    ) -> Tensor:
        """Judge attention outputs; bool [layers, rows].

        Args:
            key: the sequence; positions up to the rows' own were appended.
            positions: of the rows.
            queries: bfloat16 [layers, rows, heads, size].
            outputs: bfloat16 of the same shape.
            scores: not needed.
        """
        return (self.rho(key, positions, queries, outputs) <= self._thresholds.attention).all(-1)

    def rho(
        self, key: Hashable, positions: Sequence[int], queries: Tensor, outputs: Tensor
    ) -> Tensor:
        """Return how far outputs are from T's own; float32 [layers, rows, heads]."""
        rows = [
            self._row(key, position, queries[:, row], outputs[:, row])
            for row, position in enumerate(positions)
        ]
        return torch.stack(rows, 1)

    def _row(self, key: Hashable, position: int, query: Tensor, output: Tensor) -> Tensor:
        model, kept = self._model, self._kept[key][:, :, : position + 1].float()
        shared = model.heads // model.key_heads
        grouped = query.float().view(model.layers, model.key_heads, shared, model.size)
        scores = torch.einsum("lhsd,lnhd->lhsn", grouped, kept[0]) * model.scaling
        if model.score_cap:
            scores = model.score_cap * torch.tanh(scores / model.score_cap)
        for layer, window in enumerate(model.windows):
            if 0 < window <= position:
                scores[layer, ..., : position + 1 - window] = -torch.inf
        weights = scores.softmax(-1)
        right = torch.einsum("lhsn,lnhd->lhsd", weights, kept[1])
        lengths = kept[1].square().sum(-1).transpose(1, 2)[:, :, None]
        spread = (weights.square() * lengths).sum(-1)
        unit = _UNIT * (right.square().sum(-1) + spread).sqrt() + _SMALLEST
        error = (output.float().view_as(right) - right).norm(dim=-1)
        found: Tensor = error / unit
        return found.flatten(1).nan_to_num(nan=torch.inf)
