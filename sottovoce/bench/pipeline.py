"""`bench pipeline`: what sealing costs, where it is hidden and where it is not. EMULATED device."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from engine.aead import KEY, NONCE, TAG, aes_256_gcm
from engine.streaming.emulated import Run, Set
from engine.transfer.predict import Mixture, Predictor
from sottovoce.bench.line import Line, line
from sottovoce.bench.pipeline_patterns import PATTERNS, Load, Pattern
from sottovoce.bench.pipeline_study import study
from sottovoce.bench.pipeline_world import LinkFigures, Mode, World

_PERCENT = 100.0
_GB = 1e9
_MODES: tuple[Mode, ...] = ("plain", "naive", "pipelined")


@dataclass(frozen=True)
class PipelineSizes:
    """How much is measured."""

    rounds: int = 7
    load: Load = field(default_factory=Load)
    links: Sequence[float] = (1e9, 2e9, 4e9, 6e9, 8e9, 12e9, 16e9)
    """Bytes a second, of the sweep."""
    units: Sequence[int] = (256 << 10, 512 << 10, 1 << 20)
    mispredictions: Sequence[float] = (0, 0.01, 0.1, 0.5, 1)
    steps: int = 8
    """Decoding steps of a cell of the study's table."""
    streamed: Set = field(default_factory=Set)


QUICK = PipelineSizes(
    rounds=1,
    load=Load(size=64 << 10, layers=3, sequences=4, warm=12, events=12),
    links=(4e9,),
    units=(64 << 10,),
    mispredictions=(0, 1),
    steps=1,
    streamed=Set(size=1 << 20, passes=1),
)


@dataclass(frozen=True)
class Outcome:
    """One run."""

    rate: float
    """Bytes a second that came where they were wanted."""
    hit_rate: float
    nops: int
    relinquishes: int


class Mistaken:
    """A predictor that is wrong with a probability: then it names a block that is not wanted."""

    def __init__(self, probability: float, wrong: Sequence[int]) -> None:
        """Be wrong about some blocks."""
        self._inner, self._probability = Mixture(), probability
        self._wrong = list(wrong)
        self._random = random.Random(3)

    def observe(self, block: int) -> None:
        """See `Predictor`."""
        self._inner.observe(block)

    def left(self, blocks: Sequence[int]) -> None:
        """See `Predictor`."""
        self._inner.left(blocks)

    def forget(self, block: int) -> None:
        """See `Predictor`."""
        self._inner.forget(block)

    def predict(self, count: int) -> list[int]:
        """See `Predictor`."""
        return [
            self._random.choice(self._wrong) if self._random.random() < self._probability else each
            for each in self._inner.predict(count)
        ]


def run(
    pattern: Pattern,
    mode: Mode,
    load: Load,
    figures: LinkFigures,
    predictor: Predictor | None = None,
) -> Outcome:
    """Run a pattern once."""
    world = World(mode, figures, size=load.size, predictor=predictor)
    moved = pattern(load, world)
    counts, took = world.counts, world.elapsed
    world.close()
    return Outcome(moved / took, counts.hit_rate, counts.nops, counts.relinquishes)


def overhead(plain: Outcome, other: Outcome) -> float:
    """Return how much of plain throughput is lost, in per cent."""
    return _PERCENT * (1 - other.rate / plain.rate)


def measure(sizes: PipelineSizes) -> Iterator[Line]:
    """Yield the lines of `bench pipeline` as they are measured."""
    yield from _sealing(sizes)
    for name in PATTERNS:
        yield from _pattern(sizes, name)
    yield from _links(sizes)
    yield from _units(sizes)
    yield from _mispredictions(sizes)
    yield from _streamed(sizes)
    yield from study(min(3, sizes.rounds), sizes.steps)


def _rounds(
    sizes: PipelineSizes, name: str, figures: LinkFigures, load: Load
) -> list[list[Outcome]]:
    """Return plain, naive and pipelined outcomes of each round, taken in turns."""
    return [
        [run(PATTERNS[name], mode, load, figures) for mode in _MODES] for _ in range(sizes.rounds)
    ]


