"""A device that lies in some of its steps, and is honest in the others."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engine.device import StepInput, StepOutput
from engine.kv_cache import KVPool
from engine.native.model import NativeModel
from engine.verification.plain_decoder import Hands, PlainDecoder, Products
from sottovoce.bench.verify_lies import Answer, Lie


@dataclass
class Liar:
    """A `Device` (`engine.device`) over the plain decoder.

    Attributes:
        steps: which steps are lied in, counted from 0.
        count: how many were computed.
    """

    model: NativeModel
    products: Products
    pool: KVPool
    lie: Lie
    steps: Callable[[int], bool]
    count: int = 0

    def __post_init__(self) -> None:
        """Make both decoders."""
        hands = Hands(self.lie.touch, self.lie.tell)
        others = self.lie.products(self.products)
        self._lying = PlainDecoder(self.model, others, self.pool, hands)
        self._honest = PlainDecoder(self.model, self.products, self.pool)
        self._before: Answer | None = None

    def step(self, batch: StepInput) -> StepOutput:
        """See `engine.device.Device`."""
        if self.steps(self.count):
            answer = self._lying.step(self.lie.inputs(batch))
            answer = self.lie.answers(self._before or answer, answer)
        else:
            answer = self._honest.step(batch)
        self.count += 1
        self._before = copy.deepcopy(answer)  # what T closes is zeroed
        logits, told = answer
        return StepOutput(logits, told)

    def finish_step(self) -> None:
        """See `engine.device.Device`; nothing of a test's is worth zeroing."""

    def copy_blocks(self, source: Sequence[int], target: Sequence[int]) -> None:
        """See `engine.device.Device`."""
        self.pool.copy(source, target)

    def zero_blocks(self, blocks: Sequence[int]) -> None:
        """See `engine.device.Device`."""
        self.pool.zero(blocks)
