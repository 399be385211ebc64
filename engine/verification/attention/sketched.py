"""The attention checks of a model's sequences, as `engine.verification.verifier` calls them.

While a prompt is computed T keeps its keys and values; with the first row that is decoded they
become sketches, and are zeroed.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from engine.verification.attention import prompt
from engine.verification.attention.running import Numbers, Running, flat, windows
from engine.verification.model import TrustedModel
from engine.verification.secrets import Secrets
from engine.verification.thresholds import BOUNDS, Thresholds


@dataclass
class _Sequence:
    """What is known of one sequence: pieces of a prompt, or sketches."""

    pieces: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    """Keys and values, bfloat16 [layers, positions, key heads, size], in order."""
    running: list[Running] = field(default_factory=list)

    def joined(self) -> tuple[Tensor, Tensor]:
        """Return the prompt's keys and values in one piece."""
        if len(self.pieces) > 1:
            keys, values = (torch.cat(parts, 1) for parts in zip(*self.pieces, strict=True))
            self.erase_pieces()
            self.pieces = [(keys, values)]
        return self.pieces[0]

    def erase_pieces(self) -> None:
        """Zero the prompt's keys and values."""
        for pair in self.pieces:
            for tensor in pair:
                tensor.zero_()
        self.pieces = []


class SketchedAttention:
    """An `AttentionCheck` with no cache of decoding sequences."""

    def __init__(
        self, model: TrustedModel, secrets: Secrets, thresholds: Thresholds = BOUNDS
    ) -> None:
        """Check a model's attention."""
        self._model, self._thresholds = model, thresholds
        self._numbers = Numbers(model, secrets)
        self._windows = windows(model)
        self._sequences: dict[Hashable, _Sequence] = {}

    def append(self, key: Hashable, keys: Tensor, values: Tensor) -> None:
        """Take the next positions in, bfloat16 [layers, rows, key heads, size]."""
        sequence = self._sequences.setdefault(key, _Sequence())
        if not sequence.running:
            sequence.pieces.append((keys.clone(), values.clone()))
        for running in sequence.running:
            of = slice(None) if running.layers is None else running.layers
            running.append(keys[of], values[of])

    def truncate(self, key: Hashable, length: int) -> None:
        """Forget positions from `length` on.

        Raises:
            ValueError: they are not among the last that can be taken back.
        """
        sequence = self._sequences[key]
        if sequence.pieces:
            keys, values = sequence.joined()
            kept = keys[:, :length].clone(), values[:, :length].clone()
            sequence.erase_pieces()
            sequence.pieces = [kept]
        for running in sequence.running:
            running.truncate(length)

    def copy(self, source: Hashable, target: Hashable) -> None:
        """Let a sequence begin as another one is."""
        found = self._sequences.get(source)
        if found is not None:
            self._sequences[target] = _Sequence(
                [(keys.clone(), values.clone()) for keys, values in found.pieces],
                [running.copy() for running in found.running],
            )

    def forget(self, key: Hashable) -> None:
        """Zero all state of a sequence."""
        sequence = self._sequences.pop(key, None)
        if sequence is not None:
            sequence.erase_pieces()
            for running in sequence.running:
                running.erase()

    def rekey(self, secrets: Secrets) -> None:
        """Draw other numbers for sequences that begin from now on."""
        self._numbers = Numbers(self._model, secrets)

    def check(
        self,
        key: Hashable,
        positions: Sequence[int],
        queries: Tensor,
        outputs: Tensor,
        scores: Sequence[Tensor] | None,
    ) -> Tensor:
        """Judge rows; bool [layers, rows]. See `AttentionCheck`."""
        sequence = self._sequences[key]
        if scores is None:
            return self._of_prompt(sequence, torch.tensor(positions), queries, outputs)
        if not sequence.running:
            self._begin(sequence)
        judged = [
            self._decoded(sequence, position, queries[:, row], scores[row], outputs[:, row])
            for row, position in enumerate(positions)
        ]
        return torch.stack(judged, 1)

    def _begin(self, sequence: _Sequence) -> None:
        """Make sketches of the prompt."""
        keys, values = sequence.joined()
        for window, layers in self._windows:
            of = slice(None) if layers is None else layers
            sequence.running.append(Running.of(self._numbers, layers, window, keys[of], values[of]))
        sequence.erase_pieces()

    def _of_prompt(
        self, sequence: _Sequence, positions: Tensor, queries: Tensor, outputs: Tensor
    ) -> Tensor:
        if sequence.running:
            raise ValueError("the prompt of this sequence is past")
        keys, values = sequence.joined()
        stop = int(positions[-1]) + 1
        whole = len(positions) == stop - int(positions[0])
        judge = prompt.full if whole else prompt.audit
        model, limit = self._model, self._thresholds.attention
        passed = [
            judge(
                prompt.Rows(positions, queries[layer], outputs[layer]),
                keys[layer, :stop],
                values[layer, :stop],
                prompt.Terms(model.scaling, model.score_cap, model.windows[layer]),
                limit,
            )
            for layer in range(model.layers)
        ]
        return torch.stack(passed)

    def _decoded(
        self, sequence: _Sequence, position: int, query: Tensor, scores: Tensor, output: Tensor
    ) -> Tensor:
        """Judge one row; bool [layers]."""
        if scores.shape != (self._model.layers, self._model.heads, position + 1):
            return torch.zeros(self._model.layers, dtype=torch.bool)
        terms = self._model.scaling, self._model.score_cap
        limits = self._thresholds.scores, self._thresholds.mixed
        parts = []
        for running in sequence.running:
            of = slice(None) if running.layers is None else running.layers
            found = running.residuals(position, query[of], scores[of], output[of], terms)
            held = [error <= limit for error, limit in zip(found, limits, strict=True)]
            parts.append((running.layers, (held[0] & held[1]).all(-1)))
        return flat(parts, self._model.layers)
