"""T, the trusted side: token ids, seeds, sampling, release.

Ids live in one preallocated table (a row a sequence) and in the slots; they are moved between
them, the device and the sampler as tensors, never as Python numbers. What a sequence leaves
behind is zeroed by `erase`, what a step leaves behind by `finish_step`.

An id is *sampled* when it is drawn from logits that U sent, and *released* when it may leave the
worker. Both are counted apart, and `_release` is the only place that raises the second. With
verification "none" it follows at once; a verifier stands between the two otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence as Items
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.errors import InvalidRequest
from engine.sampler import Row, logprobs, sample
from engine.scheduler import Sequence, Work
from engine.slot import SlotGeometry
from engine.types import MAX_EOS_IDS, ErrorCode, FinishReason, VerificationCounts

_UNCHECKED = VerificationCounts(checks=0, decisions=bytes(32), sent=0, hits=0, misses=0)


@dataclass(frozen=True)
class Ending:
    """A sequence that produces no further id, and why."""

    sequence: Sequence
    finish: FinishReason
    error: ErrorCode = ErrorCode.NONE


@dataclass(frozen=True)
class _SlotTensors:
    """One slot's room for results, as tensors over its memory. Must not outlive the slot."""

    ids: Tensor
    """int32 [max_model_len]."""
    chosen: Tensor
    """float32 [max_model_len]: by position, prompt first."""
    top_ids: Tensor
    """int32 [max_model_len, max_logprobs]."""
    top_values: Tensor
    """float32 [max_model_len, max_logprobs]."""


