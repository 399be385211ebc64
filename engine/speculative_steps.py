"""Where speculation meets the step: rows are added to it before, lengths corrected after."""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Sequence as Items
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from engine.attention import Span
from engine.device import Device, StepInput
from engine.sampler import Row, sample
from engine.scheduler import Sequence, Work
from engine.speculative import MAX_PROPOSED, Budget, Costs
from engine.types import SamplingParams

_MEASURED = (1, 2, 4, 5, 8, 9, 16, 17, 32)
"""Rows of the steps that are timed: on both sides of where the compiled kernels change."""
_ROUNDS = range(2, 6)
"""How often: at least, and at most where that takes less than `_PATIENCE`."""
_PATIENCE = 1.0


class Proposer(Protocol):
    """Who knows what may come next. T's side: it sees ids."""

    def propose(
        self, works: Items[Work], rooms: dict[Sequence, int], budget: Budget
    ) -> dict[Sequence, int]:
        """Write proposals behind the known ids of sequences, and say how many.

        Args:
            works: what the step does anyhow, in order.
            rooms: the sequences that may be proposed for, and how many ids at most.
            budget: what rows there are; what is proposed must be spent.
        """
        ...

    def beliefs(self) -> dict[Sequence, Tensor]:
        """Return what proposals were drawn from, [proposed, vocab]; not for those simply named."""
        ...

    def finish_step(self) -> None:
        """Zero what the step left with the proposer."""
        ...


class Speculation:
    """Adds rows for proposed ids to steps, and learns what became of them."""

    def __init__(
        self, proposer: Proposer, costs: Costs, draft: Costs | None = None, *, block_size: int
    ) -> None:
        self.proposer = proposer
        self._costs = costs
        self._draft = draft
        self._block_size = block_size

    def widen(self, works: list[Work]) -> list[Work]:
        """Return the step's works with rows for proposals: single rows, wider ones, chunks.

        Proposals get no block that their sequence did not have, and no row of another's.
        """
        rooms = {each.sequence: room for each in works if (room := self._room(each)) > 0}
        for sequence, room in rooms.items():
            sequence.touched = max(sequence.touched, sequence.length + room)
        budget = Budget(
            self._costs,
            self._draft,
            rows=sum(work.length for work in works),
            sequences=sum(work.samples for work in works),
        )
        counts = self.proposer.propose(works, rooms, budget)
        if not counts:
            return works
        wide = [
            replace(work, length=1 + count, proposed=count)
            for work in works
            if (count := counts.get(work.sequence, 0))
        ]
        singles = [work for work in works if work.sequence not in counts and work.length == 1]
        chunks = [work for work in works if work.length > 1]
        return singles + wide + chunks

    def settle(self, works: list[Work]) -> None:
        """Learn from a step that T has taken its ids of."""
        for work in works:
            sequence = work.sequence
            if work.proposed:
                sequence.pace.note(work.proposed, sequence.length - work.start - 2)
            sequence.drafted = min(sequence.drafted, sequence.length - 1)

    def _room(self, work: Work) -> int:
        """How many ids can be proposed for a work's sequence: for single decoded rows only."""
        sequence = work.sequence
        single = work.length == 1 and work.samples and sequence.sampled > 0
        if not single or sequence.params.constrained:
            return 0
        placed = len(sequence.blocks) * self._block_size
        # One id more than is accepted is drawn: the last position is never a proposal's.
        return min(MAX_PROPOSED, placed - sequence.length, sequence.limit - sequence.length - 1)


def measure(
    device: Device,
    *,
    vocab_size: int,
    slots: int,
    block_size: int,
    clock: Callable[[], float] = time.perf_counter,
) -> Costs:
    """Time steps of several rows, drawing from each, on an idle device; its pool is zeroed again.

    Args:
        device: whose pool nobody uses yet.
        vocab_size: of the ids drawn.
        slots: positions that the pool has.
        block_size: positions of a block.
        clock: seconds.
    """
    sizes = [rows for rows in _MEASURED if rows <= slots]
    blocks = list(range(-(-sizes[-1] // block_size)))

    def once(rows: int) -> float:
        start = clock()
        batch = StepInput(torch.arange(rows) % vocab_size, [Span(blocks, 0, rows)], range(rows))
        output = device.step(batch)
        sample(output.logits, [_ROW] * rows)
        if output.transcript is not None:
            output.transcript.close()
        device.finish_step()
        return clock() - start

    once(sizes[-1])  # what happens only the first time is not what a step costs
    began = clock()
    rounds: list[list[float]] = []
    while len(rounds) < _ROUNDS[0] or (len(rounds) < _ROUNDS[-1] and clock() - began < _PATIENCE):
        rounds.append([once(rows) for rows in sizes])
    device.zero_blocks(blocks)
    return Costs(sizes, [min(times) for times in zip(*rounds, strict=True)])


_ROW = Row(SamplingParams(max_new_tokens=1), 0, np.empty(0, np.int64), 0)