def _pattern(sizes: PipelineSizes, name: str) -> Iterator[Line]:
    rounds = _rounds(sizes, name, LinkFigures(), sizes.load)
    where = f"4 GB/s, 0.3 ms a batch, {sizes.load.size >> 10} KiB units"
    for index, kind in ((2, "pipelined"), (1, "naive")):
        lost = [overhead(each[0], each[index]) for each in rounds]
        yield line(f"{kind} overhead {name} @ {where}", "%", lost, emulated=True)
    hits = [_PERCENT * each[2].hit_rate for each in rounds]
    goals = {"weight cycling": "hit rate cyclic", "kv mixed": "hit rate mixed"}
    case = goals.get(name, f"sweep hit rate {name}")
    yield line(f"{case} @ {where}", "%", hits, emulated=True)
    yield line(
        f"sweep plain throughput {name} @ {where}",
        "GB/s",
        [each[0].rate / _GB for each in rounds],
        emulated=True,
    )
    for what in ("nops", "relinquishes"):
        counted = [float(getattr(each[2], what)) for each in rounds]
        yield line(f"sweep {what} {name} @ {where}", "a run", counted, emulated=True)


def _links(sizes: PipelineSizes) -> Iterator[Line]:
    """Where one core can no longer hide its sealing."""
    for name in ("weight cycling", "kv mixed"):
        for bandwidth in sizes.links:
            rounds = _rounds(sizes, name, LinkFigures(bandwidth), sizes.load)
            for index, kind in ((2, "pipelined"), (1, "naive")):
                lost = [overhead(each[0], each[index]) for each in rounds]
                case = f"sweep {kind} overhead {name} @ link {bandwidth / _GB:g} GB/s"
                yield line(case, "%", lost, emulated=True)


def _units(sizes: PipelineSizes) -> Iterator[Line]:
    for unit in sizes.units:
        blocks = max(1, sizes.load.bytes // unit)
        load = replace(sizes.load, size=unit, blocks=blocks)
        rounds = _rounds(sizes, "kv mixed", LinkFigures(), load)
        lost = [overhead(each[0], each[2]) for each in rounds]
        yield line(
            f"sweep pipelined overhead kv mixed @ units {unit >> 10} KiB", "%", lost, emulated=True
        )


def _mispredictions(sizes: PipelineSizes) -> Iterator[Line]:
    """How it degrades; to be compared with naive sealing in the same rounds."""
    load = sizes.load
    blocks = [block for which in range(load.layers) for block in load.ids(which)]
    for probability in sizes.mispredictions:
        lost, naive = [], []
        for _ in range(sizes.rounds):
            pattern, figures = PATTERNS["weight cycling"], LinkFigures()
            plain = run(pattern, "plain", load, figures)
            naive.append(overhead(plain, run(pattern, "naive", load, figures)))
            mistaken = Mistaken(probability, blocks)
            lost.append(overhead(plain, run(pattern, "pipelined", load, figures, mistaken)))
        case = f"misprediction @ p = {probability:g}, weight cycling"
        yield line(f"sweep pipelined overhead under {case}", "%", lost, emulated=True)
        yield line(f"sweep naive overhead beside {case}", "%", naive, emulated=True)


def _streamed(sizes: PipelineSizes) -> Iterator[Line]:
    """A model three times larger than the ring of buffers that the device has for it."""
    shares = []
    for _ in range(sizes.rounds):
        streaming = Run(sizes.streamed, "sealed")
        result = streaming.result()
        streaming.close()
        shares.append(_PERCENT * result.of_link)
    case = f"streamed weights @ {result.model // result.device} x the device, 4 GB/s, 0.3 ms"
    yield line(case, "% of the link's limit", shares, emulated=True)


def _sealing(sizes: PipelineSizes) -> Iterator[Line]:
    """One core's rate; this is not emulated."""
    aead = aes_256_gcm(os.urandom(KEY))
    for unit in (64 << 10, 256 << 10, 1 << 20):
        data, out = bytearray(os.urandom(unit)), memoryview(bytearray(unit + TAG))
        rates = []
        for number in range(max(3, 20 * sizes.rounds)):
            began = time.thread_time()
            for turn in range(8):
                aead.seal_into((8 * number + turn).to_bytes(NONCE, "big"), data, b"", out)
            rates.append(8 * unit / (time.thread_time() - began) / _GB)
        yield line(f"sealing @ {unit >> 10} KiB units, one core", "GB/s", rates)
