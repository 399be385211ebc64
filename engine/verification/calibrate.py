"""What honest rounding reaches on a model and this machine, and thresholds that follow from it.

The linear checks have units that need no calibration; here it is seen that they hold. The others
depend on the order in which a device adds up: they are set a margin above what was seen, and never
above the bounds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from engine.attention import Span
from engine.config import EngineConfig
from engine.device import StepInput
from engine.errors import ModelRefused
from engine.kv_cache import KVPool
from engine.loader import load
from engine.native.model import NativeModel
from engine.verification.attention import prompt
from engine.verification.linear import LinearCheck, head_error
from engine.verification.model import TrustedModel, observe_packed, trusted_model
from engine.verification.rest import Replayed, Rows, replay, steps
from engine.verification.secrets import Secrets
from engine.verification.sketch import Sketcher
from engine.verification.thresholds import BOUNDS, Thresholds, loosest, tightest
from engine.verification.transcript import Matrix, Opening, Transcript
from engine.verification.verifier import plain_logits

PROMPT, DECODED = 192, 64
"""Rows of a run: in one step, and one by one."""
_BLOCK = 32
_MARGINS = Thresholds(steps=1.5, head=8, attention=2)
"""Of what was seen. The others are the bounds themselves: their tails follow from theory."""


@dataclass(frozen=True)
class Calibration:
    """What was seen, and what follows."""

    seen: Thresholds
    """0 where a threshold follows from theory alone."""
    thresholds: Thresholds
    rows: int
    """Rows of products that were looked at, in all layers."""


def calibrated(config: EngineConfig, *, runs: int) -> Calibration:
    """Load the model of a configuration, and calibrate it.

    Raises:
        ModelRefused: it cannot be loaded, or is not one that can be verified here.
    """
    model = load(config).computation
    if not isinstance(model, NativeModel):
        raise ModelRefused("only models that the compiled kernels compute can be verified")
    sketcher = Sketcher(Secrets(), int8=config.weights == "int8")
    observe_packed(model, sketcher)
    return calibrate(model, trusted_model(model, sketcher), runs=runs)


def calibrate(
    model: NativeModel, trusted: TrustedModel, *, runs: int, seed: int = 0
) -> Calibration:
    """Run random ids through a model and its checks.

    Args:
        model: the device's.
        trusted: T's part of it.
        runs: how often; each is a prompt and ids decoded behind it.
        seed: of the ids, which are no secret.

    Raises:
        ModelRefused: honest rounding reaches beyond the bounds: this model is not verified here.
    """
    run = _Run(model, trusted)
    generator = torch.Generator().manual_seed(seed)
    found = [each for _ in range(runs) for each in run.steps(generator)]
    seen = loosest(*found)
    if loosest(seen, BOUNDS) != BOUNDS:
        raise ModelRefused("honest rounding on this machine is larger than any verifier allows")
    rows = runs * (PROMPT + DECODED) * len(Matrix) * trusted.layers
    return Calibration(seen, tightest(_with_margins(seen), BOUNDS), rows)


def _with_margins(seen: Thresholds) -> Thresholds:
    return replace(
        BOUNDS,
        steps=seen.steps * _MARGINS.steps,
        head=seen.head * _MARGINS.head,
        attention=seen.attention * _MARGINS.attention,
    )


class _Run:
    """A device over a small pool, and T's checks of it."""

    def __init__(self, model: NativeModel, trusted: TrustedModel) -> None:
        self._trusted, self._vocabulary = trusted, model.vocabulary
        self._blocks = list(range(-(-(PROMPT + DECODED) // _BLOCK)))
        pool = KVPool(
            [model.shape] * trusted.layers,
            blocks=len(self._blocks),
            block_size=_BLOCK,
            dtype=torch.bfloat16,
            device=torch.device("cpu"),
        )
        self._device = model.on(pool, max_rows=PROMPT, max_logit_rows=1, transcribe=True)
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []
        self._linear = LinearCheck(trusted.sketches)

    def steps(self, generator: torch.Generator) -> Iterator[Thresholds]:
        """Yield what each step of one run reaches."""
        start = 0
        for length in (PROMPT, *[1] * DECODED):
            ids = torch.randint(self._vocabulary, (length,), generator=generator)
            yield self._step(ids, start)
            start += length
        self._keys, self._values = [], []

    def _step(self, ids: Tensor, start: int) -> Thresholds:
        span = Span(self._blocks[: -(-(start + len(ids)) // _BLOCK)], start, len(ids))
        output = self._device.step(StepInput(ids, [span], [len(ids) - 1]))
        told = output.transcript
        if told is None:
            raise ModelRefused("the device tells nothing of its steps")
        try:
            return self._reached(ids, start, told, output.logits)
        finally:
            told.close()
            self._device.finish_step()

    @torch.no_grad()
    def _reached(self, ids: Tensor, start: int, told: Transcript, logits: Tensor) -> Thresholds:
        trusted, opening = self._trusted, told.open(range(len(ids)))
        judged = self._linear.check(opening.products)
        rows = Rows(trusted.embeddings[ids], torch.arange(start, start + len(ids)))
        replayed = replay(trusted, rows, opening, told.keys, told.values)
        final = steps(told.final, replayed.final[-1:])
        head = head_error(told.final, plain_logits(trusted, logits), trusted.head)
        means = judged.energy[:, : len(ids) // 32 * 32].reshape(len(judged.energy), -1, 32).mean(-1)
        return Thresholds(
            scalar=_largest(judged.peak),
            row=_largest(judged.energy),
            rows=_largest(means) if means.numel() else 0.0,
            matrix=0.0 if len(ids) == 1 else float(judged.energy.mean()),
            steps=max(_distance(replayed), _largest(final)),
            head=_largest(head),
            attention=self._attended(start, told, opening),
            scores=0,
            mixed=0,
        )

    def _attended(self, start: int, told: Transcript, opening: Opening) -> float:
        """Return the largest rho of some of the rows, in all layers."""
        trusted = self._trusted
        self._keys.append(told.keys.clone())
        self._values.append(told.values.clone())
        keys, values = torch.cat(self._keys, 1), torch.cat(self._values, 1)
        at = torch.arange(len(opening.rows) - 1, -1, -16).flip(0)
        outputs = opening.products[Matrix.OUTPUT].inputs[:, at]
        outputs = outputs.reshape(trusted.layers, len(at), trusted.heads, trusted.size)
        found = [
            prompt.rho(
                prompt.Rows(start + at, opening.queries[layer, at], outputs[layer]),
                keys[layer],
                values[layer],
                prompt.Terms(trusted.scaling, trusted.score_cap, trusted.windows[layer]),
            )
            for layer in range(trusted.layers)
        ]
        return max(map(_largest, found))


def _distance(replayed: Replayed) -> float:
    """Return the largest distance of all inputs; infinite if a value was not copied."""
    if not bool(replayed.values.all()):
        return float("inf")
    parts = (
        replayed.attention_input,
        replayed.mlp_input,
        replayed.activated,
        replayed.queries,
        replayed.keys,
    )
    return max(_largest(part) for part in parts)


def _largest(tensor: Tensor) -> float:
    return float(tensor.max())
