"""Weights as T keeps them: multiplied with secrets, a few numbers for every input of a product.

For weights W [N, K] and secrets R [N, s], T needs R and W^T R to judge any row y = x W^T + b, and
not W. W^T R is kept as the sum of two bfloat16 terms (it is then right to 2^-17, far below the
rounding of y), or in float32 where U multiplies inputs rounded to 8 bits.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from engine.memory import Arena
from engine.verification.secrets import Secrets
from engine.verification.transcript import Matrix

WIDTH = 16
"""s: secrets of an output. An error of a times the tolerance is missed with about a^-16."""
_FLOOR = 2.0**-20
"""Of |x| |W^T R|: what float32 sums leave where a product's terms all but cancel."""


@dataclass(frozen=True)
class Sketch:
    """One of the matrices, of all layers.

    Attributes:
        secrets: bfloat16 [outputs / 2, WIDTH, 2]: R, pairs of depths side by side
            (`native/src/verify.cpp`). One for all layers: U learns none, so an error in one layer
            is as likely to be missed as if R were its own; and it stays in the cache.
        packed: bfloat16 [layers, inputs, WIDTH, 2]: both terms of -W^T R, likewise.
        spread: float32 [outputs]: mean square of each output's secrets.
        bias: float32 [layers, WIDTH]: b R.
        floor: float32 [layers]: variance, for |x| = 1, of what float32 sums leave in z.
        of_inputs: float32 [layers, inputs, WIDTH]: W^T R where inputs are rounded to 8 bits;
            `packed` is then empty.
    """

    outputs: int
    inputs: int
    secrets: Tensor
    packed: Tensor
    spread: Tensor
    bias: Tensor
    floor: Tensor
    of_inputs: Tensor | None = None

    def plain(self) -> tuple[Tensor, Tensor]:
        """Return R [outputs, WIDTH], `packed` [layers, depths, WIDTH]: float32, by depths."""
        terms = self.packed.float().transpose(2, 3).flatten(1, 2)
        return self.secrets.float().transpose(1, 2).flatten(0, 1), terms


@dataclass(frozen=True)
class HeadSketch:
    """The product that ends in logits, which stay float32.

    Attributes:
        secrets: float32 [WIDTH, vocabulary].
        of_inputs: float64 [WIDTH, hidden]: W^T R.
        bias: float64 [WIDTH].
    """

    secrets: Tensor
    of_inputs: Tensor
    bias: Tensor
    int8: bool = False
    """Whether U rounds the head's inputs to 8 bits."""


@dataclass
class Sketcher:
    """Sketches matrices one by one, as they are loaded; what it saw of W is not kept."""

    secrets: Secrets
    int8: bool = False
    """Whether U rounds weights and inputs to 8 bits; W is given as rounded."""
    _parts: dict[Matrix, list[_Part]] = field(default_factory=dict)

    def observe(self, layer: int, matrix: Matrix, weight: Tensor, bias: Tensor | None) -> None:
        """Sketch W [outputs, inputs] with its bias; layers of a matrix come in order."""
        parts = self._parts.setdefault(matrix, [])
        if len(parts) != layer:
            raise ValueError("layers are sketched in order, each once")
        parts.append(_part(self.secrets, matrix.encode(), weight, bias, WIDTH))

    def sketches(self) -> dict[Matrix, Sketch]:
        """Return what was observed, stacked."""
        return {matrix: _stacked(parts, int8=self.int8) for matrix, parts in self._parts.items()}

    def head(self, weight: Tensor, bias: Tensor | None) -> HeadSketch:
        """Sketch the head's W [vocabulary, hidden]."""
        part = _part(self.secrets, b"head", weight, bias, HEAD_WIDTH)
        secrets = part.secrets.T.float().contiguous()
        return HeadSketch(secrets, part.of_inputs.T, part.bias, self.int8)


HEAD_WIDTH = 4
"""Logits are float32: tolerances are a thousand times tighter, and four secrets miss a gross error
with 127^-4 at most."""


@dataclass(frozen=True)
class _Part:
    """One matrix of one layer: int8 [N, s], float64 [K, s], float64 [s]."""

    secrets: Tensor
    of_inputs: Tensor
    bias: Tensor


_ROWS = 8192
"""Outputs that are in float64 at once."""


def _part(secrets: Secrets, label: bytes, weight: Tensor, bias: Tensor | None, width: int) -> _Part:
    outputs, inputs = weight.shape
    drawn = secrets.integers(b"sketch " + label, outputs * width).view(outputs, width)
    of_inputs = torch.zeros(inputs, width, dtype=torch.float64)
    for rows, own in zip(torch.split(weight, _ROWS), torch.split(drawn, _ROWS), strict=True):
        of_inputs += rows.detach().double().T @ own.double()
    of_bias = torch.zeros(width, dtype=torch.float64)
    if bias is not None:
        of_bias = bias.detach()[:outputs].double() @ drawn.double()
    return _Part(drawn, of_inputs, of_bias)


def _paired(depths: Tensor) -> Tensor:
    """Put pairs of depths side by side, [..., depths, WIDTH]: [..., depths / 2, WIDTH, 2]."""
    pairs = depths.reshape(*depths.shape[:-2], depths.shape[-2] // 2, 2, WIDTH)
    return pairs.transpose(-2, -1).contiguous()


def _stacked(parts: list[_Part], *, int8: bool) -> Sketch:
    outputs, inputs = len(parts[0].secrets), len(parts[0].of_inputs)
    secrets = parts[0].secrets
    of_inputs = torch.stack([part.of_inputs for part in parts])
    high = of_inputs.to(torch.bfloat16)
    terms = torch.cat([-high, -(of_inputs - high.double()).to(torch.bfloat16)], dim=1)
    return Sketch(
        outputs=outputs,
        inputs=inputs,
        secrets=_paired(secrets.to(torch.bfloat16)),
        packed=_paired(terms[:, :0]) if int8 else Arena().copy(_paired(terms)),
        spread=secrets.float().square().mean(-1),
        bias=torch.stack([part.bias for part in parts]).float(),
        floor=(of_inputs.square().sum((1, 2)) / WIDTH * _FLOOR**2).float(),
        of_inputs=of_inputs.float() if int8 else None,
    )
