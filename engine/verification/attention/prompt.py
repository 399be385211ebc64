"""Attention of a prompt's rows, recomputed in T from the keys and values that U shipped.

The measure is the reference's: rho = |O - o| / (u sqrt(|o|^2 + sum p^2 |v|^2)), u = 2^-8. Rounding
the weights p and the output to bfloat16 leaves it at 0.33 on average and below 0.75.

A few rows (`audit`) are recomputed in float32. All rows (`full`) are recomputed tile by tile in
bfloat16, as fast as this processor can, by the measure's own rounding less exactly: what is far off
there is a candidate, and is judged in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from engine.verification.attention.overlap import overlapped

UNIT = 2.0**-8
_SMALLEST = 1e-30
_CANDIDATE = 1.6
"""Of the limit: two roundings apart rather than one. An error of 3 % of the norm is at 7.7."""
_FEW = 64
"""Rows that are recomputed in float32 at once."""


@dataclass(frozen=True)
class Terms:
    """What a layer asks of its attention."""

    scaling: float
    cap: float
    """Scores become cap * tanh(score / cap); 0 for none."""
    window: int
    """Positions that a row sees, itself included; 0 for all."""


@dataclass(frozen=True)
class Rows:
    """Rows of one layer.

    Attributes:
        positions: int64 [rows], ascending.
        queries: bfloat16 [rows, heads, size].
        outputs: bfloat16 [rows, heads, size]: what U says.
    """

    positions: Tensor
    queries: Tensor
    outputs: Tensor

    def some(self, index: Tensor | slice) -> Rows:
        """Return some of the rows."""
        return Rows(self.positions[index], self.queries[index], self.outputs[index])


def visible(positions: Tensor, context: int, window: int) -> Tensor:
    """Return which positions rows see, bool [rows, context]."""
    each = torch.arange(context)
    seen = each <= positions[:, None]
    return seen & (each > positions[:, None] - window) if window else seen


def rho(rows: Rows, keys: Tensor, values: Tensor, terms: Terms) -> Tensor:
    """Return how far outputs are from T's own, float32 [rows, heads]; inf for what is no number.

    Args:
        rows: of one layer.
        keys: bfloat16 [context, key heads, size]; all positions up to the last row's.
        values: bfloat16 [context, key heads, size].
        terms: the layer's.
    """
    count, heads, size = rows.queries.shape
    shared = heads // keys.shape[1]
    k, v = keys.float().transpose(0, 1), values.float().transpose(0, 1)
    q = rows.queries.float().transpose(0, 1).reshape(len(k), shared * count, size)
    scores = (q @ k.transpose(1, 2)).view(len(k), shared, count, -1) * terms.scaling
    if terms.cap:
        scores = terms.cap * torch.tanh(scores / terms.cap)
    seen = visible(rows.positions, keys.shape[0], terms.window)
    p = scores.masked_fill_(~seen, -torch.inf).softmax(-1).flatten(1, 2)
    right = (p @ v).view(heads, count, size).transpose(0, 1)
    spread = (p.square_() @ v.square().sum(-1, keepdim=True)).view(heads, count).T
    error = (rows.outputs.float() - right).norm(dim=-1)
    unit = UNIT * (right.square().sum(-1) + spread).sqrt() + _SMALLEST
    found: Tensor = error / unit
    return found.nan_to_num(nan=torch.inf)


def audit(rows: Rows, keys: Tensor, values: Tensor, terms: Terms, limit: float) -> Tensor:
    """Judge a few rows exactly; bool [rows]. Arguments as of `rho`."""
    parts = [
        rho(rows.some(slice(first, first + _FEW)), keys, values, terms)
        for first in range(0, len(rows.positions), _FEW)
    ]
    return (torch.cat(parts) <= limit).all(-1)


def full(rows: Rows, keys: Tensor, values: Tensor, terms: Terms, limit: float) -> Tensor:
    """Judge all rows from `positions[0]` on, which follow each other; bool [rows]."""
    if terms.cap:  # no fused kernel has it
        return audit(rows, keys, values, terms, limit)
    first, context = int(rows.positions[0]), len(keys)
    mask = None
    if first or terms.window:
        mask = visible(rows.positions, context, terms.window)
    again = functional.scaled_dot_product_attention(
        rows.queries.transpose(0, 1)[None],
        keys.transpose(0, 1)[None],
        values.transpose(0, 1)[None],
        attn_mask=mask,
        is_causal=mask is None,
        scale=terms.scaling,
        enable_gqa=True,
    )[0].transpose(0, 1)
    error = (rows.outputs.float() - again.float()).norm(dim=-1)
    most = _CANDIDATE * limit * UNIT * again.float().norm(dim=-1)
    passed: Tensor = (error <= most).all(-1)
    candidates = (~passed).nonzero()[:, 0]
    if len(candidates):
        passed[candidates] = audit(rows.some(candidates), keys, values, terms, limit)
    return passed


def full_in_blocks(
    fetch: Callable[[slice], tuple[Rows, Tensor, Tensor]],
    blocks: Sequence[slice],
    terms: Terms,
    limit: float,
) -> Tensor:
    """Judge all rows block by block, while later blocks are fetched; bool [rows].

    The outer of the two levels; tiles of keys are the inner one, the fused kernel's own.

    Args:
        fetch: brings some key heads' part from U: the rows with the heads that share them, keys
            and values, as `full` takes them.
        blocks: of key heads.
        terms: the layer's.
        limit: what passes.

    Raises:
        Exception: what `fetch` raised.
    """

    def judge(told: tuple[Rows, Tensor, Tensor]) -> Tensor:
        return full(*told, terms, limit)

    return torch.stack(overlapped(blocks, [fetch, judge])).all(0)
