"""Which rows run in the next step. First come, first served; numbers only, no ids, no memory.

- Sequences being decoded come first, a row each; prompts are cut into chunks that share the step.
- A sequence is admitted with blocks for all of its known ids, and is promised, while nobody needs
  them, the blocks behind them too: its cache then grows in place and stays one run.
- When blocks run out, promised ones are taken back first; then the youngest sequence is preempted:
  its blocks are zeroed and it is computed again later, from the ids it has. Where there is an
  `Outside`, its blocks go there first, and what comes back need not be computed.
- Nobody overtakes, with one exception: a sequence of a group waits for the first of its group to
  have computed their common prompt, and lets others pass meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from collections.abc import Sequence as Items
from dataclasses import dataclass, field
from typing import Protocol

from engine.blocks import BlockAllocator
from engine.errors import EngineError, OutOfBlocks
from engine.slot import Slot
from engine.speculative import Pace
from engine.types import SamplingParams

_FEWEST = 32
"""Prompt rows of a step, at least, however long their context."""


@dataclass(eq=False)
class Sequence:
    """One request for ids, on its way through the engine. Holds lengths, never ids."""

    slot: Slot
    params: SamplingParams
    prompt_length: int
    limit: int
    """Prompt and output together never exceed this."""
    group: Hashable
    arrival: int
    key: Hashable = None
    row: int | None = None
    """T's row for its ids, once admitted; kept through preemption."""
    sampled: int = 0
    computed: int = 0
    """Positions whose K and V are in the pool."""
    touched: int = 0
    """Positions whose K and V may be in the pool, a failed step included."""
    outside: int = 0
    """Positions whose K and V left the pool and may come back."""
    drafted: int = 0
    """Positions whose K and V, of known ids, are in the draft model's pool."""
    blocks: list[int] = field(default_factory=list)
    pace: Pace = field(default_factory=Pace)

    @property
    def length(self) -> int:
        """Known ids: the prompt's and the sampled ones."""
        return self.prompt_length + self.sampled

    @property
    def scoring(self) -> bool:
        """Its prompt's logprobs are wanted, so every prompt row needs logits."""
        return self.params.prompt_logprobs >= 0 and self.sampled == 0

    @property
    def ready(self) -> bool:
        """Its next id may be sampled: the mask it needs is there."""
        return not self.params.constrained or self.slot.mask_for == self.sampled + 1

    @property
    def computable(self) -> int:
        """Rows that could run now. The last known id's row is the one that is sampled from."""
        rest = self.length - self.computed
        return rest if self.ready else rest - 1


@dataclass(frozen=True)
class Work:
    """Rows of one sequence in one step: positions start .. start + length - 1."""

    sequence: Sequence
    start: int
    length: int
    proposed: int = 0
    """Its last rows, whose ids are only proposed (`engine.speculative`)."""

    @property
    def samples(self) -> bool:
        """Its last row but the proposed is that of the last known id: it is sampled from."""
        return self.start + self.length - self.proposed == self.sequence.length

    @property
    def logit_rows(self) -> int:
        """How many of its rows need logits; always its last ones."""
        return self.length if self.sequence.scoring else (1 + self.proposed) * self.samples


@dataclass(frozen=True)
class Copy:
    """A sequence takes over the K and V of its prompt from the first of its group."""

    sequence: Sequence
    first: Sequence
    """Of the group."""
    source: list[int]
    target: list[int]


@dataclass(frozen=True)
class Plan:
    """What the next step does."""

    works: list[Work]
    """Single rows in order of their first block, then prompt chunks in order of arrival."""
    admitted: list[Sequence]
    """Sequences of `works` that run for the first time."""
    copies: list[Copy]
    """What a group's newcomers take over before the step."""
    failed: list[Sequence] = field(default_factory=list)
    """Sequences whose K and V came back as something else: they have to end."""


class Outside(Protocol):
    """Where blocks of preempted sequences stay; `engine.offload.offload.Offload` is one."""

    def leave(self, key: Sequence, blocks: Items[int]) -> None:
        """Take blocks, the first ones if there is no room for all; done on return."""
        ...

    def expect(self, keys: Items[Sequence]) -> None:
        """These come back next, in this order."""
        ...

    def come_back(self, key: Sequence, blocks: Items[int]) -> int:
        """Write what was taken into `blocks`; return how many of them, the first ones, are there.

        Raises:
            EngineError: it is not what was taken; a part may be there.
        """
        ...

    def forget(self, key: Sequence) -> None:
        """Erase what is there of a sequence, if anything."""
        ...


