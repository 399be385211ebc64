"""Injections: a device that lies once, at a drawn place in a drawn step, and is checked always."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt
from random import Random

import torch

from engine.attention import Span
from engine.device import StepInput
from engine.kv_cache import KVPool
from engine.native.model import NativeModel
from engine.verification.attention.sketched import SketchedAttention
from engine.verification.model import TrustedModel, weights
from engine.verification.plain_decoder import Products
from engine.verification.secrets import Secrets
from engine.verification.transcript import Matrix
from engine.verification.verifier import Verifier, Work
from sottovoce.bench.verify_liar import Liar
from sottovoce.bench.verify_lies import PROMPTS, STEPS, Drawing, Lie, lies

_BLOCK = 32
_KEY = "trial"


@dataclass(frozen=True)
class Subject:
    """A model as both sides have it."""

    model: NativeModel
    products: Products
    trusted: TrustedModel


@dataclass(frozen=True)
class Trial:
    """One injection."""

    kind: str
    place: str
    step: int
    """In which step was lied."""
    caught: int | None
    """In which step the verdict was a refusal; None: in none up to the lie."""
    failed: tuple[str, ...] = ()

    @property
    def detected(self) -> bool:
        """Whether the lie was caught in its very step, and nothing before it."""
        return self.caught == self.step


def products_of(model: NativeModel) -> Products:
    """Return a model's matrices, for the plain decoder."""
    found = Products(model.head.unpack()[: model.vocabulary].bfloat16())
    if model.head.bias is not None:
        found.head_bias = model.head.bias[: model.vocabulary]
    for layer in range(len(model.layers)):
        for matrix in Matrix:
            weight, bias = weights(model, layer, matrix)
            found.observe(layer, matrix, weight.bfloat16(), bias)
    return found


def inject(subject: Subject, kind: str, seed: int, mode: str = "full") -> Trial:
    """Serve one sequence up to a lie of a kind; everything that is drawn follows from the seed.

    T's own secrets do not: they are fresh in each trial.
    """
    random = Random(f"{kind} {seed}")
    lie = lies(subject.model)[kind](Drawing(random, len(subject.model.layers)))
    step = random.choice(lie.steps)
    for number, failed in enumerate(_verdicts(subject, lie, step, mode, random)):
        if failed or number == step:
            return Trial(kind, lie.place, step, number if failed else None, failed)
    raise ValueError("a lie is told in one of the steps")


def _verdicts(
    subject: Subject, lie: Lie, step: int, mode: str, random: Random
) -> Iterator[tuple[str, ...]]:
    """Yield what failed in each step."""
    liar = Liar(subject.model, subject.products, _pool(subject.model), lie, step.__eq__)
    secrets = Secrets()
    verifier = Verifier(
        subject.trusted, SketchedAttention(subject.trusted, secrets), mode=mode, secrets=secrets
    )
    start = 0
    for number in STEPS:
        rows = PROMPTS[number] if number < len(PROMPTS) else 1
        ids = torch.tensor(random.sample(range(1, subject.model.vocabulary), rows))
        blocks = tuple(range((start + rows + _BLOCK - 1) // _BLOCK))
        batch = StepInput(ids, [Span(blocks, start, rows)], [rows - 1])
        output = liar.step(batch)
        if output.transcript is None:
            raise ValueError("a device that is checked tells what it did")
        work = Work(_KEY, start, ids, [rows - 1])
        [finding] = verifier.check([work], output.transcript, output.logits)
        yield finding.failed
        start += rows


def _pool(model: NativeModel) -> KVPool:
    return KVPool(
        [model.shape] * len(model.layers),
        blocks=4,
        block_size=_BLOCK,
        dtype=torch.bfloat16,
        device=torch.device("cpu"),
    )


def wilson(found: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """Return the interval that holds a probability with 95 % confidence (Wilson, 1927)."""
    rate, per = found / trials, z * z / trials
    middle = (rate + per / 2) / (1 + per)
    half = z * sqrt(rate * (1 - rate) / trials + per / (4 * trials)) / (1 + per)
    return max(0.0, middle - half), min(1.0, middle + half)
