"""The cases that compare: decoding at several batch sizes, and prompts."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from sottovoce.bench.engine_field import (
    BF16,
    GENERATE,
    GENERATE_BATCH,
    INT8,
    LLAMA_BF16,
    LLAMA_Q8,
    Field,
)
from sottovoce.bench.engine_ours import read_bytes
from sottovoce.bench.engine_roofline import MatmulRate, ReadBandwidth
from sottovoce.bench.engine_rounds import (
    LeftOut,
    Prompts,
    Run,
    Settled,
    Way,
    check_agreement,
    in_turns,
    ratio_line,
    settle,
)
from sottovoce.bench.line import Line, line

_READ, _READ_INT8, _MULTIPLY = "bandwidth limit bf16", "bandwidth limit int8", "matmul limit"
_LIMITS = (_READ, _READ_INT8, _MULTIPLY)
_SETTLING = 4
"""A contestant's fastest way is found with this part of the ids that are decoded later."""


@dataclass(frozen=True)
class Comparison:
    """A case: one contestant's rate over another's."""

    case: str
    ours: str
    theirs: str
    detail: str = ""


@dataclass(frozen=True)
class EngineSizes:
    """How much is measured."""

    rounds: int = 9
    batches: tuple[int, ...] = (1, 8, 32)
    context: int = 64
    """Ids of a prompt, where the ids after it are measured."""
    count: int = 32
    """Ids that a round decodes of each sequence."""
    prompts: tuple[int, ...] = (512, 2048)
    """Ids of a prompt, where the prompt is measured."""
    arriving: int = 2048
    """Ids of the prompt that arrives while a stream runs."""
    clients: int = 8
    requests: int = 32
    load_prompt: int = 256
    repetitive: int = 256
    """Ids decoded where a text repeats itself."""
    buffer: int = 1 << 30
    """Bytes that are read to find the bandwidth."""


TINY = EngineSizes(rounds=15, count=128, requests=64)
"""For models whose step takes a millisecond: longer turns, and more of them."""
QUICK = EngineSizes(
    rounds=2,
    context=16,
    count=4,
    prompts=(64,),
    arriving=600,
    clients=2,
    requests=3,
    load_prompt=40,
    repetitive=16,
    buffer=1 << 26,
)


def decode_comparisons(batch: int) -> Iterator[Comparison]:
    """Yield what is compared where `batch` sequences decode."""
    name = f"decode b{batch}"
    yield Comparison(f"{name} vs {GENERATE}", BF16, GENERATE)
    yield Comparison(f"{name} vs {GENERATE_BATCH}", BF16, GENERATE_BATCH)
    yield Comparison(f"{name} vs {LLAMA_BF16}", BF16, LLAMA_BF16)
    yield Comparison(f"{name} int8 vs {LLAMA_Q8}", INT8, LLAMA_Q8)
    yield Comparison(f"sweep {name} int8 vs {GENERATE}", INT8, GENERATE)
    if batch == 1:
        yield Comparison("bandwidth share b1", BF16, _READ)
        yield Comparison("sweep bandwidth share b1 int8", INT8, _READ_INT8)
    if batch <= 8:
        yield Comparison("int8 vs bf16", INT8, BF16)
    else:
        yield Comparison(f"sweep int8 vs bf16 b{batch}", INT8, BF16)


def prefill_comparisons() -> Iterator[Comparison]:
    """Yield what is compared where a prompt is computed."""
    yield Comparison(f"prefill vs {GENERATE}", BF16, GENERATE)
    yield Comparison(f"prefill vs {LLAMA_Q8}", INT8, LLAMA_Q8, ", ours int8")
    yield Comparison(f"prefill vs {LLAMA_Q8}", BF16, LLAMA_Q8, ", ours bf16")
    yield Comparison(f"sweep prefill int8 vs {GENERATE}", INT8, GENERATE)
    yield Comparison("sweep matmul share prefill", BF16, _MULTIPLY)


