"""The exact mode: products of 8-bit numbers, checked without any tolerance.

Where weights have one scale an output and inputs one scale a row, a product is an integer matrix
times an integer row, and U ships the int32 sums themselves. With secrets R in [-2^13, 2^13] and
W^T R in float64, y R = x (W^T R) holds exactly as long as every sum stays below 2^53: that is
asserted for each matrix, and then an honest row never fails and a sum that is off by one passes
with a probability of 2^-13 a secret at most.

A mode for models whose weights are W8A8 of this kind. The compiled kernels scale 64 neighbours at
a time, whose sums are added up in float32: those are checked with a tolerance
(`engine.verification.linear`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from engine.errors import ModelRefused
from engine.verification.secrets import Secrets

WIDTH = 4
"""Secrets of an output: a wrong row passes with 2^-52."""
REACH = 1 << 13
_LARGEST = 127
"""Of an 8-bit number, either sign."""
_EXACT = 1 << 53
"""Whole numbers below are exact in float64, and so is each of their sums."""


@dataclass(frozen=True)
class ExactSketch:
    """One matrix of 8-bit weights.

    Attributes:
        secrets: float64 [outputs, WIDTH], whole numbers.
        of_inputs: float64 [inputs, WIDTH]: W^T R.
    """

    secrets: Tensor
    of_inputs: Tensor


@dataclass(frozen=True)
class Rounded:
    """Numbers as steps of a scale a row: int8 [rows, width], float32 [rows, 1]."""

    steps: Tensor
    scale: Tensor


def rounded(x: Tensor) -> Rounded:
    """Round rows to 8 bits; the largest of a row becomes 127."""
    x = x.float()
    scale = x.abs().amax(-1, keepdim=True) / _LARGEST
    inverse = torch.where(scale > 0, 1 / scale, 0.0)
    return Rounded((x * inverse).round().clamp(-_LARGEST, _LARGEST).to(torch.int8), scale)


def sums(x: Tensor, weight: Tensor) -> Tensor:
    """Return x W^T as U computes it: int32 [rows, outputs], of int8 [rows, inputs] and W."""
    return torch._int_mm(x, weight.T.contiguous())  # noqa: SLF001 - torch's only int8 product


def sketch(weight: Tensor, secrets: Secrets, label: bytes) -> ExactSketch:
    """Sketch W, int8 [outputs, inputs].

    Raises:
        ModelRefused: a sum could reach 2^53: no secrets of this size keep the matrix exact.
    """
    outputs, inputs = weight.shape
    # The longest way a sum can go: y R, by way of which W^T R and x (W^T R) are shorter or as long.
    if inputs * _LARGEST * _LARGEST * outputs * REACH >= _EXACT:
        raise ModelRefused("a matrix is too large for exact sums")
    drawn = secrets.wide(b"exact " + label, outputs * WIDTH, REACH).view(outputs, WIDTH).double()
    of_inputs = weight.double().T @ drawn
    return ExactSketch(drawn, of_inputs)


def check(x: Tensor, told: Tensor, of: ExactSketch) -> Tensor:
    """Return which rows are right, bool [rows].

    Args:
        x: int8 [rows, inputs], from -127 on.
        told: int32 [rows, outputs]: what U says the sums are.
        of: the sketch of the weights.
    """
    inputs = x.shape[-1]
    y = told.double()
    possible = y.abs().amax(-1) <= inputs * _LARGEST * _LARGEST
    return possible & (y @ of.secrets == x.double() @ of.of_inputs).all(-1)
