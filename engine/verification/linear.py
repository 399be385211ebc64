"""Freivalds' check of linear layers in floating point: products' rows against sketches.

For a right row, z = y R - x (W^T R) - b R is what rounding y to bfloat16 left, and the secrets do
not know of it: z is as good as Gaussian, with a variance that the exponents of y and the secrets
give exactly. A row passes if no secret sum and no mean square of its sums is far beyond that; many
rows together show what is too small to be seen in one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from engine.native import checks
from engine.verification.sketch import WIDTH, HeadSketch, Sketch
from engine.verification.thresholds import BOUNDS, Thresholds
from engine.verification.transcript import Matrix, Product

_VARIANCE = 1 / (3 * 2.0**16)
"""Of rounding to bfloat16, for an exponent of 0: an even spread over 2^-7."""
_GROUP = 64
"""Inputs that share one scale when U rounds them to 8 bits (`native/src/linear.h`)."""
_SMALLEST = 1e-30
"""For rows of zeros, which leave nothing."""
_FEW, _MANY = 32, 1024
"""Rows whose mean is judged: a tampered chunk, and a tampered matrix."""


def residuals(rows: Product, sketch: Sketch) -> Tensor:
    """Return z, the noise that rounding explains (before `_VARIANCE`) and |x|^2.

    Args:
        rows: of the product.
        sketch: of the matrix.

    Returns:
        float32 [layers, rows, WIDTH + 2].
    """
    found = checks.available()
    if found is None or sketch.of_inputs is not None:
        return _by_torch(rows, sketch)
    return checks.residuals(found, [_sketched(rows, sketch)])


def _sketched(rows: Product, sketch: Sketch) -> checks.Sketched:
    kept = sketch.secrets, sketch.packed, sketch.spread, sketch.bias
    return checks.Sketched(rows.outputs, rows.inputs, *kept)


def _by_torch(rows: Product, sketch: Sketch) -> Tensor:
    y, x = rows.outputs, rows.inputs
    secrets, terms = sketch.plain()
    z = y.float() @ secrets - sketch.bias[:, None]
    if sketch.of_inputs is None:
        high, low = terms.chunk(2, dim=1)
        z = z + x.float() @ (high + low)
    else:
        x = rounded_to_8_bits(x)
        z = z - x @ sketch.of_inputs
    powers = (y.view(torch.int16) & 0x7F80).view(torch.bfloat16).float()
    noise = torch.einsum("lrn,n->lr", powers.square(), sketch.spread)
    return torch.cat([z, noise[..., None], x.float().square().sum(-1, keepdim=True)], -1)


def rounded_to_8_bits(x: Tensor) -> Tensor:
    """Return what U multiplies int8 weights with: 64 neighbours share a scale; float32."""
    grouped = x.float().view(*x.shape[:-1], -1, _GROUP)
    scale = grouped.abs().amax(-1, keepdim=True) / 127
    inverse = torch.where(scale > 0, 1 / scale, 0.0)
    rounded = (grouped * inverse).round().clamp(-128, 127) * scale
    return rounded.view(x.shape)


@dataclass(frozen=True)
class Judged:
    """Rows of one matrix in all layers; every tensor is [layers, rows].

    Attributes:
        passed: bool; False for what is not a number.
        energy: mean square of a row's sums; 1 on average if the row is right.
        peak: the largest of its sums.
    """

    passed: Tensor
    energy: Tensor
    peak: Tensor


def judge(found: Tensor, floor: Tensor, thresholds: Thresholds = BOUNDS) -> Judged:
    """Judge rows one by one.

    Args:
        found: what `residuals` returned.
        floor: float32 [layers] or [layers, 1], the sketch's.
        thresholds: what passes.
    """
    library = checks.available()
    if library is None:
        return _judged_by_torch(found, floor, thresholds)
    limits = _VARIANCE, _SMALLEST, thresholds.scalar**2, thresholds.row
    return Judged(*checks.judge(library, found.contiguous(), floor.reshape(-1), limits))


def _judged_by_torch(found: Tensor, floor: Tensor, thresholds: Thresholds) -> Judged:
    z, noise, length = found[..., :WIDTH].square(), found[..., WIDTH], found[..., WIDTH + 1]
    variance = noise * _VARIANCE + length * floor.view(len(found), 1) + _SMALLEST
    energy, peak = z.mean(-1) / variance, z.amax(-1) / variance
    passed = (peak <= thresholds.scalar**2) & (energy <= thresholds.row)
    return Judged(passed & (variance < torch.inf), energy, peak.sqrt())


@dataclass
class Means:
    """Means over rows of one matrix in each layer, across steps: what one row does not show."""

    layers: int
    thresholds: Thresholds = BOUNDS
    _few: Tensor = field(init=False)
    _many: Tensor = field(init=False)
    _counts: list[int] = field(default_factory=lambda: [0, 0])

    def __post_init__(self) -> None:
        self._few, self._many = torch.zeros(2, self.layers)

    def add(self, energy: Tensor) -> Tensor:
        """Take rows in, [layers, rows]; returns bool [layers, rows]: whether their mean passes."""
        rows = energy.shape[1]
        whole = rows // _FEW * _FEW
        passed = torch.ones_like(energy, dtype=torch.bool)
        if whole:
            parts = energy[:, :whole].reshape(self.layers, -1, _FEW).mean(-1)
            passed[:, :whole] = (parts <= self.thresholds.rows).repeat_interleave(_FEW, dim=1)
        if rows > whole:
            passed[:, whole:] &= self._mean(0, self._few, energy[:, whole:], _FEW)[:, None]
        return passed & self._mean(1, self._many, energy, _MANY)[:, None]

    def _mean(self, which: int, total: Tensor, energy: Tensor, enough: int) -> Tensor:
        """Add to a running total; returns bool [layers]: False where a full one is too large."""
        total += energy.sum(1)
        self._counts[which] += energy.shape[1]
        if self._counts[which] < enough:
            return torch.ones(self.layers, dtype=torch.bool)
        limit = (self.thresholds.rows, self.thresholds.matrix)[which]
        passed = total / self._counts[which] <= limit
        total.zero_()
        self._counts[which] = 0
        return passed


class LinearCheck:
    """All products of a step's opened rows, in all layers."""

    def __init__(self, sketches: Mapping[Matrix, Sketch], thresholds: Thresholds = BOUNDS) -> None:
        self.sketches = sketches
        self.thresholds = thresholds
        layers = len(next(iter(sketches.values())).bias)
        self._floor = torch.cat([sketch.floor for sketch in sketches.values()])
        self._means = Means(layers * len(sketches), thresholds)

    def check(self, products: Mapping[Matrix, Product]) -> Judged:
        """Judge rows; first index of the result: matrices in the sketches' order, then layers.

        Args:
            products: as opened.
        """
        found = self._residuals([(products[each], held) for each, held in self.sketches.items()])
        judged = judge(found, self._floor, self.thresholds)
        # A row that fails is rechecked by itself, and must not spoil the mean of others.
        energy = torch.where(judged.passed, judged.energy, 1.0)
        return Judged(judged.passed & self._means.add(energy), judged.energy, judged.peak)

    @staticmethod
    def _residuals(opened: Sequence[tuple[Product, Sketch]]) -> Tensor:
        found = checks.available()
        if found is None or any(sketch.of_inputs is not None for _, sketch in opened):
            return torch.cat([residuals(rows, sketch) for rows, sketch in opened])
        return checks.residuals(found, [_sketched(rows, sketch) for rows, sketch in opened])


def head_error(final: Tensor, logits: Tensor, sketch: HeadSketch) -> Tensor:
    """Return how far logits are from the head's product, in units of |logits| rms(R); [rows].

    Args:
        final: bfloat16 [rows, hidden]: what the head multiplied.
        logits: float32 [rows, vocabulary]: before any scale and cap.
        sketch: of the head.
    """
    told = torch.nn.functional.linear(logits, sketch.secrets).double()
    inputs = rounded_to_8_bits(final) if sketch.int8 else final
    right = inputs.double() @ sketch.of_inputs.T + sketch.bias
    unit = torch.linalg.vector_norm(logits, dim=-1) * _RMS
    error: Tensor = (told - right).abs().amax(-1) / (unit + _SMALLEST)
    return error.float()


_RMS = (127 * 128 / 3) ** 0.5
"""Of whole numbers in [-127, 127]."""
