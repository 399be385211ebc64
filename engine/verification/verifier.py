"""One verdict a step: every check that a mode asks for, over the rows that T has laid open.

    1  K and V of all rows are taken in: U is committed
    2  T names the rows: all of a decoding sequence; of a prompt its last row, those whose logits
       are asked, and in `audit` as many secret ones as configured, in `full` all
    3  products against sketches, what lies between them replayed, attention, head
    4  a product that fails is computed once more from the weights, if T can: only a row that is
       off then as well is a lie

All checks are made before a verdict is, so the time it takes does not say which one failed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from engine.verification.linear import Judged, LinearCheck, head_error, rounded_to_8_bits
from engine.verification.model import TrustedModel
from engine.verification.rest import Replayed, Rows, replay, steps
from engine.verification.secrets import Secrets
from engine.verification.thresholds import BOUNDS, Thresholds
from engine.verification.transcript import Matrix, Opening, Product, Transcript

_DISTANCES = ("attention_input", "mlp_input", "activated", "queries", "keys")
MODES = ("audit", "full")
AUDIT_ROWS = 32
_ONE_ROUNDING = 1.25
"""Steps of bfloat16 that the exact recheck allows: rounding once is off by one at most."""


@dataclass(frozen=True)
class Work:
    """One sequence's rows in a step.

    Attributes:
        key: which sequence; the verifier keeps its state under it.
        start: position of the first row. Positions from there on that were checked before (of
            proposed ids that were not taken) are forgotten.
        rows: ids, int64 [rows], or embeddings, bfloat16 or float32 [rows, hidden].
        logit_rows: which of its rows logits were asked of, from 0, ascending.
    """

    key: Hashable
    start: int
    rows: Tensor
    logit_rows: Sequence[int]


CheckedStep = Sequence[Work]
"""The sequences of a step, in the order of its rows."""


@dataclass(frozen=True)
class Finding:
    """The verdict on one sequence's rows. Only `accepted` and `checks` may leave T."""

    key: Hashable
    accepted: bool
    checks: int
    """How many rows of products, inputs, attention heads and logits were compared."""
    failed: tuple[str, ...] = ()
    """What did not hold, for tests and T's own eyes."""


class AttentionCheck(Protocol):
    """Keeps what it needs of a sequence's keys and values, and judges attention outputs."""

    def append(self, key: Hashable, keys: Tensor, values: Tensor) -> None:
        """Take the next positions in, [layers, rows, key heads, size]."""
        ...

    def check(
        self,
        key: Hashable,
        positions: Sequence[int],
        queries: Tensor,
        outputs: Tensor,
        scores: Sequence[Tensor] | None,
    ) -> Tensor:
        """Judge rows; bool [layers, rows].

        Args:
            key: the sequence; every position up to the rows' last was appended.
            positions: of the rows.
            queries: bfloat16 [layers, rows, heads, size].
            outputs: of the same shape.
            scores: of each row float32 [layers, heads, position + 1], where U gave them.
        """
        ...

    def truncate(self, key: Hashable, length: int) -> None:
        """Forget positions from `length` on."""
        ...

    def copy(self, source: Hashable, target: Hashable) -> None:
        """Let a sequence begin as another one is."""
        ...

    def forget(self, key: Hashable) -> None:
        """Zero all state of a sequence."""
        ...

    def rekey(self, secrets: Secrets) -> None:
        """Draw other numbers for sequences that begin from now on."""
        ...


Weights = Callable[[int, Matrix], tuple[Tensor, Tensor | None]]
"""W and bias of one layer's matrix, from digest-checked weights, for the exact recheck."""


@dataclass(frozen=True)
class _Opened:
    """A sequence's opened rows."""

    work: Work
    first: int
    """Where the sequence's rows begin in the step."""
    own: tuple[int, ...]
    """Opened rows of the sequence, from 0."""
    decoding: bool

    @property
    def positions(self) -> list[int]:
        return [self.work.start + row for row in self.own]


@dataclass(frozen=True)
class _Told:
    """What U told of a step."""

    keys: Tensor
    values: Tensor
    opening: Opening
    transcript: Transcript


