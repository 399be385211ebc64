"""The engine with checks and without, in turns: rates of decoding. Not emulated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from engine.config import EngineConfig
from engine.loader import load
from sottovoce.bench.engine_ours import Ours

_PROMPT = 32
_MODES = ("none", "audit")

Overhead = tuple[int, str, list[float], list[float]]
"""Batch, mode, parts of the rate without checks that are lost, and rates."""


def overheads(
    folder: Path, batches: Sequence[int], rounds: int, decoded: int
) -> Iterator[Overhead]:
    """Yield, of each batch, what checking costs.

    Args:
        folder: of the model.
        batches: sequences decoded together.
        rounds: of each engine, in turns.
        decoded: steps a round.
    """
    engines = {mode: _engine(folder, mode) for mode in _MODES}
    for batch in batches:
        prompts = [[2 + i + batch * j for j in range(_PROMPT)] for i in range(batch)]
        rates: dict[str, list[float]] = {mode: [] for mode in _MODES}
        for _ in range(rounds + 1):
            for mode, engine in engines.items():
                rates[mode].append(engine.decoders(prompts, decoded)[""]().rate)
        plain = rates.pop("none")[1:]  # the first round warms up
        for mode, found in rates.items():
            lost = [1 - own / other for own, other in zip(found[1:], plain, strict=True)]
            yield batch, mode, lost, found[1:]


def _engine(folder: Path, mode: str) -> Ours:
    config = EngineConfig(folder, verification=mode)
    return Ours(config, load(config))
