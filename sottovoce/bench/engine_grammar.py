"""What a grammar costs: an answer under a JSON schema against the same one without.

The bench is the capsule: after each step it brings the grammar to the id drawn and sets the mask
of the next one, through the slot. Here that happens between steps, one stream after another;
capsules do it in processes of their own, all at once, but each has to be woken.
"""

from __future__ import annotations

import time
from pathlib import Path

from engine.slot import Slot
from engine.types import SamplingParams
from server.openai.grammar import Constraint, Matcher, schema_constraint
from server.openai.model_files import ModelFiles
from server.openai.tokenizer import Tokenizer
from sottovoce.bench.engine_ours import Ours
from sottovoce.bench.engine_rounds import BenchFailed, Prompts, Run

_SCHEMA = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["title", "tags"],
    "additionalProperties": False,
}


class Grammar:
    """A schema compiled for one model's tokenizer."""

    def __init__(self, folder: Path, vocab_size: int) -> None:
        self._tokenizer = Tokenizer(ModelFiles.load(folder), vocab_size)
        self._constraint = schema_constraint(self._tokenizer, _SCHEMA, strict=True)

    def decode(self, engine: Ours, prompts: Prompts, count: int, *, constrained: bool) -> Run:
        """Draw `count` ids after each prompt's first, under the grammar or without."""
        params = _params(count + len(prompts) + 1, constrained=constrained)
        capsules: list[_Capsule] = []

        def begin(slot: Slot) -> None:
            if constrained:
                capsules.append(_Capsule(slot, self._constraint, self._tokenizer.eos_ids))

        def step() -> None:
            engine.step()
            for capsule in capsules:
                capsule.look()

        with engine.streams(prompts, params, begin) as slots:
            while not all(slot.sampled for slot in slots):
                step()
            before = sum(slot.sampled for slot in slots)
            started = time.perf_counter()
            for _ in range(count):
                step()
            seconds = time.perf_counter() - started
            decoded = sum(slot.sampled for slot in slots) - before
            if decoded != count * len(prompts):
                raise BenchFailed("a step did not draw one id a sequence")
            return Run(decoded / seconds)


def _params(count: int, *, constrained: bool) -> SamplingParams:
    return SamplingParams(count, temperature=1.0, seed=1, ignore_eos=True, constrained=constrained)


class _Capsule:
    """What a capsule does for one constrained slot. An answer that is complete begins anew."""

    def __init__(self, slot: Slot, constraint: Constraint, eos_ids: tuple[int, ...]) -> None:
        self._slot, self._constraint, self._eos_ids = slot, constraint, eos_ids
        self._consumed = 0
        self._matcher = constraint.start()
        self._allow()

    def look(self) -> None:
        """Take the ids that are new, and say what may follow."""
        sampled = self._slot.sampled
        if sampled == self._consumed:
            return
        for token in self._slot.ids(self._consumed, sampled):
            self._matcher = self._after(token)
        self._consumed = sampled
        self._allow()

    def _after(self, token: int) -> Matcher:
        if token in self._eos_ids:
            return self._constraint.start()
        self._matcher.consume(token)
        return self._matcher

    def _allow(self) -> None:
        mask = self._matcher.mask()[: self._slot.geometry.mask_size]
        self._slot.set_mask(self._consumed + 1, mask)