class TrustedSide:
    """The ids of all sequences, and everything that is decided about them."""

    def __init__(
        self, geometry: SlotGeometry, *, max_sequences: int, max_rows: int, pinned: bool
    ) -> None:
        self._geometry = geometry
        self._tokens = torch.zeros(max_sequences, geometry.max_model_len, dtype=torch.int64)
        self._eos = torch.full((max_sequences, MAX_EOS_IDS), -1, dtype=torch.int64)
        self._inputs = torch.zeros(max_rows, dtype=torch.int64, pin_memory=pinned)
        self._staged = 0
        self._free = list(range(max_sequences))
        self._slots: dict[Sequence, _SlotTensors] = {}

    def admit(self, sequence: Sequence) -> None:
        """Copy the prompt out of the slot into a row of the table.

        Raises:
            InvalidRequest: an id is outside the vocabulary (the row is zeroed and free again).
        """
        row = self._free.pop()
        sequence.row = row
        prompt = torch.frombuffer(sequence.slot.prompt_buffer(), dtype=torch.int32)
        ids = self._tokens[row, : sequence.prompt_length]
        ids.copy_(prompt)
        if bool(((ids < 0) | (ids >= self._geometry.vocab_size)).any()):
            self.erase(sequence)
            raise InvalidRequest("a prompt id is outside the vocabulary")
        if not sequence.params.ignore_eos and sequence.params.eos_ids:
            eos = torch.tensor(sequence.params.eos_ids)
            self._eos[row, : len(eos)] = eos
        self._slots[sequence] = self._map(sequence)

    def inputs(self, works: Items[Work]) -> Tensor:
        """Return the ids of the step's rows, int64 [rows], valid until `finish_step`."""
        at = 0
        for work in works:
            ids = self._tokens[work.sequence.row, work.start : work.start + work.length]
            self._inputs[at : at + work.length] = ids
            at += work.length
        self._staged = at
        return self._inputs[:at]

    def accept(self, works: Items[Work], logits: Tensor) -> list[Ending]:
        """Turn a step's logits into ids, logprobs and endings.

        `logits` holds, work after work, each one's `logit_rows` rows; it is overwritten.
        """
        sampling: list[Work] = []
        rows: list[int] = []
        endings: list[Ending] = []
        at = 0
        for work in works:
            if work.sequence.scoring:
                self._score(work, logits[at : at + work.length])
            at += work.logit_rows
            if work.samples and work.sequence.length < work.sequence.limit:
                sampling.append(work)
                rows.append(at - 1)
            elif work.samples:
                endings.append(Ending(work.sequence, FinishReason.LENGTH))
        if sampling:
            # All rows in their order is the usual case, and needs no copy of the logits.
            chosen = logits if rows == list(range(len(logits))) else logits[rows]
            endings += self._sample([work.sequence for work in sampling], chosen)
        return endings

    def finish_step(self) -> None:
        """Zero what the step staged."""
        self._inputs[: self._staged].zero_()

    def erase(self, sequence: Sequence) -> None:
        """Zero the sequence's row and give it back. The slot is not touched."""
        if sequence.row is None:
            return
        self._slots.pop(sequence, None)
        self._tokens[sequence.row].zero_()
        self._eos[sequence.row].fill_(-1)
        self._free.append(sequence.row)
        sequence.row = None

    def _sample(self, sequences: list[Sequence], logits: Tensor) -> list[Ending]:
        wanting = [i for i, each in enumerate(sequences) if each.params.logprobs >= 0]
        raw = logits[wanting] if wanting else None
        draws = sample(logits, [self._row(sequence) for sequence in sequences])
        rows = [sequence.row for sequence in sequences]
        stops = (draws.ids[:, None] == self._eos[rows]).any(dim=-1)
        self._tokens[rows, [sequence.length for sequence in sequences]] = draws.ids
        if raw is not None:
            self._log([sequences[i] for i in wanting], raw, draws.ids[wanting])
        endings = []
        flags = zip(draws.valid.tolist(), stops.tolist(), strict=True)
        for index, (sequence, (valid, stop)) in enumerate(zip(sequences, flags, strict=True)):
            if not valid:
                endings.append(Ending(sequence, FinishReason.FAILED, ErrorCode.NO_CANDIDATE))
                continue
            self._publish(sequence, draws.ids[index])
            if stop:
                endings.append(Ending(sequence, FinishReason.STOP))
            elif sequence.length >= sequence.limit:
                endings.append(Ending(sequence, FinishReason.LENGTH))
        return endings

    def _row(self, sequence: Sequence) -> Row:
        mask = None
        if sequence.params.constrained:
            # A copy: what is drawn from must not change while it is looked at.
            mask = torch.frombuffer(sequence.slot.mask_buffer(), dtype=torch.uint8).clone()
        history = self._tokens[sequence.row, : sequence.length]
        return Row(sequence.params, sequence.sampled, history, sequence.prompt_length, mask)

    def _publish(self, sequence: Sequence, token: Tensor) -> None:
        self._slots[sequence].ids[sequence.sampled] = token
        sequence.sampled += 1
        sequence.slot.publish_sampled(sequence.sampled)
        self._release(sequence, sequence.sampled)

    def _release(self, sequence: Sequence, upto: int) -> None:
        """Let ids up to `upto` leave the worker."""
        sequence.slot.publish_released(upto, _UNCHECKED)

    def _score(self, work: Work, logits: Tensor) -> None:
        """Write the logprobs of the prompt ids that this work's rows predict."""
        sequence = work.sequence
        first = work.start + 1
        stop = min(work.start + work.length + 1, sequence.prompt_length)
        if stop > first:
            targets = self._tokens[sequence.row, first:stop]
            top = sequence.params.prompt_logprobs
            self._write(sequence, first, *logprobs(logits[: stop - first], targets, top))

    def _log(self, sequences: list[Sequence], raw: Tensor, ids: Tensor) -> None:
        """Write the logprobs of ids just drawn, before they are published."""
        top = max(sequence.params.logprobs for sequence in sequences)
        chosen, top_ids, values = logprobs(raw, ids, top)
        for i, sequence in enumerate(sequences):
            n = sequence.params.logprobs
            at = slice(i, i + 1)
            self._write(sequence, sequence.length, chosen[at], top_ids[at, :n], values[at, :n])

    def _write(
        self, sequence: Sequence, position: int, chosen: Tensor, ids: Tensor, values: Tensor
    ) -> None:
        tensors = self._slots[sequence]
        rows, top = slice(position, position + len(chosen)), ids.shape[1]
        tensors.chosen[rows] = chosen
        tensors.top_ids[rows, :top] = ids.int()
        tensors.top_values[rows, :top] = values

    def _map(self, sequence: Sequence) -> _SlotTensors:
        geometry, slot = self._geometry, sequence.slot
        shape = (geometry.max_model_len, geometry.row_words)
        words = torch.frombuffer(slot.rows_buffer(), dtype=torch.int32).view(shape)
        floats = torch.frombuffer(slot.rows_buffer(), dtype=torch.float32).view(shape)
        return _SlotTensors(
            ids=torch.frombuffer(slot.output_buffer(), dtype=torch.int32),
            chosen=floats[:, 0],
            top_ids=words[:, 1 : 1 + geometry.max_logprobs],
            top_values=floats[:, 1 + geometry.max_logprobs :],
        )