class Scheduler:
    """Decides steps over one allocator; `zero` must zero blocks before it returns."""

    def __init__(
        self,
        allocator: BlockAllocator,
        zero: Callable[[list[int]], None],
        *,
        block_size: int,
        max_sequences: int,
        max_batch_tokens: int,
        max_mixed_tokens: int,
        prompt_logit_rows: int,
        horizon: float = math.inf,
        share_within: int | None = None,
        outside: Outside | None = None,
    ) -> None:
        """Decide steps.

        Args:
            allocator: of the pool.
            zero: zeroes blocks before it returns.
            block_size: positions of a block.
            max_sequences: that hold blocks at a time.
            max_batch_tokens: prompt rows of a step.
            max_mixed_tokens: prompt rows of a step that also decodes.
            prompt_logit_rows: rows of a step for prompt logprobs.
            horizon: positions at which a row's attention costs as much as all else of it. Beside
                streams a prompt's later rows are fewer a step, for they are dearer.
            share_within: a prompt is taken over only from a sequence with at most so many ids of
                its own; None: from any.
            outside: where blocks of preempted sequences stay; None: nowhere.
        """
        self._outside = outside
        self._share_within = share_within
        self._horizon = horizon
        self._allocator = allocator
        self._zero = zero
        self._block_size = block_size
        self._max_sequences = max_sequences
        self._max_batch_tokens = max_batch_tokens
        self._max_mixed_tokens = max_mixed_tokens
        self._prompt_logit_rows = prompt_logit_rows
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence, behind everyone who came earlier."""
        self.waiting.append(sequence)
        self.waiting.sort(key=lambda each: each.arrival)

    def remove(self, sequence: Sequence) -> None:
        """Forget a sequence, wherever it is; its blocks are zeroed and free on return."""
        for queue in (self.waiting, self.running):
            if sequence in queue:
                queue.remove(sequence)
        self._release(sequence)
        sequence.outside = 0
        if self._outside is not None:
            self._outside.forget(sequence)

    def schedule(self) -> Plan:
        """Plan the next step; an empty plan means that everyone waits for a capsule."""
        rows: list[Work] = []
        for sequence in self._in_order():
            single = sequence.length - sequence.computed == 1 and not sequence.scoring
            alive = sequence in self.running  # a neighbour's growth may have preempted it
            if alive and single and sequence.ready and self._grow(sequence):
                rows.append(self._work(sequence, 1))
        rows.sort(key=lambda work: work.sequence.blocks[0])
        if rows:
            budget = _Budget(self._max_mixed_tokens, self._prompt_logit_rows, self._horizon)
        else:
            budget = _Budget(self._max_batch_tokens, self._prompt_logit_rows)
        planned = {work.sequence for work in rows}
        chunks = [
            self._work(sequence, count)
            for sequence in self._in_order()
            if sequence not in planned and (count := budget.take(sequence))
        ]
        plan = Plan(rows + chunks, [], [])
        self._admit(budget, plan)
        if self._outside is not None:
            self._outside.expect([each for each in self.waiting if each.outside])
        return plan

    def _in_order(self) -> list[Sequence]:
        return sorted(self.running, key=lambda each: each.arrival)

    def _admit(self, budget: _Budget, plan: Plan) -> None:
        """Add those to the plan who can begin, or go on."""
        for sequence in list(self.waiting):
            if len(self.running) >= self._max_sequences or not budget.tokens:
                break
            first = self._first_of_group(sequence)
            if first is not None and first.computed < sequence.prompt_length - 1:
                continue
            if not self._allocate(sequence):
                break
            self.waiting.remove(sequence)
            self.running.append(sequence)
            if not self._come_back(sequence):
                plan.failed.append(sequence)
                continue
            if sequence.row is None:
                plan.admitted.append(sequence)
            if first is not None:
                plan.copies.append(self._take_over(sequence, first))
            if count := budget.take(sequence):
                plan.works.append(self._work(sequence, count))

    def _take_over(self, sequence: Sequence, first: Sequence) -> Copy:
        """Let a sequence begin with the prompt of the first of its group."""
        shared = self._blocks(sequence.prompt_length - 1)
        sequence.computed = sequence.prompt_length - 1
        sequence.touched = shared * self._block_size
        sequence.drafted = min(first.drafted, sequence.computed)
        return Copy(sequence, first, first.blocks[:shared], sequence.blocks[:shared])

    def _come_back(self, sequence: Sequence) -> bool:
        """Fetch what is outside of a sequence; False if it is not what had left."""
        if self._outside is None or not sequence.outside:
            return True
        wanted, sequence.outside = sequence.outside, 0
        placed = sequence.blocks[: self._blocks(wanted)]
        sequence.touched = len(placed) * self._block_size  # however far it came
        try:
            back = self._outside.come_back(sequence, placed)
        except EngineError:
            return False
        sequence.computed = min(wanted, back * self._block_size)
        return True

    def _first_of_group(self, sequence: Sequence) -> Sequence | None:
        """Return a running sequence whose prompt computation can be taken over, if any."""
        if sequence.sampled or sequence.scoring or sequence.outside:
            return None
        for other in self.running:
            if self._share_within is not None and other.sampled > self._share_within:
                continue
            if other.group == sequence.group and other.prompt_length == sequence.prompt_length:
                return other
        return None

    def _work(self, sequence: Sequence, count: int) -> Work:
        work = Work(sequence, sequence.computed, count)
        sequence.touched = max(sequence.touched, sequence.computed + count)
        return work

    def _allocate(self, sequence: Sequence) -> bool:
        needed, wanted = self._blocks(sequence.length), self._blocks(sequence.limit)
        self._take_back(needed - self._allocator.free)
        try:
            sequence.blocks = self._allocator.allocate(needed, wanted)
        except OutOfBlocks:
            return False
        return True

    def _grow(self, sequence: Sequence) -> bool:
        """Make sure of a block for the last known id; False if the sequence was preempted."""
        while (missing := self._blocks(sequence.length) - len(sequence.blocks)) > 0:
            self._take_back(missing - self._allocator.free)
            try:
                self._allocator.extend(sequence.blocks, missing)
            except OutOfBlocks:
                youngest = self._in_order()[-1]
                self._preempt(youngest)
                if youngest is sequence:
                    return False
        return True

    def _take_back(self, count: int) -> None:
        """Free up to `count` blocks that are promised but not needed yet, youngest owner first."""
        for sequence in reversed(self._in_order()):
            if count <= 0:
                return
            spare = sequence.blocks[max(self._blocks(sequence.length), 1) :][-count:]
            if spare:
                self._clean(sequence, len(sequence.blocks) - len(spare))
                del sequence.blocks[-len(spare) :]
                self._allocator.release(spare)
                count -= len(spare)

    def _clean(self, sequence: Sequence, first: int) -> None:
        """Zero what rejected proposals left in the blocks from `first` on."""
        dirty = sequence.blocks[first : self._blocks(sequence.touched)]
        if dirty:
            self._zero(dirty)
            sequence.touched = first * self._block_size

    def _preempt(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        if self._outside is not None and sequence.computed:
            self._outside.leave(sequence, sequence.blocks[: self._blocks(sequence.computed)])
            sequence.outside = sequence.computed
        self._release(sequence)
        self.add(sequence)

    def _release(self, sequence: Sequence) -> None:
        if sequence.touched:
            self._zero(sequence.blocks[: self._blocks(sequence.touched)])
        self._allocator.release(sequence.blocks)
        sequence.blocks = []
        sequence.computed = sequence.touched = sequence.drafted = 0

    def _blocks(self, tokens: int) -> int:
        return -(-tokens // self._block_size)


@dataclass
class _Budget:
    """What is left of one step for prompt rows."""

    tokens: int
    scored: int
    """Rows of prompts whose logprobs are wanted."""
    horizon: float = math.inf
    """See `Scheduler`."""
    _work: float = field(init=False)

    def __post_init__(self) -> None:
        self._work = self.tokens * self._dearness(0, self.tokens)

    def take(self, sequence: Sequence) -> int:
        """Return how many of the sequence's rows join the step."""
        count = min(sequence.computable, self.tokens)
        if sequence.scoring:
            count = min(count, self.scored)
            self.scored -= count
        dearness = self._dearness(sequence.computed, count)
        if count * dearness > self._work:
            count = min(count, max(_FEWEST, int(self._work / dearness)))
            self.tokens = count
        self._work -= count * dearness
        self.tokens -= count
        return count

    def _dearness(self, start: int, count: int) -> float:
        """What a row costs from `start` on, on average, in rows without a context."""
        return 1 + (start + count / 2) / self.horizon
