"""What n-grams of the request gain on text that repeats itself, and cost on text that does not.

Two engines over one loaded model, with speculation and without, take turns at the same request.
The figure is a ratio of times taken in turns; steps do not depend on the machine at all.

A model with random weights says nothing that repeats its prompt. Where one is measured, the text
repeats because it is made to: decoding is greedy and `logit_bias` leaves a few ids, of which the
model makes circles; the model's step and T's work are those of any other text.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from engine.build import build
from engine.config import EngineConfig
from engine.core import Engine
from engine.loader import LoadedModel
from engine.slot import Slot, SlotGeometry
from engine.types import SamplingParams

_PERIOD = 48
"""Ids of the prompt that come again and again."""
_FORCED = tuple((token, 100.0) for token in range(1000, 1004))


@dataclass(frozen=True)
class Run:
    """One request, decoded."""

    ids: tuple[int, ...]
    steps: int
    seconds: float


@dataclass(frozen=True)
class Comparison:
    """The same request without speculation and with it, a pair a round."""

    plain: tuple[Run, ...]
    speculative: tuple[Run, ...]

    @property
    def ratios(self) -> tuple[float, ...]:
        """How many times faster each pair's second run was."""
        pairs = zip(self.plain, self.speculative, strict=True)
        return tuple(one.seconds / other.seconds for one, other in pairs)

    @property
    def steps(self) -> float:
        """Steps of a run without over steps of one with."""
        return self.plain[0].steps / self.speculative[0].steps

    @property
    def unchanged(self) -> bool:
        """Both drew the same ids. In bfloat16 near ties may differ: see `engine.device`."""
        return len({run.ids for run in (*self.plain, *self.speculative)}) == 1


def repetitive(*, forced: bool, count: int = 256) -> tuple[list[int], SamplingParams]:
    """Return a request whose text repeats itself.

    Args:
        forced: for random weights, see above; a trained model continues the prompt by itself.
        count: ids to decode.
    """
    prompt = [1000 + i * 37 % 997 for i in range(_PERIOD)] * 4
    bias = _FORCED if forced else ()
    return prompt, SamplingParams(count, temperature=0.0, logit_bias=bias, ignore_eos=True)


def unrelated(*, count: int = 256) -> tuple[list[int], SamplingParams]:
    """Return a request whose text, drawn from random weights, does not repeat itself."""
    prompt = [1000 + i * i * 37 % 997 for i in range(4 * _PERIOD)]
    return prompt, SamplingParams(count, temperature=1.0, seed=7, ignore_eos=True)


def compare(
    config: EngineConfig,
    loaded: LoadedModel,
    request: tuple[list[int], SamplingParams],
    *,
    rounds: int = 3,
    clock: Callable[[], float] = time.perf_counter,
) -> Comparison:
    """Decode `request` without and with n-grams, in turns; only decoding is timed."""
    runs: dict[str, list[Run]] = {"none": [], "ngram": []}
    engines = {kind: build(replace(config, speculation=kind), loaded, _nobody) for kind in runs}
    for _ in range(rounds):
        for kind, (engine, geometry) in engines.items():
            runs[kind].append(_decode(engine, geometry, request, clock))
    return Comparison(tuple(runs["none"]), tuple(runs["ngram"]))


def _decode(
    engine: Engine,
    geometry: SlotGeometry,
    request: tuple[list[int], SamplingParams],
    clock: Callable[[], float],
) -> Run:
    with _submitted(engine, geometry, request) as slot:
        while not slot.sampled:
            engine.step()
        start, steps = clock(), 0
        while engine.busy:
            engine.step()
            steps += 1
        return Run(tuple(slot.ids(0, slot.sampled)), steps, clock() - start)


@contextmanager
def _submitted(
    engine: Engine, geometry: SlotGeometry, request: tuple[list[int], SamplingParams]
) -> Iterator[Slot]:
    slot = Slot.create(geometry)
    engine.register(_KEY, slot)
    slot.submit(*request, group=0, index_in_group=0)
    engine.look(_KEY, _KEY)
    try:
        yield slot
    finally:
        engine.drop(_KEY)


_KEY = "bench"


def _nobody(_key: str) -> None:
    """Nobody waits for changes: the loop looks by itself."""
