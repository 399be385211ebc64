"""Decode attention over a cache that is partly in T: cold keys and values never cross again.

When a context outgrows the device, T keeps its cold part and computes that part itself. Each side
gives, for a head, the maximum m of its scores, the sum l of exp(score - m) and the output o; the
whole follows from both (the merge of flash decoding). T's own part needs no check: what U says of
its part is checked like any other attention (`running.Running.residuals` over U's positions).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Part:
    """Attention over some of the positions.

    Attributes:
        largest: float32 [heads]: the largest score.
        total: float32 [heads]: sum of exp(score - largest).
        output: float32 [heads, size]: softmax over these positions alone, times their values.
    """

    largest: Tensor
    total: Tensor
    output: Tensor


def part(query: Tensor, keys: Tensor, values: Tensor, scaling: float, cap: float = 0.0) -> Part:
    """Compute a part.

    Args:
        query: bfloat16 or float32 [heads, size].
        keys: [positions, key heads, size].
        values: [positions, key heads, size].
        scaling: of scores.
        cap: scores become cap * tanh(score / cap); 0 for none.
    """
    heads, size = query.shape
    k, v = keys.float().transpose(0, 1), values.float().transpose(0, 1)
    q = query.float().view(len(k), heads // len(k), size)
    scores = (q @ k.transpose(1, 2)) * scaling
    return of_scores(cap * torch.tanh(scores / cap) if cap else scores, v)


def of_scores(scores: Tensor, values: Tensor) -> Part:
    """Return a part from its scores, [key heads, shared, positions], and values in float32."""
    largest = scores.amax(-1, keepdim=True)
    weights = (scores - largest).exp()
    total = weights.sum(-1, keepdim=True)
    output = (weights @ values) / total
    return Part(largest.flatten(), total.flatten(), output.flatten(0, 1))


def merged(one: Part, other: Part) -> Part:
    """Return attention over the positions of both."""
    largest = torch.maximum(one.largest, other.largest)
    shares = [each.total * (each.largest - largest).exp() for each in (one, other)]
    total = shares[0] + shares[1]
    output = (shares[0][:, None] * one.output + shares[1][:, None] * other.output) / total[:, None]
    return Part(largest, total, output)
