"""A prompt's attention checked from its scores, the paper's way: U ships them, T sums in secret.

U ships each row's scores less their maximum (in the log domain and float32: a weight in bfloat16
hides 30 % of itself, and of one that underflows nothing is left), the maximum, and the logarithm of
the sum. With r secret:

    E1  sum_j r_j s_j = c q.(sum_j r_j k_j)        scores, and with them the softmax
    E2  sum_j exp(s_j - l) = 1,  O R' = sum_j p_j (v_j R')

The sums over r_j k_j run along the positions, so that each row finds those of what it sees. Where a
processor multiplies matrices of bfloat16 this costs more than computing the attention again
(`full`); it is here for those that do not, and to be compared with.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from engine.verification.attention.prompt import UNIT, Rows, Terms, visible
from engine.verification.secrets import BOUND

_RMS = (BOUND * (BOUND + 1) / 3) ** 0.5
_SMALLEST = 1e-30


@dataclass(frozen=True)
class Shipped:
    """What U says of one layer's scores.

    Attributes:
        below: float32 [heads, rows, context]: scores less the row's largest; what a row does not
            see is not looked at.
        largest: float32 [heads, rows].
        log_total: float32 [heads, rows]: logarithm of the sum of exp(below).
    """

    below: Tensor
    largest: Tensor
    log_total: Tensor


def ship(scores: Tensor, positions: Tensor, terms: Terms) -> Shipped:
    """U's part: from scores, scaled and not capped, float32 [heads, rows, context]."""
    seen = visible(positions, scores.shape[-1], terms.window)
    hidden = scores.masked_fill(~seen, -torch.inf)
    largest = hidden.amax(-1)
    below = hidden - largest[..., None]
    above = _capped(scores, terms.cap) - _capped(largest, terms.cap)[..., None]
    total = above.masked_fill(~seen, -torch.inf).exp().sum(-1)
    return Shipped(below, largest, total.log())


@dataclass(frozen=True)
class Known:
    """What T has of one layer.

    Attributes:
        keys: bfloat16 [context, key heads, size]; all positions up to the last row's.
        values: bfloat16 [context, key heads, size].
        key_sums: float32 [key heads, sums, context]: r.
        value_sums: float32 [key heads, size, sums]: R'.
        terms: what the layer asks of its attention.
    """

    keys: Tensor
    values: Tensor
    key_sums: Tensor
    value_sums: Tensor
    terms: Terms


@dataclass(frozen=True)
class Residuals:
    """Float32 [rows, heads] each.

    Attributes:
        scores: largest secret sum, in units of rms(r) |q| sqrt(sum |k|^2) c.
        total: how far the weights' sum is from 1.
        output: mean square of secret sums, in the square of u sqrt(|o|^2 + sum p^2 |v|^2) rms(R').
    """

    scores: Tensor
    total: Tensor
    output: Tensor


def residuals(rows: Rows, shipped: Shipped, known: Known) -> Residuals:
    """Check rows of one layer."""
    keys, values, terms = known.keys, known.values, known.terms
    count, heads, size = rows.queries.shape
    key_heads, context = keys.shape[1], len(keys)
    shared = heads // key_heads
    seen = visible(rows.positions, context, terms.window)
    scores = (shipped.below + shipped.largest[..., None]).masked_fill(~seen, 0)
    s = scores.view(key_heads, shared, count, context)
    k, v = keys.float().transpose(0, 1), values.float().transpose(0, 1)
    q = rows.queries.float().transpose(0, 1).reshape(key_heads, shared, count, size)
    # [key heads, rows, size, sums]: of each row's own positions, as differences of running sums
    products = (k[:, :, :, None] * known.key_sums.transpose(1, 2)[:, :, None, :]).double()
    running = torch.cat([torch.zeros_like(products[:, :1]), products.cumsum(1)], 1)
    ends = rows.positions + 1
    begins = (ends - terms.window).clamp(min=0) if terms.window else torch.zeros_like(ends)
    total = running[:, ends] - running[:, begins]
    powers = torch.cat([torch.zeros(key_heads, 1), k.square().sum(-1).cumsum(1)], 1)
    power = (powers[:, ends] - powers[:, begins])[:, None]
    right = torch.einsum("hgrd,hrds->hgrs", q.double(), total) * terms.scaling
    told = s @ known.key_sums.transpose(1, 2)[:, None]
    unit = q.norm(dim=-1) * power.sqrt() * (_RMS * terms.scaling) + _SMALLEST
    score_error = (told - right).abs().amax(-1).float() / unit
    ends_at = _capped(shipped.largest, terms.cap) + shipped.log_total
    p = (_capped(scores, terms.cap) - ends_at[..., None]).exp().masked_fill_(~seen, 0)
    total_error = (p.sum(-1) - 1).abs()
    p = p.view(key_heads, shared, count, context)
    mixed = p @ (v @ known.value_sums)[:, None]
    spread = p.square() @ v.square().sum(-1)[:, None, :, None]
    o = rows.outputs.float().transpose(0, 1).reshape(key_heads, shared, count, size)
    variance = (o.square().sum(-1) + spread[..., 0]) * (UNIT * _RMS) ** 2 + _SMALLEST
    energy = (o @ known.value_sums[:, None] - mixed).square().mean(-1) / variance
    return Residuals(
        score_error.reshape(heads, count).T, total_error.T, energy.reshape(heads, count).T
    )


def _capped(scores: Tensor, cap: float) -> Tensor:
    return cap * torch.tanh(scores / cap) if cap else scores
