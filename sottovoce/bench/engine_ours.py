"""Our engine in this process: slots, and steps between them, as `engine.process` drives both."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor

from engine.build import build
from engine.config import EngineConfig
from engine.loader import LoadedModel
from engine.native.model import NativeModel
from engine.native.weights import PackedWeights
from engine.slot import Slot
from engine.types import EngineState, SamplingParams
from sottovoce.bench.engine_rounds import BenchFailed, LeftOut, Prompts, Run, Way

_SCOPE = "bench"


class Ours:
    """One engine over a loaded model. Verification is off, the sampler beside the logits."""

    def __init__(self, config: EngineConfig, loaded: LoadedModel) -> None:
        self.config, self.loaded = config, loaded
        self._engine, self.geometry = build(config, loaded, _nobody)
        self._submitted = 0

    def decoders(self, prompts: Prompts, count: int) -> Mapping[str, Way]:
        """See `Decoder`."""
        return {"": lambda: self._decode(prompts, count)}

    def prefills(self, prompt: Sequence[int]) -> Mapping[str, Way]:
        """See `Prefiller`."""
        return {"": lambda: self._prefill(prompt)}

    def step(self) -> None:
        """Run one step.

        Raises:
            BenchFailed: nothing could run.
        """
        if not self._engine.step():
            raise BenchFailed("the engine has nothing to do")

    @contextmanager
    def streams(
        self, prompts: Prompts, params: SamplingParams, before: Callable[[Slot], None] | None = None
    ) -> Iterator[list[Slot]]:
        """Submit prompts together; afterwards their sequences end, whatever they are at.

        `before` is called with each slot before it is submitted (to set a mask).

        Raises:
            BenchFailed: the engine gave one of them up.
        """
        slots = []
        keys = range(self._submitted, self._submitted + len(prompts))
        self._submitted = keys.stop
        try:
            for key, prompt in zip(keys, prompts, strict=True):
                slots.append(Slot.create(self.geometry))
                self._engine.register(key, slots[-1])
                if before is not None:
                    before(slots[-1])
                slots[-1].submit(prompt, params, group=key, index_in_group=0)
            for key in keys:
                self._engine.look(key, _SCOPE)
            yield slots
            if any(slot.state is EngineState.FAILED for slot in slots):
                raise BenchFailed("the engine gave up a sequence")
        finally:
            for key, _ in zip(keys, slots, strict=False):
                self._engine.drop(key)

    def until_all_began(self, slots: Sequence[Slot]) -> None:
        """Run steps until every slot has an id."""
        while not all(slot.sampled for slot in slots):
            self.step()

    def _decode(self, prompts: Prompts, count: int) -> Run:
        # Prompts computed in several steps have had some ids more before the last one begins.
        room = count + len(prompts) + 1
        with self.streams(prompts, greedy(room)) as slots:
            self.until_all_began(slots)
            before = sum(slot.sampled for slot in slots)
            started = time.perf_counter()
            for _ in range(count):
                self.step()
            seconds = time.perf_counter() - started
            decoded = sum(slot.sampled for slot in slots) - before
            if decoded != count * len(prompts):
                raise BenchFailed("a step did not decode one id a sequence")
            return Run(decoded / seconds, _first_ids(slots))

    def _prefill(self, prompt: Sequence[int]) -> Run:
        # Two ids: erasing what has ended is no part of the time to the first.
        with self.streams([prompt], greedy(2)) as slots:
            started = time.perf_counter()
            self.until_all_began(slots)
            seconds = time.perf_counter() - started
            return Run(len(prompt) / seconds, _first_ids(slots))


def greedy(count: int) -> SamplingParams:
    """So many ids, each the most likely one, whatever ends a text."""
    return SamplingParams(count, temperature=0.0, ignore_eos=True)


def read_bytes(loaded: LoadedModel) -> int:
    """Return the bytes of weights that a step with one row reads: all that are multiplied with.

    Raises:
        LeftOut: the model is not computed by the compiled library, whose weights these are.
    """
    return sum(
        part.nbytes
        for packed in _parts(_native(loaded), PackedWeights)
        for part in (packed.values, packed.scales)
        if part is not None
    )


def held_bytes(loaded: LoadedModel) -> int:
    """Return the bytes of all tensors of a model, its table of embeddings included.

    Raises:
        LeftOut: the model is not computed by the compiled library.
    """
    return sum(tensor.nbytes for tensor in _parts(_native(loaded), Tensor))


def _native(loaded: LoadedModel) -> NativeModel:
    if not isinstance(loaded.computation, NativeModel):
        raise LeftOut("the compiled library does not compute this model here")
    return loaded.computation


def _parts(value: Any, kind: type[Any]) -> Iterator[Any]:  # noqa: ANN401 - whatever a model is made of
    if isinstance(value, kind):
        yield value
    elif is_dataclass(value):
        for field in fields(value):
            yield from _parts(getattr(value, field.name), kind)
    elif isinstance(value, tuple | list):
        for each in value:
            yield from _parts(each, kind)


def _first_ids(slots: Sequence[Slot]) -> tuple[int, ...]:
    return tuple(slot.ids(0, 1)[0] for slot in slots)


def _nobody(_key: int) -> None:
    """Nobody waits for changes: the bench looks by itself."""
