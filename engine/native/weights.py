"""Weight matrices in the layout of `src/linear.h`: packed once, for one row and for many."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from engine.memory import Arena
from engine.native import library

PANEL = 32
"""Outputs of a panel; matrices are filled up with zeros to whole panels."""
GROUP = 64
"""Inputs that share one scale of int8; every matrix has a multiple of them."""
_ARENA = Arena()
TILE = 16
"""Rows are read in multiples of these."""
_HALF = 16
_ZERO_POINT = 128
_ROWS = 4096
"""Outputs that are rounded at once."""
_SMALLEST_SCALE = 1e-30
"""For groups of zeros: any positive number, as long as 1 / it is finite."""


@dataclass(frozen=True)
class PackedWeights:
    """One packed matrix. The tensors own the memory that `structure` points into.

    Attributes:
        values: bfloat16 [panels, 2, inputs / 2, 16, 2], or uint8 [panels, 2, inputs / 4, 16, 4].
        scales: bfloat16 [panels, 2, inputs / 64, 16] for uint8 values; else None.
        bias: float32 [panels * 32], or None.
    """

    values: Tensor
    scales: Tensor | None
    bias: Tensor | None

    @property
    def structure(self) -> library.Weights:
        """What the library is given."""
        panels, _, parts, _, together = self.values.shape
        return library.Weights(
            self.values.data_ptr(),
            None if self.scales is None else self.scales.data_ptr(),
            None if self.bias is None else self.bias.data_ptr(),
            parts * together,
            panels,
        )

    def unpack(self) -> Tensor:
        """Return the weights that are multiplied with, float32 [panels * 32, inputs]."""
        panels, _, parts, _, together = self.values.shape
        plain = self.values.float().permute(0, 1, 3, 2, 4).reshape(panels * PANEL, parts * together)
        if self.scales is None:
            return plain
        scales = self.scales.float().permute(0, 1, 3, 2).reshape(panels * PANEL, -1, 1)
        grouped = (plain - _ZERO_POINT).view(panels * PANEL, -1, GROUP)
        return (grouped * scales).view_as(plain)


def pack(weight: Tensor, bias: Tensor | None = None, *, int8: bool) -> PackedWeights:
    """Pack a matrix [outputs, inputs]; inputs a multiple of 64.

    With `int8` each output's 64 neighbouring weights are rounded to 255 steps of a scale of their
    own; an outlier costs only its neighbours resolution.
    """
    outputs, inputs = weight.shape
    missing = -outputs % PANEL
    if missing:
        weight = torch.nn.functional.pad(weight.detach(), (0, 0, 0, missing))
    if bias is not None:
        bias = torch.nn.functional.pad(bias.detach().float(), (0, missing))
    panels = (outputs + missing) // PANEL
    if not int8:
        halves = weight.to(torch.bfloat16).view(panels, 2, _HALF, inputs // 2, 2)
        return PackedWeights(_ARENA.copy(halves.permute(0, 1, 3, 2, 4)), None, bias)
    values, scales = quantise(weight)
    return PackedWeights(
        _ARENA.copy(values.view(panels, 2, _HALF, inputs // 4, 4).permute(0, 1, 3, 2, 4)),
        _ARENA.copy(scales.view(panels, 2, _HALF, inputs // GROUP).permute(0, 1, 3, 2)),
        bias,
    )


def pack_pairs(
    first: Tensor,
    second: Tensor,
    bias: tuple[Tensor, Tensor] | None = None,
    *,
    int8: bool,
) -> PackedWeights:
    """Pack two matrices of one shape so that a panel holds 16 outputs of each, side by side."""
    outputs, inputs = first.shape
    weight = _alternate(first, second).view(2 * outputs, inputs)
    return pack(weight, None if bias is None else _alternate(*bias).view(-1), int8=int8)


def _alternate(first: Tensor, second: Tensor) -> Tensor:
    halves = [each.view(len(each) // _HALF, _HALF, -1) for each in (first, second)]
    return torch.stack(halves, dim=1)


def quantise(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Round a matrix; returns uint8 values (zero is 128) of its shape, and bfloat16 scales.

    The scale is rounded first and the weights by the rounded scale, so its own rounding adds none.
    """
    parts = [_quantise(part) for part in torch.split(weight, _ROWS)]  # in float32 for a while
    values, scales = zip(*parts, strict=True)
    return torch.cat(values), torch.cat(scales)


def _quantise(weight: Tensor) -> tuple[Tensor, Tensor]:
    outputs, inputs = weight.shape
    grouped = weight.float().view(outputs, inputs // GROUP, GROUP)
    scales = (grouped.abs().amax(-1) / 127).clamp_min(_SMALLEST_SCALE).to(torch.bfloat16)
    steps = (grouped / scales.float()[..., None]).round().clamp(-127, 127)
    return (steps + _ZERO_POINT).to(torch.uint8).view(outputs, inputs), scales
