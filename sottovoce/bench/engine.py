"""`bench engine`: our engine against what a user would run instead, on the same weights.

Verification is off and the sampler beside the logits. Contestants take turns in one run
(`engine_rounds`), llama.cpp in child processes; the machine's limits take their turns among them.
A case is the ratio of two medians, above 1 where we are faster.

    engine_field.py      who takes part: engine_ours.py, engine_transformers.py, engine_llama.py
    engine_cases.py      decoding and prompts; engine_roofline.py the machine's limits
    engine_sweeps.py     the rest: engine_latency.py, engine_grammar.py
    engine_gguf.py, engine_llama_child.py    programs for an interpreter that has llama.cpp
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sottovoce.bench import engine_sweeps as sweeps
from sottovoce.bench.engine_cases import (
    QUICK,
    TINY,
    Cases,
    EngineSizes,
    decode_comparisons,
    prefill_comparisons,
    say_left_out,
)
from sottovoce.bench.engine_field import Field, Setting
from sottovoce.bench.engine_rounds import LeftOut
from sottovoce.bench.line import Line
from sottovoce.bench.random_model import HALF_B, TINY_10M, Shape, write_random_model
from sottovoce.models import choose_model

SHAPES = {"0.5b": HALF_B, "tiny10m": TINY_10M}

Wanted = Callable[[str], bool]


@dataclass(frozen=True)
class Experiment:
    """Cases that are measured together."""

    cases: tuple[str, ...]
    lines: Callable[[Cases, Wanted], Iterator[Line]]


def experiments(sizes: EngineSizes) -> Iterator[Experiment]:
    """Yield everything that is measured, in its order."""
    for batch in sizes.batches:
        names = tuple(each.case for each in decode_comparisons(batch))
        yield Experiment(names, partial(_decode, batch))
    for length in sizes.prompts:
        names = tuple(dict.fromkeys(each.case for each in prefill_comparisons()))
        yield Experiment(names, partial(_prefill, length))
    yield Experiment(("stall", "sweep stall", "sweep chunk"), _without(sweeps.stall))
    first = ("sweep time to first token", "sweep inter-token latency")
    yield Experiment((*first, "sweep longest inter-token latency"), _without(sweeps.mixed_load))
    yield Experiment(("sweep grammar overhead",), _without(sweeps.grammar))
    yield Experiment(("sweep n-gram speculation",), _without(sweeps.speculation))
    yield Experiment(("sweep weights",), _without(sweeps.weights))
    yield Experiment(("sweep read bandwidth", "sweep matmul rate bf16"), _without(sweeps.roofline))


def sizes_for(shape_name: str, *, quick: bool) -> EngineSizes:
    """Return how much is measured of a shape."""
    if quick:
        return QUICK
    return TINY if shape_name == "tiny10m" else EngineSizes()


def measure(
    sizes: EngineSizes,
    name: str,
    shape: Shape,
    *,
    threads: int,
    llama: str | None = None,
    only: str = "",
) -> Iterator[Line]:
    """Yield the lines of `bench engine` as they are measured.

    Args:
        sizes: how much is measured.
        name: of the shape, for people.
        shape: of the model; its weights are random, and in a temporary folder.
        threads: compute threads of every contestant.
        llama: a Python interpreter that has llama-cpp-python and gguf; None leaves its cases out.
        only: measure only the cases whose name begins so, and what is measured with them.
    """
    with tempfile.TemporaryDirectory(prefix="sottovoce-bench-") as temporary:
        folder = Path(temporary) / f"random-{name}"
        write_random_model(folder, shape, choose_model(None).folder)
        setting = Setting(folder, f"{name} shape", shape, threads, llama)
        with Field(setting) as contestants:
            cases = Cases(sizes, contestants)
            for experiment in experiments(sizes):
                yield from _wanted_lines(experiment, cases, only)


def _wanted_lines(experiment: Experiment, cases: Cases, only: str) -> Iterator[Line]:
    names = [name for name in experiment.cases if name.startswith(only)]
    if not names:
        return
    try:
        yield from experiment.lines(cases, lambda case: case.startswith(only))
    except LeftOut as reason:
        say_left_out(names, reason)


def _decode(batch: int, cases: Cases, wanted: Wanted) -> Iterator[Line]:
    return cases.decode(batch, wanted)


def _prefill(length: int, cases: Cases, wanted: Wanted) -> Iterator[Line]:
    return cases.prefill(length, wanted)


def _without(lines: Callable[[Cases], Iterator[Line]]) -> Callable[[Cases, Wanted], Iterator[Line]]:
    """Make an experiment of one whose cases are all measured or none."""
    return lambda cases, _wanted: lines(cases)
