"""T, the trusted side: token ids, seeds, sampling, release.

Ids live in one preallocated table (a row a sequence) and in the slots; they are moved between
them, the device and the sampler as arrays, never as Python numbers. What a sequence leaves
behind is zeroed by `erase`, what a step leaves behind by `finish_step`. The arrays are numpy's:
for a few numbers it takes a tenth of the time that torch does, and this is done for every step.
But no copy of ids is made in numpy's own memory: what is freed of it is not scrubbed, but kept
for the next small array.

An id is *sampled* when it is drawn from logits that U sent, and *released* when it may leave the
worker. Both are counted apart, and `release` is the only place that raises the second. With
verification "none" it follows at once; else `engine.verification.gate` stands between the two, and
until then an id is provisional: it is the next step's input, and nobody's answer.

A step draws one id of a sequence, or several where ids were proposed (`engine.speculative`): one a
row, as if the proposals before it had been drawn. Those up to the first that was not are its ids;
the table forgets the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from collections.abc import Sequence as Items
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from itertools import accumulate
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from engine.errors import InvalidRequest
from engine.offload.counts import Crossings
from engine.sampler import Row, logprobs, probabilities, sample, uniform
from engine.scheduler import Sequence, Work
from engine.slot import SlotGeometry
from engine.speculative_rule import settle, uniforms
from engine.types import MAX_EOS_IDS, ErrorCode, FinishReason, VerificationCounts
from engine.verification.gate import Drawn, Gate

_UNCHECKED = VerificationCounts(checks=0, decisions=bytes(32), sent=0, hits=0, misses=0)


@dataclass(frozen=True)
class Ending:
    """A sequence that produces no further id, and why."""

    sequence: Sequence
    finish: FinishReason
    error: ErrorCode = ErrorCode.NONE


@dataclass(frozen=True)
class _SlotArrays:
    """One slot's room for results, as arrays over its memory. Must not outlive the slot."""

    ids: np.ndarray
    """int32 [max_model_len]."""
    chosen: Tensor
    """float32 [max_model_len]: by position, prompt first."""
    top_ids: Tensor
    """int32 [max_model_len, max_logprobs]."""
    top_values: Tensor
    """float32 [max_model_len, max_logprobs]."""


@dataclass
class _Part:
    """One sequence's rows among those that are drawn from in a step."""

    sequence: Sequence
    first: int
    rows: int
    """The last known id's, and one a proposal."""
    kept: int = 0
    """Ids that were drawn and stand."""


def _parts(works: Items[Work]) -> list[_Part]:
    firsts = accumulate((work.proposed + 1 for work in works), initial=0)
    return [
        _Part(work.sequence, first, work.proposed + 1)
        for work, first in zip(works, firsts, strict=False)
    ]


def _outcome(part: _Part, outcomes: Items[tuple[bool, bool, bool]]) -> Iterator[Ending]:
    """Count how many of a part's ids stand, and yield its ending if they end it.

    `outcomes` says of each row whether it was valid, a stop, and what had been proposed.
    """
    sequence = part.sequence
    for valid, stop, agreed in outcomes[part.first : part.first + part.rows]:
        if not valid:
            yield Ending(sequence, FinishReason.FAILED, ErrorCode.NO_CANDIDATE)
            return
        part.kept += 1
        if stop:
            yield Ending(sequence, FinishReason.STOP)
            return
        if sequence.length + part.kept >= sequence.limit:
            yield Ending(sequence, FinishReason.LENGTH)
            return
        if not agreed:
            return