class Verifier:
    """T's checks of one model, and the state of the sequences that it serves."""

    def __init__(
        self,
        model: TrustedModel,
        attention: AttentionCheck,
        *,
        mode: str = "audit",
        audit_rows: int = AUDIT_ROWS,
        secrets: Secrets | None = None,
        thresholds: Thresholds = BOUNDS,
        weights: Weights | None = None,
        renew: Callable[[], TrustedModel] | None = None,
    ) -> None:
        """Check a model.

        Args:
            model: T's part of it.
            attention: how attention is judged.
            mode: one of `MODES`.
            audit_rows: secret rows of a prompt's part that `audit` opens.
            secrets: draws them.
            thresholds: what passes.
            weights: for the exact recheck; without them a failed check is a failure.
            renew: makes T's part once more, of `secrets`; without it `rekey` leaves sketches alone.
        """
        if mode not in MODES:
            raise ValueError(f"verification is one of {', '.join(MODES)}")
        self._model, self._attention = model, attention
        self._everything, self._audit_rows = mode != "audit", audit_rows
        self._secrets = secrets or Secrets()
        self._thresholds, self._weights, self._renew = thresholds, weights, renew
        self._linear = LinearCheck(model.sketches, thresholds)
        self._lengths: dict[Hashable, int] = {}
        self._drawn = 0

    def forget(self, key: Hashable) -> None:
        """Zero what is known of a sequence: it ended, failed, or lost its blocks."""
        self._lengths.pop(key, None)
        self._attention.forget(key)

    def copy(self, source: Hashable, target: Hashable) -> None:
        """Let a sequence begin with another one's positions, as members of a group do."""
        if source in self._lengths:
            self._lengths[target] = self._lengths[source]
            self._attention.copy(source, target)

    def rekey(self) -> None:
        """Draw another key: for rows, for sketches, and for the keys of sequences yet to begin."""
        self._secrets.rekey()
        self._attention.rekey(self._secrets)
        if self._renew is not None:
            self._model = self._renew()
            self._linear = LinearCheck(self._model.sketches, self._thresholds)

    @torch.no_grad()
    def check(self, step: CheckedStep, transcript: Transcript, logits: Tensor) -> list[Finding]:
        """Check a step; a finding for each of its sequences, in order.

        Args:
            step: what U was given.
            transcript: what U says it did. Not closed here.
            logits: float32 [wanted, vocabulary], as U returned them.

        Raises:
            ValueError: what was told has not the model's shape, or goes on behind what was checked.
        """
        keys, values = transcript.keys.clone(), transcript.values.clone()  # now U is committed
        opened = self._open(step)
        rows = [each.first + row for each in opened for row in each.own]
        opening = transcript.open(rows)
        self._check_shapes(opening)
        index = torch.tensor(rows)
        replayed = replay(
            self._model, self._rows(opened), opening, keys[:, index], values[:, index]
        )
        told = _Told(keys, values, opening, transcript)
        heads = self._heads(opened, replayed, transcript.final, logits)
        attended, at = [], 0
        for each in opened:
            attended.append(self._attend(each, told, slice(at, at + len(each.own))))
            at += len(each.own)
        judged = self._recheck(self._linear.check(opening.products), opening)
        table = self._table(judged, replayed)
        table["attention"] = torch.cat(attended, dim=1).all(0).tolist()
        return self._findings(opened, table, heads)

    def _check_shapes(self, opening: Opening) -> None:
        """Refuse rows that are not as wide as their sketches, before anything reads them.

        Raises:
            ValueError: some are not.
        """
        for matrix, sketch in self._model.sketches.items():
            told = opening.products[matrix]
            if (told.outputs.shape[-1], told.inputs.shape[-1]) != (sketch.outputs, sketch.inputs):
                raise ValueError("a product is not as wide as its sketch")

    def _findings(
        self, opened: Sequence[_Opened], table: dict[str, list[bool]], heads: list[bool]
    ) -> list[Finding]:
        findings, at, wanted = [], 0, 0
        for each in opened:
            own = slice(at, at + len(each.own))
            asked = slice(wanted, wanted + len(each.work.logit_rows))
            at, wanted = own.stop, asked.stop
            parts = {name: held[own] for name, held in table.items()} | {"head": heads[asked]}
            findings.append(self._finding(each, parts))
        return findings

    def _open(self, step: CheckedStep) -> list[_Opened]:
        opened, first = [], 0
        for work in step:
            opened.append(self._of_work(work, first))
            first += len(work.rows)
        return opened

    def _of_work(self, work: Work, first: int) -> _Opened:
        rows = len(work.rows)
        decoding = len(work.logit_rows) == rows
        if decoding or self._everything:
            return _Opened(work, first, tuple(range(rows)), decoding)
        self._drawn += 1
        secret = self._secrets.subset(b"rows %d" % self._drawn, rows, self._audit_rows)
        own = sorted({*secret, *work.logit_rows, rows - 1})
        return _Opened(work, first, tuple(own), decoding)

    def _rows(self, opened: Sequence[_Opened]) -> Rows:
        embeddings, positions = [], []
        for each in opened:
            rows = each.work.rows[list(each.own)]
            if not rows.is_floating_point():
                rows = self._model.embeddings[rows]
            embeddings.append(rows.to(torch.bfloat16))
            positions += each.positions
        return Rows(torch.cat(embeddings), torch.tensor(positions))

    def _table(self, judged: Judged, replayed: Replayed) -> dict[str, list[bool]]:
        """Return what held of each row, in all layers, by the name of what was checked."""
        names = [matrix.value for matrix in self._model.sketches] + [*_DISTANCES, "values"]
        distances = torch.stack([getattr(replayed, name) for name in _DISTANCES])
        near = (distances <= self._thresholds.steps).all(1)
        products = judged.passed.view(-1, *distances.shape[1:]).all(1)
        held = torch.cat([products, near, replayed.values.all(0)[None]]).tolist()
        return dict(zip(names, held, strict=True))

    def _finding(self, each: _Opened, parts: dict[str, list[bool]]) -> Finding:
        failed = tuple(name for name, held in parts.items() if not all(held))
        in_layers = (len(parts) - 1) * len(each.own) * self._model.layers
        return Finding(each.work.key, not failed, in_layers + len(each.work.logit_rows), failed)

    def _heads(
        self, opened: Sequence[_Opened], replayed: Replayed, final: Tensor, logits: Tensor
    ) -> list[bool]:
        """Return whether the rows of logits hold; of all sequences, in order."""
        chosen, at = [], 0
        for each in opened:
            chosen += [at + each.own.index(row) for row in each.work.logit_rows]
            at += len(each.own)
        chained = steps(final, replayed.final[chosen]) <= self._thresholds.steps
        error = head_error(final, plain_logits(self._model, logits), self._model.head)
        held: list[bool] = (chained & (error <= self._thresholds.head)).tolist()
        return held

    def _attend(self, each: _Opened, told: _Told, own: slice) -> Tensor:
        """Take a sequence's keys and values in, and judge its opened rows' attention."""
        work, rows = each.work, slice(each.first, each.first + len(each.work.rows))
        known = self._lengths.get(work.key, 0)
        if work.start > known:
            raise ValueError("a sequence goes on behind what was checked of it")
        if work.start < known:
            self._attention.truncate(work.key, work.start)
        self._attention.append(work.key, told.keys[:, rows], told.values[:, rows])
        self._lengths[work.key] = work.start + len(work.rows)
        model, outputs = self._model, told.opening.products[Matrix.OUTPUT].inputs[:, own]
        scores = None
        if each.decoding:
            scores = [told.transcript.scores(each.first + row) for row in each.own]
        shape = (model.layers, len(each.own), model.heads, model.size)
        return self._attention.check(
            work.key,
            each.positions,
            told.opening.queries[:, own],
            outputs.reshape(shape),
            scores,
        )

    def _recheck(self, judged: Judged, opening: Opening) -> Judged:
        """Compute what failed once more, exactly; only what is off then as well has failed."""
        failed = (~judged.passed).nonzero().tolist()
        if self._weights is None or not failed:
            return judged
        passed = judged.passed.clone()
        matrices = list(self._model.sketches)
        for at, row in failed:
            matrix, layer = matrices[at // self._model.layers], at % self._model.layers
            passed[at, row] = self._exact(matrix, layer, row, opening.products[matrix])
        return Judged(passed, judged.energy, judged.peak)

    def _exact(self, matrix: Matrix, layer: int, row: int, product: Product) -> bool:
        """Return whether a row is the product, each element but for its rounding."""
        if self._weights is None:
            return False
        sketch = self._model.sketches[matrix]
        y, x = product.outputs[layer, row], product.inputs[layer, row]
        weight, bias = self._weights(layer, matrix)
        right = (x.float() if sketch.of_inputs is None else rounded_to_8_bits(x)) @ weight.float().T
        return bool(steps(y, right if bias is None else right + bias) <= _ONE_ROUNDING)


def plain_logits(model: TrustedModel, logits: Tensor) -> Tensor:
    """Return logits before scale and cap. Where a cap leaves nothing to see, not a number."""
    if model.logit_cap:
        logits = model.logit_cap * torch.atanh(logits / model.logit_cap)
    return logits if model.logit_scale == 1 else logits / model.logit_scale
