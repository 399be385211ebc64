"""A prompt's attention checked from its scores, the paper's way: U ships them, T sums in secret.

U ships each row's scores less their maximum (in the log domain and float32: a weight in bfloat16
hides 30 % of itself, and one that underflows is a logarithm of zero), the maximum, and the logarithm
of the sum. With r secret:

    E1  sum_j r_j s_j = c q.(sum_j r_j k_j)        scores, and with them the softmax
    E2  sum_j exp(s_j - l) = 1,  O R' = sum_j p_j (v_j R')

Of a tile of keys the sums of r_j k_j and the products v_j R' are made once for all rows that see the
whole of it; within the diagonal tile each row has sums of its own. Where a processor multiplies
matrices of bfloat16 this costs more than computing the attention again (`full`); it is here for
those that do not, and to be compared with.
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
    capped = _capped(hidden, terms.cap)
    total = (capped - _capped(largest, terms.cap)[..., None]).exp().sum(-1)
    return Shipped(below, largest, total.log())


@dataclass(frozen=True)
class Sums:
    """T's secrets for one layer, and what they make of its keys and values.

    Attributes:
        keys: float32 [key heads, sums, context]: r.
        values: float32 [key heads, size, sums]: R'.
    """

    keys: Tensor
    values: Tensor


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


def residuals(
    rows: Rows, shipped: Shipped, keys: Tensor, values: Tensor, terms: Terms, sums: Sums
) -> Residuals:
    """Check rows of one layer; arguments as of `engine.verification.attention.prompt.rho`."""
    count, heads, size = rows.queries.shape
    key_heads, context = keys.shape[1], len(keys)
    shared = heads // key_heads
    seen = visible(rows.positions, context, terms.window)
    scores = (shipped.below + shipped.largest[..., None]).masked_fill(~seen, 0)
    s = scores.view(key_heads, shared, count, context)
    k, v = keys.float().transpose(0, 1), values.float().transpose(0, 1)
    q = rows.queries.float().transpose(0, 1).reshape(key_heads, shared, count, size)
    # [key heads, rows, size, sums]: of each row's own positions, as differences of running sums
    products = (k[:, :, :, None] * sums.keys.transpose(1, 2)[:, :, None, :]).double()
    running = torch.cat([torch.zeros_like(products[:, :1]), products.cumsum(1)], 1)
    ends = rows.positions + 1
    begins = (ends - terms.window).clamp(min=0) if terms.window else torch.zeros_like(ends)
    total = running[:, ends] - running[:, begins]
    powers = torch.cat([torch.zeros(key_heads, 1), k.square().sum(-1).cumsum(1)], 1)
    power = (powers[:, ends] - powers[:, begins])[:, None]
    right = torch.einsum("hgrd,hrds->hgrs", q.double(), total) * terms.scaling
    told = s @ sums.keys.transpose(1, 2)[:, None]
    unit = q.norm(dim=-1) * power.sqrt() * (_RMS * terms.scaling) + _SMALLEST
    score_error = (told - right).abs().amax(-1).float() / unit
    ends_at = _capped(shipped.largest, terms.cap) + shipped.log_total
    p = (_capped(scores, terms.cap) - ends_at[..., None]).exp().masked_fill_(~seen, 0)
    total_error = (p.sum(-1) - 1).abs()
    p = p.view(key_heads, shared, count, context)
    mixed = p @ (v @ sums.values)[:, None]
    spread = p.square() @ v.square().sum(-1)[:, None, :, None]
    o = rows.outputs.float().transpose(0, 1).reshape(key_heads, shared, count, size)
    variance = (o.square().sum(-1) + spread[..., 0]) * (UNIT * _RMS) ** 2 + _SMALLEST
    energy = (o @ sums.values[:, None] - mixed).square().mean(-1) / variance
    return Residuals(
        score_error.reshape(heads, count).T, total_error.T, energy.reshape(heads, count).T
    )


def _capped(scores: Tensor, cap: float) -> Tensor:
    return cap * torch.tanh(scores / cap) if cap else scores
