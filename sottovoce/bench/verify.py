"""`bench verify`: what checks cost, and whether lies are caught.

    verify_world.py      T's part of a shape, and what U would tell
    verify_schemes.py    time to the first token and per token: EMULATED device and link
    verify_rivals.py     what T does in `tsdp` and `full_tee`; verify_model.py what is computed
    verify_overhead.py   the engine with and without checks: real
    verify_detection.py  injections; verify_lies.py the kinds, verify_liar.py the device

Checks are compared with computing again, with two older schemes and with an engine that does not
check. They take turns, with all cores of this machine.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from engine.config import EngineConfig
from engine.loader import load
from engine.native.model import NativeModel
from engine.verification.attention.prompt import Rows, Terms, audit
from engine.verification.attention.running import Numbers, Running
from engine.verification.linear import judge, residuals
from engine.verification.model import observe_packed, trusted_model
from engine.verification.secrets import Secrets
from engine.verification.sketch import Sketch, Sketcher
from engine.verification.thresholds import BOUNDS
from engine.verification.transcript import Matrix, Product
from sottovoce.bench.engine_rounds import BenchFailed
from sottovoce.bench.line import Line, line
from sottovoce.bench.random_model import HALF_B, Shape, write_random_model
from sottovoce.bench.verify_detection import Subject, inject, products_of, wilson
from sottovoce.bench.verify_lies import lies
from sottovoce.bench.verify_model import SHAPES, Accelerator, Link
from sottovoce.bench.verify_model import Shape as Sizes
from sottovoce.bench.verify_overhead import overheads
from sottovoce.bench.verify_rivals import seconds
from sottovoce.bench.verify_schemes import Plan, Scheme, schemes
from sottovoce.bench.verify_world import bf16, sdpa, trusted
from sottovoce.models import choose_model

_PERCENT, _MS = 100.0, 1e3


@dataclass(frozen=True)
class VerifySizes:
    """How much is measured."""

    rounds: int = 7
    widths: Sequence[int] = (1024, 4096)
    rows: int = 2048
    other_rows: Sequence[int] = (512, 6144)
    heads: Sizes = SHAPES["8b"]
    context: int = 1024
    other_contexts: Sequence[int] = (6144, 10240)
    together: int = 32
    """Layers whose decoding attention is checked, and computed, in one go."""
    prompt: int = 4096
    audited: int = 32
    plan: Plan = field(default_factory=lambda: Plan(SHAPES["8b"]))
    repeats: int = 3
    """Of the plan."""
    model: Shape = HALF_B
    batches: Sequence[int] = (1, 8)
    decoded: int = 64
    injected: int = 42
    """Lies of each kind."""


_SMALL = Sizes(128, 4, 2, 32, 256, 2, 512)
QUICK = VerifySizes(
    rounds=1,
    widths=(64,),
    rows=64,
    other_rows=(),
    heads=_SMALL,
    context=64,
    other_contexts=(),
    together=2,
    prompt=128,
    audited=4,
    plan=Plan(_SMALL, prompt=64, contexts=(32, 64), steps=2, together=2),
    repeats=1,
    model=Shape(2, 128, 256, 4, 2, 4000, context=512),
    decoded=4,
    injected=1,
)
_SUBJECT = Shape(3, 192, 320, 6, 2, 4000, context=128)


def measure(sizes: VerifySizes) -> Iterator[Line]:
    """Yield the lines of `bench verify` as they are measured."""
    yield from _linear(sizes)
    yield from _decoding(sizes)
    yield from _prefill(sizes)
    yield from _schemes(sizes)
    with tempfile.TemporaryDirectory(prefix="sottovoce-bench-") as temporary:
        yield from _overhead(sizes, Path(temporary) / "model")
        yield from _detection(sizes, Path(temporary) / "subject")


def _compared(
    case: str, rounds: int, check: Callable[[], object], again: Callable[[], object]
) -> Iterator[Line]:
    """Measure a check beside computing again, in turns; the first round of both warms up."""
    taken = [(seconds(check), seconds(again)) for _ in range(rounds + 1)][1:]
    name = case.removeprefix("sweep ")
    yield line(case, "check/recompute", [one / other for one, other in taken])
    yield line(f"sweep check {name}", "ms", [_MS * one for one, _ in taken])
    yield line(f"sweep recompute {name}", "ms", [_MS * other for _, other in taken])


def _linear(sizes: VerifySizes) -> Iterator[Line]:
    for width in sizes.widths:
        weight = bf16(width, width)
        sketcher = Sketcher(Secrets())
        sketcher.observe(0, Matrix.OUTPUT, weight, None)
        sketch = sketcher.sketches()[Matrix.OUTPUT]
        for rows in (sizes.rows, *sizes.other_rows):
            named = f"linear d{width} @ n = {rows}"
            case = named if rows == sizes.rows else f"sweep {named}"
            yield from _linear_case(case, sizes.rounds, (weight, sketch), rows)


def _linear_case(
    case: str, rounds: int, product: tuple[Tensor, Sketch], rows: int
) -> Iterator[Line]:
    weight, sketch = product
    x = bf16(rows, weight.shape[1])
    told = Product(functional.linear(x, weight)[None], x[None])

    def check() -> None:
        if not judge(residuals(told, sketch), sketch.floor).passed.all():
            raise BenchFailed("an honest product was refused")

    yield from _compared(case, rounds, check, lambda: functional.linear(x, weight))


def _decoding(sizes: VerifySizes) -> Iterator[Line]:
    for context in (sizes.context, *sizes.other_contexts):
        layers = sizes.together if context == sizes.context else min(8, sizes.together)
        named = f"decode attention @ n = {context}, {layers} layers at once"
        case = named if context == sizes.context else f"sweep {named}"
        yield from _decoding_case(case, sizes, layers, context)


def _decoding_case(case: str, sizes: VerifySizes, layers: int, context: int) -> Iterator[Line]:
    shape = sizes.heads
    cache = [bf16(layers, context, shape.key_heads, shape.size) for _ in range(2)]
    query = bf16(layers, 1, shape.heads, shape.size)
    wide = [tensor.float() for tensor in cache]
    # A check looks at what it is told: scores, and what softmax makes of them.
    numbers = Numbers(trusted(shape, layers), Secrets())
    running = Running.of(numbers, None, 0, *cache)
    scores = _scores(query, wide[0])
    output = sdpa(query, *cache, causal=False)[:, 0]
    terms = (shape.size**-0.5, 0.0)

    def check() -> None:
        found = running.residuals(context - 1, query[:, 0], scores, output, terms)
        if any((one > most).any() for one, most in zip(found, _LIMITS, strict=True)):
            raise BenchFailed("honest attention was refused")

    ways = [
        lambda: sdpa(query, *cache, causal=False),
        lambda: sdpa(query.float(), *wide, causal=False),
    ]
    fastest = min(ways, key=lambda way: min(seconds(way) for _ in range(3)))
    yield from _compared(case, sizes.rounds, check, fastest)


_LIMITS = BOUNDS.scores, BOUNDS.mixed


def _scores(query: Tensor, keys: Tensor) -> Tensor:
    """Return float32 [layers, heads, context] of queries [layers, 1, heads, size]."""
    shared = query.shape[2] // keys.shape[2]
    repeated = keys.transpose(1, 2).repeat_interleave(shared, dim=1)
    products: Tensor = repeated @ query[:, 0].float()[..., None]
    scaled: Tensor = products[..., 0] * query.shape[-1] ** -0.5
    return scaled


def _prefill(sizes: VerifySizes) -> Iterator[Line]:
    shape, context = sizes.heads, sizes.prompt
    keys, values = (bf16(1, context, shape.key_heads, shape.size) for _ in range(2))
    queries = bf16(1, context, shape.heads, shape.size)
    outputs = sdpa(queries, keys, values)[0]
    terms = Terms(shape.size**-0.5, 0.0, 0)
    secrets = Secrets()

    def check() -> None:
        drawn = secrets.subset(b"bench", context, sizes.audited)
        positions = torch.tensor(sorted({*drawn, context - 1}))
        rows = Rows(positions, queries[0, positions], outputs[positions])
        if not audit(rows, keys[0], values[0], terms, BOUNDS.attention).all():
            raise BenchFailed("honest attention was refused")

    case = f"audit prefill @ n = {context}, k = {sizes.audited}"
    yield from _compared(case, sizes.rounds, check, lambda: sdpa(queries, keys, values))


def _schemes(sizes: VerifySizes) -> Iterator[Line]:
    """Ratios above 1 are in our favour. EMULATED."""
    device, link = Accelerator(), Link()
    runs = [schemes(sizes.plan, device, link) for _ in range(sizes.repeats)]
    where = f"prompt {sizes.plan.prompt}, outputs to {sizes.plan.contexts[-1]}, 8 GB/s, 0.33 ms"
    for mode, prefix in (("audit", ""), ("full", "sweep ")):
        told = " full" if prefix else ""
        for rival in ("tsdp", "full_tee"):
            for figure in ("ttft", "tpot"):
                ratios = [_ratio(run[rival], run[mode], figure) for run in runs]
                case = f"{prefix}{figure} vs {rival}{told} @ {where}"
                yield line(case, "times", ratios, emulated=True)
    for name in runs[0]:
        yield from _splits(name, [run[name] for run in runs], where)


def _ratio(rival: Scheme, own: Scheme, figure: str) -> float:
    if figure == "ttft":
        return rival.s(rival.first) / own.s(own.first)
    return rival.s(rival.each) / own.s(own.each)


def _splits(name: str, runs: Sequence[Scheme], where: str) -> Iterator[Line]:
    for figure, of in (("ttft", "first"), ("tpot", "each")):
        for part in ("check", "transfer", "device", "in_turn"):
            measured = [_MS * getattr(getattr(run, of), part) for run in runs]
            case = f"sweep {figure} {name} {part.replace('_', ' ')} @ {where}"
            yield line(case, "ms", measured, emulated=True)


def _overhead(sizes: VerifySizes, folder: Path) -> Iterator[Line]:
    write_random_model(folder, sizes.model, choose_model(None).folder)
    for batch, mode, lost, rates in overheads(folder, sizes.batches, sizes.rounds, sizes.decoded):
        case = f"overhead @ b{batch}" if mode == "audit" else f"sweep overhead {mode} @ b{batch}"
        yield line(case, "%", [_PERCENT * each for each in lost])
        yield line(f"sweep decode rate {mode} @ b{batch}", "token/s", rates)


def _detection(sizes: VerifySizes, folder: Path) -> Iterator[Line]:
    write_random_model(folder, _SUBJECT, choose_model(None).folder)
    subject = _subject(folder)
    for kind in lies(subject.model):
        trials = [inject(subject, kind, seed) for seed in range(sizes.injected)]
        caught = Counter(trial.detected for trial in trials)[True]
        low, high = wilson(caught, len(trials))
        told = f"{caught} of {len(trials)}, 95 % interval {low:.3f} to {high:.3f}"
        measured = [float(trial.detected) for trial in trials]
        yield line(f"sweep detection {kind} @ full, {told}", "caught at once", measured)


def _subject(folder: Path) -> Subject:
    model = load(EngineConfig(model=folder)).computation
    if not isinstance(model, NativeModel):
        raise BenchFailed("the compiled library does not compute this model here")
    sketcher = Sketcher(Secrets())
    observe_packed(model, sketcher)
    return Subject(model, products_of(model), trusted_model(model, sketcher))