class TrustedSide:
    """The ids of all sequences, and everything that is decided about them."""

    def __init__(
        self,
        geometry: SlotGeometry,
        *,
        max_sequences: int,
        max_rows: int,
        pinned: bool,
        gate: Gate | None = None,
        crossings: Callable[[Sequence], Crossings] | None = None,
    ) -> None:
        """Make room for the ids of sequences.

        Args:
            geometry: of the slots.
            max_sequences: at a time.
            max_rows: of a step.
            pinned: whether inputs lie where a GPU can fetch them.
            gate: what ids pass before they are released; None: nothing is verified.
            crossings: what of a sequence went to the device and came back; None: nothing does.
        """
        self._gate, self._crossings = gate, crossings
        self._geometry = geometry
        self._tokens = np.zeros((max_sequences, geometry.max_model_len), np.int64)
        self._eos = np.full((max_sequences, MAX_EOS_IDS), -1, np.int64)
        self._inputs = torch.zeros(max_rows, dtype=torch.int64, pin_memory=pinned)
        self._staging = self._inputs.numpy()
        self._staged = 0
        self._free = list(range(max_sequences))
        self._slots: dict[Sequence, _SlotArrays] = {}

    def admit(self, sequence: Sequence) -> None:
        """Copy the prompt out of the slot into a row of the table.

        Raises:
            InvalidRequest: an id is outside the vocabulary (the row is zeroed and free again).
        """
        row = self._free.pop()
        sequence.row = row
        ids = self._tokens[row, : sequence.prompt_length]
        ids[:] = np.frombuffer(sequence.slot.prompt_buffer(), np.int32)
        if ((ids < 0) | (ids >= self._geometry.vocab_size)).any():
            self.erase(sequence)
            raise InvalidRequest("a prompt id is outside the vocabulary")
        if not sequence.params.ignore_eos and sequence.params.eos_ids:
            self._eos[row, : len(sequence.params.eos_ids)] = sequence.params.eos_ids
        self._slots[sequence] = self._map(sequence)

    def inputs(self, works: Items[Work]) -> Tensor:
        """Return the ids of the step's rows, int64 [rows], valid until `finish_step`."""
        at = 0
        for work in works:
            ids = self._tokens[work.sequence.row, work.start : work.start + work.length]
            self._staging[at : at + work.length] = ids
            at += work.length
        self._staged = at
        return self._inputs[:at]

    def ids(self, sequence: Sequence, start: int, stop: int) -> Tensor:
        """Return a sequence's ids at positions start .. stop - 1, int64, a view of the table."""
        return torch.from_numpy(self._tokens[sequence.row, start:stop])

    def known(self, sequence: Sequence) -> Tensor:
        """Return all of its known ids."""
        return self.ids(sequence, 0, sequence.length)

    def table(self, sequence: Sequence) -> Tensor:
        """Return the room behind its known ids, where proposals are written; int64, a view."""
        return torch.from_numpy(self._tokens[sequence.row, sequence.length :])

    def row(self, sequence: Sequence, ahead: int = 0) -> Row:
        """Return what the sampler must know of a sequence, `ahead` proposals later than now."""
        mask = None
        if sequence.params.constrained:
            # A copy: what is drawn from must not change while it is looked at.
            mask = torch.frombuffer(sequence.slot.mask_buffer(), dtype=torch.uint8).clone()
        history = self._tokens[sequence.row, : sequence.length + ahead]
        position = sequence.sampled + ahead
        return Row(sequence.params, position, history, sequence.prompt_length, mask)

    def accept(
        self,
        works: Items[Work],
        logits: Tensor,
        beliefs: Mapping[Sequence, Tensor] = MappingProxyType({}),
        gone: AbstractSet[Sequence] = frozenset(),
    ) -> tuple[list[Drawn], list[Ending]]:
        """Turn a step's logits into ids, logprobs and endings; none of it is released yet.

        `logits` holds, work after work, each one's `logit_rows` rows; it is overwritten. Proposals
        that were drawn come with their `beliefs`: the distributions, [proposed, vocab]. Nothing is
        drawn for sequences `gone`.
        """
        sampling: list[Work] = []
        rows: list[int] = []
        drawn: list[Drawn] = []
        endings: list[Ending] = []
        at = 0
        for work in works:
            if work.sequence in gone:
                at += work.logit_rows
                continue
            if work.sequence.scoring:
                self._score(work, logits[at : at + work.length])
            at += work.logit_rows
            if work.samples and work.sequence.length < work.sequence.limit:
                sampling.append(work)
                rows.extend(range(at - 1 - work.proposed, at))
            elif work.samples:
                endings.append(Ending(work.sequence, FinishReason.LENGTH))
        if sampling:
            # All rows in their order is the usual case, and needs no copy of the logits.
            chosen = logits if rows == list(range(len(logits))) else logits[rows]
            drawn, ended = self._sample(_parts(sampling), chosen, beliefs)
            endings += ended
        return drawn, endings

    def release(self, drawn: Items[Drawn]) -> None:
        """Let ids leave the worker, in the order they were drawn in; a gate found them to hold."""
        for each in drawn:
            counts = _UNCHECKED
            if self._gate is not None:
                first = each.sequence.prompt_length + each.sampled - len(each.ids)
                counts = self._gate.pass_on(each.sequence, first, each.ids)
            covered = self._with_crossings(each.sequence, counts)
            each.sequence.slot.publish_released(each.sampled, covered)

    def refuse(self, gate: Gate, sequence: Sequence) -> Ending:
        """End a sequence one of whose steps did not hold; what was released before stays."""
        released = sequence.slot.released
        counts = gate.refuse(sequence, sequence.prompt_length + released)
        sequence.slot.publish_released(released, self._with_crossings(sequence, counts))
        return Ending(sequence, FinishReason.FAILED, ErrorCode.VERIFICATION_FAILED)

    def finish_step(self) -> None:
        """Zero what the step staged."""
        self._staging[: self._staged].fill(0)

    def erase(self, sequence: Sequence) -> None:
        """Zero the sequence's row and give it back. The slot is not touched."""
        if sequence.row is None:
            return
        self._slots.pop(sequence, None)
        self._tokens[sequence.row].fill(0)
        self._eos[sequence.row].fill(-1)
        self._free.append(sequence.row)
        sequence.row = None

    def _sample(
        self, parts: list[_Part], logits: Tensor, beliefs: Mapping[Sequence, Tensor]
    ) -> tuple[list[Drawn], list[Ending]]:
        rows = [self.row(part.sequence, ahead) for part in parts for ahead in range(part.rows)]
        wanting = [i for i, row in enumerate(rows) if row.params.logprobs >= 0]
        raw = logits[wanting] if wanting else None
        ids = sample(logits, rows)
        for part in parts:
            if part.sequence in beliefs:
                own = slice(part.first, part.first + part.rows - 1)
                judged = self._judge(part.sequence, logits[own], beliefs[part.sequence])
                ids[own] = judged.numpy()
        owners = np.array([part.sequence.row for part in parts for _ in range(part.rows)])
        places = np.array([part.sequence.length + i for part in parts for i in range(part.rows)])
        agreed = [same for part in parts for same in self._agreed(part, ids)]
        stops = np.logical_or.reduce(ids[:, None] == self._eos[owners], axis=1).tolist()
        self._tokens[owners, places] = ids
        outcomes = list(zip((ids >= 0).tolist(), stops, agreed, strict=True))
        endings = [ending for part in parts for ending in _outcome(part, outcomes)]
        if raw is not None:
            self._log(parts, wanting, raw, ids)
        published = [self._publish(part, ids) for part in parts if part.kept]
        for part in parts:
            self._forget_others(part)
        return published, endings

    def _agreed(self, part: _Part, ids: np.ndarray) -> list[bool]:
        """Return for each of a part's rows whether what was proposed behind it was drawn."""
        if part.rows == 1:
            return [False]
        first = part.sequence.length
        proposed = self._tokens[part.sequence.row, first : first + part.rows]
        same: list[bool] = (ids[part.first : part.first + part.rows] == proposed).tolist()
        return same

    def _judge(self, sequence: Sequence, logits: Tensor, belief: Tensor) -> Tensor:
        """Return the ids at positions whose proposals a draft model drew."""
        rows = [self.row(sequence, ahead) for ahead in range(len(belief))]
        seed = sequence.params.seed
        return settle(
            torch.stack([probabilities(*each) for each in zip(logits, rows, strict=True)]),
            belief,
            self.table(sequence)[: len(belief)],
            uniforms([uniform(seed, row.position, "acceptance") for row in rows]),
            uniforms([uniform(seed, row.position, "residual") for row in rows]),
        )

    def _publish(self, part: _Part, ids: np.ndarray) -> Drawn:
        """Let the capsule read a part's ids, for its grammar; they are not released."""
        sequence = part.sequence
        first = sequence.sampled
        sequence.sampled += part.kept
        own = ids[part.first : part.first + part.kept]
        self._slots[sequence].ids[first : sequence.sampled] = own
        sequence.slot.publish_sampled(sequence.sampled)
        return Drawn(sequence, own, sequence.sampled)

    def _forget_others(self, part: _Part) -> None:
        """Let the table forget what was drawn after rejected proposals."""
        if part.rows > part.kept:
            known = part.sequence.length
            self._tokens[part.sequence.row, known : known + part.rows - part.kept] = 0

    def _with_crossings(self, sequence: Sequence, counts: VerificationCounts) -> VerificationCounts:
        if self._crossings is None:
            return counts
        crossed = self._crossings(sequence)
        return replace(counts, sent=crossed.sent, hits=crossed.hits, misses=crossed.misses)

    def _score(self, work: Work, logits: Tensor) -> None:
        """Write the logprobs of the prompt ids that this work's rows predict."""
        sequence = work.sequence
        first = work.start + 1
        stop = min(work.start + work.length + 1, sequence.prompt_length)
        if stop > first:
            targets = self.ids(sequence, first, stop)
            top = sequence.params.prompt_logprobs
            self._write(sequence, first, *logprobs(logits[: stop - first], targets, top))

    def _log(self, parts: list[_Part], wanting: list[int], raw: Tensor, ids: np.ndarray) -> None:
        """Write the logprobs of ids just drawn, before they are published.

        `raw` has the logits of the rows `wanting`, of all rows `ids`.
        """
        top = max(part.sequence.params.logprobs for part in parts)
        chosen, top_ids, values = logprobs(raw, torch.from_numpy(ids)[wanting].clamp_(min=0), top)
        index = {row: i for i, row in enumerate(wanting)}
        for part in parts:
            n = part.sequence.params.logprobs
            if n >= 0 and part.kept:
                first = index[part.first]
                at = slice(first, first + part.kept)
                position = part.sequence.length
                self._write(part.sequence, position, chosen[at], top_ids[at, :n], values[at, :n])

    def _write(
        self, sequence: Sequence, position: int, chosen: Tensor, ids: Tensor, values: Tensor
    ) -> None:
        arrays = self._slots[sequence]
        rows, top = slice(position, position + len(chosen)), ids.shape[1]
        arrays.chosen[rows] = chosen
        arrays.top_ids[rows, :top] = ids.int()
        arrays.top_values[rows, :top] = values

    def _map(self, sequence: Sequence) -> _SlotArrays:
        geometry, slot = self._geometry, sequence.slot
        shape = (geometry.max_model_len, geometry.row_words)
        words = torch.frombuffer(slot.rows_buffer(), dtype=torch.int32).view(shape)
        floats = torch.frombuffer(slot.rows_buffer(), dtype=torch.float32).view(shape)
        return _SlotArrays(
            ids=np.frombuffer(slot.output_buffer(), np.int32),
            chosen=floats[:, 0],
            top_ids=words[:, 1 : 1 + geometry.max_logprobs],
            top_values=floats[:, 1 + geometry.max_logprobs :],
        )
