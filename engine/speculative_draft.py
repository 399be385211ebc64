"""Proposals drawn from a second, small model, step by step before the large one's.

The draft model keeps K and V in a pool of its own, in blocks of the same numbers: who owns a block
of one pool owns it in both, and both are zeroed and copied together (`Pair`). It computes the ids
that it lacks together with the step that follows, so it lags behind while nothing is proposed.

Proposals are drawn from its distribution q after the request's own penalties, bias, temperature
and truncation; T is handed q (`beliefs`). Greedy sequences are proposed the most likely id, which
is accepted if it is the large model's, so that they need no q.
"""

from __future__ import annotations

import json
from collections.abc import Sequence as Items
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.attention import Span
from engine.config import EngineConfig
from engine.device import Device, StepInput, StepOutput
from engine.errors import ModelRefused
from engine.sampler import adjust, invert, probabilities, uniform
from engine.scheduler import Sequence, Work
from engine.speculative import MAX_EXTRA, Budget
from engine.trusted import TrustedSide


def draft_config(config: EngineConfig) -> EngineConfig:
    """Return the configuration under which the draft model is loaded.

    Raises:
        ModelRefused: none is named, or its vocabulary is another.
    """
    if config.draft is None:
        raise ModelRefused('speculation "draft" needs the folder of a draft model')
    if _vocabulary(config.draft) != _vocabulary(config.model):
        raise ModelRefused("the draft model's tokenizer has another vocabulary")
    return replace(
        config,
        model=config.draft,
        speculation="none",
        draft=None,
        weights="as stored",
        tensor_parallel=1,
        pipeline_parallel=1,
        sequence_parallel=1,
    )


def _vocabulary(folder: Path) -> Any:  # noqa: ANN401 - JSON of a stranger
    """Return what a tokenizer makes of texts, as far as ids go; None without a tokenizer."""
    try:
        tokenizer = json.loads((folder / "tokenizer.json").read_bytes())
        added = sorted((each["id"], each["content"]) for each in tokenizer["added_tokens"])
        return tokenizer["model"]["vocab"], added
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelRefused("the vocabulary of a tokenizer.json cannot be read") from error


class Pair:
    """A device and the draft's, as one `Device` that steps the first and keeps both clean."""

    def __init__(self, device: Device, draft: Device) -> None:
        self.device = device
        self.draft = draft

    def step(self, batch: StepInput) -> StepOutput:
        """See `Device`; the draft takes no part."""
        return self.device.step(batch)

    def finish_step(self) -> None:
        """See `Device`."""
        self.device.finish_step()
        self.draft.finish_step()

    def copy_blocks(self, source: Items[int], target: Items[int]) -> None:
        """See `Device`; in both pools."""
        self.device.copy_blocks(source, target)
        self.draft.copy_blocks(source, target)

    def zero_blocks(self, blocks: Items[int]) -> None:
        """See `Device`; in both pools."""
        self.device.zero_blocks(blocks)
        self.draft.zero_blocks(blocks)


class Draft:
    """Proposes by a draft model; a `speculative_steps.Proposer`."""

    def __init__(
        self, device: Device, trusted: TrustedSide, *, vocab_size: int, catch_up: int
    ) -> None:
        """Take the draft's device; `catch_up` rows a step may be spent on ids that it lacks."""
        self._device = device
        self._trusted = trusted
        self._catch_up = catch_up
        self._q = torch.zeros(MAX_EXTRA, vocab_size)
        self._used = 0
        self._beliefs: dict[Sequence, Tensor] = {}

    def propose(
        self, works: Items[Work], rooms: dict[Sequence, int], budget: Budget
    ) -> dict[Sequence, int]:
        """See `speculative_steps.Proposer`."""
        counts: dict[Sequence, int] = {}
        for sequence, room in rooms.items():
            if count := budget.choose(sequence.pace, room):
                counts[sequence] = count
                budget.spend(count)
            else:
                sequence.pace.rest()
        followed = [work for work in works if work.sequence in counts or work.length > 1]
        logits = self._follow([work for work in followed if not work.sequence.params.constrained])
        counts = {each: count for each, count in counts.items() if each in logits}
        self._reserve(counts)
        for ahead in range(max(counts.values(), default=0)):
            going = [each for each, count in counts.items() if count > ahead]
            if ahead:
                logits = self._advance(going, ahead)
            for sequence in going:
                self._draw(sequence, ahead, logits[sequence])
        self._device.finish_step()
        return counts

    def beliefs(self) -> dict[Sequence, Tensor]:
        """See `speculative_steps.Proposer`."""
        return self._beliefs

    def finish_step(self) -> None:
        """See `speculative_steps.Proposer`."""
        self._q[: self._used].zero_()
        self._used = 0
        self._beliefs.clear()

    def _follow(self, works: Items[Work]) -> dict[Sequence, Tensor]:
        """Compute known ids that the draft lacks; returns logits of those that lack none now."""
        spans: dict[Sequence, Span] = {}
        left = self._catch_up
        for work in works:
            sequence = work.sequence
            known = min(work.start + work.length, sequence.length)
            count = min(known - sequence.drafted, left)
            if count > 0:
                spans[sequence] = Span(sequence.blocks, sequence.drafted, count)
                left -= count
        return self._step(spans)

    def _advance(self, sequences: Items[Sequence], ahead: int) -> dict[Sequence, Tensor]:
        """Compute the proposals last drawn; returns the logits that follow them."""
        position = ahead - 1
        return self._step(
            {each: Span(each.blocks, each.length + position, 1) for each in sequences}
        )

    def _step(self, spans: dict[Sequence, Span]) -> dict[Sequence, Tensor]:
        self._device.finish_step()
        if not spans:
            return {}
        parts, wanted, rows = [], [], 0
        for sequence, span in spans.items():
            parts.append(self._trusted.ids(sequence, span.start, span.context))
            rows += span.length
            sequence.drafted = span.context
            if span.context >= sequence.length:
                wanted.append((sequence, rows - 1))
        ids = torch.cat(parts)
        last_rows = [row for _, row in wanted]
        output = self._device.step(StepInput(ids, list(spans.values()), last_rows))
        ids.zero_()
        return {sequence: output.logits[i] for i, (sequence, _) in enumerate(wanted)}

    def _reserve(self, counts: dict[Sequence, int]) -> None:
        for sequence, count in counts.items():
            if self._trusted.row(sequence).greedy:
                continue
            self._beliefs[sequence] = self._q[self._used : self._used + count]
            self._used += count

    def _draw(self, sequence: Sequence, ahead: int, logits: Tensor) -> None:
        """Draw the proposal `ahead` positions behind the known ids."""
        row = self._trusted.row(sequence, ahead)
        adjust(logits, row)
        # A draft that has nothing to say proposes id 0 for certain; the rule holds for any q.
        q = probabilities(logits.nan_to_num_(nan=float("-inf")), row).nan_to_num_()
        if not bool(q.any()):
            q[0] = 1.0
        draw = uniform(row.params.seed, row.position, "proposal")
        chosen = q.argmax() if row.greedy else invert(q[None], torch.tensor([draw]).double())[0]
        self._trusted.table(sequence)[ahead] = chosen
        if sequence in self._beliefs:
            self._beliefs[sequence][ahead] = q
