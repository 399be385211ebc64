"""Two older ways to keep an accelerator honest, to be measured beside ours.

`full_tee`: T computes everything itself. In this repository that is any device, run by T: nothing
to check, nothing crosses.

`tsdp` (after Slalom, and the baseline of VeriAttn, section 5): U multiplies matrices and nothing
else. Every product crosses to U and back at once, is checked by T before it is used, and T
computes norms, rotations, activations and the softmax in between: seven crossings a layer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from engine.verification.plain_decoder import Products
from engine.verification.transcript import Matrix

Check = Callable[[int, Matrix, Tensor, Tensor], None]
"""Given layer, matrix, X and Y, raises if Y is not X W^T + b."""


@dataclass
class Meter:
    """What crossed between T and U."""

    crossings: int = 0
    bytes: int = 0

    def cross(self, *tensors: Tensor) -> None:
        """Count one crossing of some tensors together."""
        self.crossings += 1
        self.bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)


class Outsourced(Products):
    """Products that U computes one by one for T, which checks each (`tsdp`)."""

    def __init__(self, device: Products, check: Check) -> None:
        """Let `device` multiply."""
        super().__init__(device.head, device.weights, device.biases, device.head_bias)
        self._device = device
        self._check = check
        self.meter = Meter()

    def product(self, layer: int, matrix: Matrix, x: Tensor) -> Tensor:
        """See `Products.product`."""
        self.meter.cross(x)
        y = self._device.product(layer, matrix, x).bfloat16()
        self.meter.cross(y)
        self._check(layer, matrix, x, y)
        return y.float()

    def logits(self, x: Tensor) -> Tensor:
        """See `Products.logits`."""
        self.meter.cross(x)
        logits = self._device.logits(x)
        self.meter.cross(logits)
        return logits

    def scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        """See `Products.scores`. Of the keys, U has all but the newest."""
        self.meter.cross(queries, keys[:, -queries.shape[1] :])
        scores = self._device.scores(queries, keys)
        self.meter.cross(scores)
        return scores

    def mixed(self, weights: Tensor, values: Tensor) -> Tensor:
        """See `Products.mixed`. Of the values, U has all but the newest."""
        self.meter.cross(weights, values[:, -weights.shape[1] :])
        mixed = self._device.mixed(weights, values)
        self.meter.cross(mixed)
        return mixed