class Cases:
    """Decoding and prompts, measured over one field of contestants."""

    def __init__(self, sizes: EngineSizes, contestants: Field) -> None:
        self.sizes, self.field = sizes, contestants
        self._random = random.Random(0)
        setting = contestants.setting
        self.where = f"{setting.name}, {setting.threads} threads"

    @cached_property
    def bandwidth(self) -> ReadBandwidth:
        """The machine's limit for what reads weights."""
        return ReadBandwidth(self.field.setting.threads, self.sizes.buffer)

    @cached_property
    def matmul(self) -> MatmulRate:
        """The machine's limit for what multiplies."""
        return MatmulRate()

    def prompts(self, batch: int, length: int) -> Prompts:
        """Return prompts of random ids."""
        vocabulary = self.field.setting.shape.vocabulary
        return [[self._random.randrange(vocabulary) for _ in range(length)] for _ in range(batch)]

    def decode(self, batch: int, wanted: Callable[[str], bool]) -> Iterator[Line]:
        """Yield the cases of so many sequences that are wanted, and every contestant's rate."""
        sizes = self.sizes
        prompts = self.prompts(batch, sizes.context)

        def settled(name: str) -> Settled:
            peer = self.field.get(name)
            best = settle(peer.decoders(prompts, max(2, sizes.count // _SETTLING)))
            return Settled(
                best.name, peer.decoders(prompts, sizes.count)[best.name], best.first_ids
            )

        where = f"{self.where}, b{batch}, context {sizes.context}..{sizes.context + sizes.count}"
        comparisons = [each for each in decode_comparisons(batch) if wanted(each.case)]
        yield from self._compare(comparisons, f"decode b{batch}", where, settled)

    def prefill(self, length: int, wanted: Callable[[str], bool]) -> Iterator[Line]:
        """Yield the cases of prompts of one length that are wanted, and every contestant's rate."""
        (prompt,) = self.prompts(1, length)

        def settled(name: str) -> Settled:
            return settle(self.field.get(name).prefills(prompt))

        comparisons = [each for each in prefill_comparisons() if wanted(each.case)]
        where = f"{self.where}, {length} tokens"
        yield from self._compare(comparisons, "prefill", where, settled, length)

    def _compare(
        self,
        comparisons: list[Comparison],
        what: str,
        where: str,
        settled: Callable[[str], Settled],
        length: int = 0,
    ) -> Iterator[Line]:
        contestants = self._settle_all(comparisons, settled, length)
        ways = {name: each.way for name, each in contestants.items()}
        rates = in_turns(ways, self.sizes.rounds)
        for each in comparisons:
            if each.ours in rates and each.theirs in rates:
                case = f"{each.case} @ {where}{each.detail}"
                yield ratio_line(case, rates[each.ours], rates[each.theirs])
        for name, measured in rates.items():
            kind = f", {contestants[name].name}" if contestants[name].name else ""
            yield line(f"sweep {what} {name} @ {where}{kind}", "tok/s", measured)

    def _settle_all(
        self, comparisons: list[Comparison], settled: Callable[[str], Settled], length: int
    ) -> dict[str, Settled]:
        """Return who takes part, and say which cases are left out for want of whom."""
        ready: dict[str, Settled] = {}
        for each in comparisons:
            try:
                for name in (each.ours, each.theirs):
                    if name not in ready:
                        ready[name] = self._limit(name, length) or settled(name)
                if each.theirs not in _LIMITS:
                    ours, theirs = ready[each.ours].first_ids, ready[each.theirs].first_ids
                    check_agreement(ours, theirs, each.theirs)
            except LeftOut as reason:
                say_left_out([each.case], reason)
        return ready

    def _limit(self, name: str, length: int) -> Settled | None:
        """Return a limit of the machine in tokens a second, as if it were a contestant."""
        if name not in _LIMITS:
            return None
        if name == _MULTIPLY:
            shape = self.field.setting.shape
            work = 2 * (shape.body * length + shape.head) / length
            return _always(lambda: Run(self.matmul.measure() / work))
        read = read_bytes(self.field.ours(INT8 if name == _READ_INT8 else BF16).loaded)
        return _always(lambda: Run(self.bandwidth.measure() / read))


def say_left_out(cases: Iterable[str], reason: LeftOut) -> None:
    """Say on standard error that cases are not measured, and why."""
    for case in cases:
        print(f"left out: {case}: {reason}", file=sys.stderr, flush=True)


def _always(way: Way) -> Settled:
    return Settled("", way, ())
