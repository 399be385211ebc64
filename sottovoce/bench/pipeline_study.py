"""The table of the H100 confidential-computing study (arXiv 2409.03992), for our way. EMULATED.

What crosses with every step of an 8B-shaped model is really sealed and opened: ids to the device,
logits back, and, where the computation is verified, a transcript. The device's time is arithmetic
(an H100's bandwidth and rate), the link is `LinkFigures`, and the checks themselves are not here:
`bench verify` has them. Prompts are computed one after another, decoding goes in step.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from engine.transfer.predict import Never
from sottovoce.bench.line import Line, line
from sottovoce.bench.pipeline_world import LinkFigures, Mode, World

MODES: dict[str, Mode] = {
    "plain": "plain",
    "sealed": "naive",
    "sealed + pipelined": "pipelined",
    "sealed + pipelined + verified": "pipelined",
}
LENGTHS = {"short": (50, 50), "medium": (250, 250), "long": (1000, 500)}
"""Tokens of prompt and answer; the study's classes are <= 100, <= 500 and 501 to 1,500 in all."""
CONCURRENCIES = (1, 8, 32)

_WEIGHTS = 16.06e9
"""Bytes, read once a decoding step."""
_KV = 131_072
"""Bytes a token, over all layers."""
_BANDWIDTH, _RATE = 0.7 * 3.35e12, 0.5 * 989e12
"""Of an H100, as far as kernels reach them: bytes, and operations of 16 bits, a second."""
_UNIT = 512 << 10
"""One sequence's logits: 128,256 of four bytes."""
_DECODED, _PREFILLED = 6, 4
"""Units that a decoded token fills (the result of every product, 3 MB), and tokens of a prompt that
fill one:
of these only K and V cross."""
_IDS = 4 << 10
_TOGETHER = 32
"""Units of a transcript that cross at a time."""


@dataclass(frozen=True)
class Cell:
    """What a user sees, in one length, concurrency and mode."""

    ttft_s: float
    itl_s: float
    tps: float
    qps: float


def cell(length: str, concurrency: int, mode: str, steps: int) -> Cell:
    """Compute a cell from one prompt and a few decoding steps."""
    prompt, answer = LENGTHS[length]
    run = _Run(mode, concurrency)
    one = run.prefill(prompt)
    ttft = one * (concurrency + 1) / 2
    itl = run.decode(prompt + answer // 2, steps)
    run.world.close()
    took = ttft + (answer - 1) * itl
    return Cell(ttft, itl, concurrency * answer / took, concurrency / took)


def study(rounds: int, steps: int) -> Iterator[Line]:
    """Yield the table, modes in turns."""
    for length in LENGTHS:
        for concurrency in CONCURRENCIES:
            cells: dict[str, list[Cell]] = {mode: [] for mode in MODES}
            for _ in range(rounds):
                for mode, kept in cells.items():
                    kept.append(cell(length, concurrency, mode, steps))
            for mode, kept in cells.items():
                yield from _lines(f"{length} @ {concurrency} at a time, {mode}", kept)


def _lines(where: str, cells: list[Cell]) -> Iterator[Line]:
    for name, unit, scale in (("tps", "tok/s", 1.0), ("qps", "a second", 1.0),
                              ("ttft_s", "ms", 1e3), ("itl_s", "ms", 1e3)):  # fmt: skip
        values = [scale * getattr(each, name) for each in cells]
        case = f"sweep study {name.removesuffix('_s').upper()} {where}"
        yield line(case, unit, values, emulated=True)


class _Run:
    """One mode's world: ids go to the device, logits and transcripts come back."""

    def __init__(self, mode: str, concurrency: int) -> None:
        # Nothing that crosses here was there before, so nothing can be sealed ahead of its need.
        self.world = World(MODES[mode], LinkFigures(), size=_UNIT, predictor=Never())
        self._verified = mode.endswith("verified")
        self._ids = 1
        self._logits = list(range(2, 2 + concurrency))
        self._transcript = list(range(1000, 1000 + _TOGETHER))
        self.world.add([self._ids], _IDS)
        self.world.add(self._logits + self._transcript)
        self.world.load(self._logits + self._transcript)

    def prefill(self, tokens: int) -> float:
        """Return the seconds from a prompt to its first id, behind all of its transcript."""
        self.world.begin()
        computes = max(_WEIGHTS / _BANDWIDTH, tokens * _WEIGHTS / _RATE)
        self._step(self._logits[:1], -(-tokens // _PREFILLED), computes)
        return self.world.elapsed

    def decode(self, context: int, steps: int) -> float:
        """Return the seconds of a step."""
        self.world.begin()
        computes = (_WEIGHTS + len(self._logits) * context * _KV) / _BANDWIDTH
        for _ in range(steps):
            self._step(self._logits, len(self._logits) * _DECODED, computes)
        return self.world.elapsed / steps

    def _step(self, logits: list[int], units: int, computes: float) -> None:
        self.world.change([self._ids])
        self.world.wait(self.world.compute(self.world.load([self._ids]), computes))
        self.world.wait(self.world.unload(logits))
        self.world.read(logits)
        for first in range(0, units * self._verified, _TOGETHER):
            part = self._transcript[: min(_TOGETHER, units - first)]
            self.world.wait(self.world.unload(part))
            self.world.read(part)
