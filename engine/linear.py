"""Linear layers as the CPU likes them: weights packed once, siblings multiplied together.

Packing is oneDNN's own weight layout (1.5 times faster for one row of bf16 than `F.linear`).
Fusion replaces projections that read the same input (q, k, v; gate, up) by one product over their
concatenated weights. The model code stays as it is: the first sibling called with an input computes
for all, the others hand out their part.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

SIBLINGS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Names under which one module's projections of one input are found."""
_ROWS_HINT = 32
"""Rows oneDNN is told to expect; it measures best over 1, 8, 32 and 512 rows."""


class PackedLinear(nn.Module):
    """x W^T + b with W in oneDNN's layout. bf16, CPU."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        operators: Any = torch.ops.mkldnn
        self._multiply = operators._linear_pointwise  # noqa: SLF001 - the operator's public name
        # Opaque to state dicts and `.to`, so not a parameter.
        self._packed = operators._reorder_linear_weight(weight, _ROWS_HINT)  # noqa: SLF001
        self._bias = bias

    def forward(self, x: Tensor) -> Tensor:
        """Multiply rows [..., in_features]."""
        out: Tensor = self._multiply(x, self._packed, self._bias, "none", [], "")
        return out


class PlainLinear(nn.Module):
    """x W^T + b by torch; where packing is not to be had."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self._weight, self._bias = weight, bias

    def forward(self, x: Tensor) -> Tensor:
        """Multiply rows [..., in_features]."""
        return functional.linear(x, self._weight, self._bias)


class Siblings:
    """Several projections of one input, as one product."""

    def __init__(self, linears: list[nn.Linear]) -> None:
        weight = torch.cat([linear.weight.detach() for linear in linears])
        bias = None
        if linears[0].bias is not None:
            bias = torch.cat([linear.bias.detach() for linear in linears])
        self._product = make_linear(weight, bias)
        self._sizes = [linear.out_features for linear in linears]
        self._input: Tensor | None = None
        self._parts: dict[int, Tensor] = {}

    def part(self, x: Tensor, member: int) -> Tensor:
        """Return member's projection of x; the product is computed once for one x object."""
        if x is not self._input or member not in self._parts:
            self._input = x
            self._parts = dict(enumerate(self._product(x).split(self._sizes, dim=-1)))
        part = self._parts.pop(member)
        if not self._parts:
            self._input = None  # activations are not kept longer than needed
        return part

    def clear(self) -> None:
        """Forget an input of which not every part was fetched."""
        self._input = None
        self._parts = {}


class Member(nn.Module):
    """One of several siblings, in the place of the projection it replaces."""

    def __init__(self, siblings: Siblings, member: int) -> None:
        super().__init__()
        self._siblings = siblings
        self._member = member

    def forward(self, x: Tensor) -> Tensor:
        """Project rows [..., in_features]."""
        return self._siblings.part(x, self._member)


def can_pack(weight: Tensor) -> bool:
    """Whether oneDNN takes this weight: bf16 on a CPU whose bf16 it supports."""
    if weight.device.type != "cpu" or weight.dtype != torch.bfloat16:
        return False
    operators: Any = torch.ops.mkldnn
    try:
        supported: bool = operators._is_mkldnn_bf16_supported()  # noqa: SLF001
        _ = operators._reorder_linear_weight, operators._linear_pointwise  # noqa: SLF001
    except AttributeError:  # a torch built without oneDNN
        return False
    return supported


def make_linear(weight: Tensor, bias: Tensor | None) -> nn.Module:
    """Return the fastest linear layer there is here for this weight."""
    return PackedLinear(weight, bias) if can_pack(weight) else PlainLinear(weight, bias)


def convert(model: nn.Module) -> list[Siblings]:
    """Replace a model's linear layers in place; returns the sibling groups that were made."""
    fused: list[Siblings] = []
    for module in list(model.modules()):
        for names in SIBLINGS:
            linears = [getattr(module, name, None) for name in names]
            if _fusible(linears):
                siblings = Siblings(linears)  # type: ignore[arg-type]
                fused.append(siblings)
                for member, name in enumerate(names):
                    setattr(module, name, Member(siblings, member))
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear and can_pack(child.weight):
                bias = None if child.bias is None else child.bias.detach()
                setattr(module, name, PackedLinear(child.weight.detach(), bias))
    return fused


def _fusible(linears: list[Any]) -> bool:
    if not all(type(linear) is nn.Linear for linear in linears):
        return False
    inputs = {linear.in_features for linear in linears}
    biased = {linear.bias is None for linear in linears}
    return len(inputs) == 1 and len(biased) == 1
