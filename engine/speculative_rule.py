"""When an id that a draft model drew is kept, and what is drawn where it is not.

Leviathan, Kalman, Matias, "Fast inference from transformers via speculative decoding" (2023): with
the model's distribution p and the draft's q, an id x ~ q is kept with probability min(1, p(x) /
q(x)); else one is drawn from (p - q)+, normalised. What results has distribution p:

    min(p, q)(x) + (1 - sum min(p, q)) * (p - q)+(x) / sum (p - q)+  =  p(x)

for whatever q, as long as x was drawn from exactly it. Penalties, bias, temperature and truncation
are in p and q already.
"""

from __future__ import annotations

import torch
from torch import Tensor

from engine.sampler import invert


def settle(p: Tensor, q: Tensor, proposed: Tensor, accept: Tensor, residual: Tensor) -> Tensor:
    """Return for each row the id that stands at its position, int64 [rows].

    A row counts only if all proposals before it were kept.

    Args:
        p: what the model says, [rows, vocab].
        q: what each proposal was drawn from, of the same shape.
        proposed: int64 [rows].
        accept: float64 [rows], uniform in [0, 1): decides whether a proposal is kept.
        residual: float64 [rows], uniform in [0, 1): decides what is drawn instead.
    """
    likely = p.gather(1, proposed[:, None])[:, 0].double()
    believed = q.gather(1, proposed[:, None])[:, 0].double()
    kept = accept * believed < likely
    ids = proposed.clone()
    lost = (~kept).nonzero()[:, 0]
    if len(lost):
        rest = (p[lost] - q[lost]).clamp_min_(0)
        # p = q up to rounding leaves nothing over; what was lost to rounding is drawn from p.
        empty = rest.sum(dim=-1) == 0
        rest[empty] = p[lost][empty]
        ids[lost] = invert(rest, residual[lost])
    return ids


def uniforms(draws: list[float]) -> Tensor:
    """Return float64 [rows]."""
    return torch.tensor(draws, dtype=torch.float64)
