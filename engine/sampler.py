"""From logits to ids, for a whole batch. T's side: the device never sees a parameter or a draw.

Order, per row: penalties (repetition over prompt and output, frequency and presence over the
output), `logit_bias`, `min_tokens`, mask, temperature, `top_k`, `top_p`, `min_p`, draw.

Every draw is the inverse of the cumulative distribution at u = H(seed, position): it depends on
the seed, the position and the row's distribution, not on who else is in the batch. (The
distribution itself may differ in the last bits with the batch: see `engine.device`.)

Ties: `top_k` keeps exactly k ids; which of several equal ones is left to the sort.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from engine.native import draws
from engine.types import SamplingParams

_CANDIDATES = 1024
"""Ids first looked at for top-k and top-p. A full sort of 150,000 logits takes ten times longer,
and is only needed by rows whose nucleus is wider than this."""
_NEVER = float("-inf")
_LIMITS = np.where(np.arange(256)[:, None] >> np.arange(8) & 1, np.inf, -np.inf).astype(np.float32)
"""For each byte of a mask, the largest logit that each of its eight ids may have."""
_COLDEST = 1e-30
"""Below this temperature every draw is the most likely id; 1 / it is still finite in float32."""


@dataclass(frozen=True)
class Row:
    """What the sampler must know of the sequence behind one row of logits."""

    params: SamplingParams
    position: int
    """Number of output ids so far."""
    history: np.ndarray
    """int64 [prompt + output], a view; read only by penalties."""
    prompt_length: int
    mask: Tensor | None = None
    """uint8 [ceil(vocab / 8) or more], a bit an id, least significant first."""

    @property
    def greedy(self) -> bool:
        """No draw: the most likely id."""
        return self.params.temperature == 0 or self.params.top_k == 1

    @property
    def truncated(self) -> bool:
        """Some ids are cut from the distribution."""
        return self.params.top_k > 0 or self.params.top_p < 1 or self.params.min_p > 0

    @property
    def adjusted(self) -> bool:
        """Logits are not drawn from as they are: `adjust` has something to do."""
        params = self.params
        return bool(
            self.mask is not None
            or params.repetition_penalty != 1.0
            or params.frequency_penalty
            or params.presence_penalty
            or params.logit_bias
            or self.position < params.min_tokens
        )


def uniform(seed: int, position: int, purpose: str = "draw") -> float:
    """Return the one draw in [0, 1) that belongs to a seed, a position and a purpose.

    The first 53 bits of SHA-256("sottovoce " || purpose || " v1" || seed u64 || position u64).
    """
    label = f"sottovoce {purpose} v1".encode()
    digest = hashlib.sha256(label + struct.pack("<QQ", seed, position)).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / float(1 << 53)


def sample(logits: Tensor, rows: Sequence[Row]) -> np.ndarray:
    """Draw one id for each row of `logits`, float32 [rows, vocab], which is overwritten.

    Returns int64 [rows]; -1 where mask, bias or NaN left no candidate.
    """
    for index, row in enumerate(rows):
        if row.adjusted:
            adjust(logits[index], row)
    if draws.available():
        return draws.draw(logits, [_wish(row) for row in rows])
    return sample_by_torch(logits, rows)


def sample_by_torch(logits: Tensor, rows: Sequence[Row]) -> np.ndarray:
    """Draw without the compiled library, from logits that are adjusted already."""
    ids = logits.argmax(dim=-1)
    best = logits.gather(1, ids[:, None])[:, 0]
    # A NaN anywhere wins the arg-max, so one comparison finds NaN, +inf and "nothing left".
    valid = best.isfinite()
    plain = [i for i, row in enumerate(rows) if not row.greedy and not row.truncated]
    if plain:
        _draw_plain(logits, rows, plain, ids)
    for index, row in enumerate(rows):
        if not row.greedy and row.truncated:
            ids[index] = _draw_truncated(logits[index], row)
    return ids.masked_fill_(~valid, -1).numpy()


def _wish(row: Row) -> draws.Draw:
    params = row.params
    if row.greedy:
        return draws.GREEDY
    return draws.Draw(
        max(params.temperature, _COLDEST),
        params.top_p,
        params.min_p,
        params.top_k,
        uniform(params.seed, row.position),
    )


def probabilities(logits: Tensor, row: Row) -> Tensor:
    """Return what one row is drawn from, float32 [vocab], given its logits after `adjust`.

    Logits that leave nothing to draw from give NaN, or nothing but zeros.
    """
    params = row.params
    if row.greedy:
        return torch.zeros_like(logits).index_fill_(0, logits.argmax(), 1.0)
    if not row.truncated:
        temperature = torch.tensor(max(params.temperature, _COLDEST))
        return torch.softmax(_tempered(logits, temperature), dim=-1)
    weights, ids = _nucleus(logits, params)
    return torch.zeros_like(logits).index_copy_(0, ids, weights / weights.sum())


def logprobs(logits: Tensor, chosen: Tensor, top: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return (chosen [n], top ids [n, top], top values [n, top]) of raw logits [n, vocab]."""
    normaliser = logits.logsumexp(dim=-1, keepdim=True)
    values, ids = logits.topk(top, dim=-1)
    picked = logits.gather(1, chosen[:, None])
    return (picked - normaliser)[:, 0], ids, values - normaliser


def adjust(logits: Tensor, row: Row) -> None:
    """Apply penalties, bias, `min_tokens` and mask to one row, float32 [vocab], in place."""
    params = row.params
    if params.repetition_penalty != 1.0:
        seen = torch.unique(torch.from_numpy(row.history))
        before, factor = logits[seen], params.repetition_penalty
        logits[seen] = torch.where(before > 0, before / factor, before * factor)
    if params.frequency_penalty or params.presence_penalty:
        drawn = torch.from_numpy(row.history[row.prompt_length :])
        seen, counts = torch.unique(drawn, return_counts=True)
        logits[seen] -= params.frequency_penalty * counts + params.presence_penalty
    if params.logit_bias:
        ids, values = zip(*params.logit_bias, strict=True)
        logits.index_add_(0, torch.tensor(ids), torch.tensor(values, dtype=logits.dtype))
    if row.position < params.min_tokens and params.eos_ids:
        logits[list(params.eos_ids)] = _NEVER
    if row.mask is not None:
        forbid(logits, row.mask)


def forbid(logits: Tensor, mask: Tensor) -> None:
    """Make every id impossible whose bit is not set, in place; NaN stays, wherever it is.

    By numpy, in this thread: for a row this long torch wakes all of its own, which costs more than
    the work and takes the processors from the compiled library's.
    """
    values = logits.numpy()
    limits = np.take(_LIMITS, mask.numpy(), axis=0).reshape(-1)[: len(values)]
    np.minimum(values, limits, out=values)


def _draw_plain(logits: Tensor, rows: Sequence[Row], plain: list[int], ids: Tensor) -> None:
    """Draw rows whose whole distribution is alive, together."""
    index = torch.tensor(plain)
    temperatures = torch.tensor([rows[i].params.temperature for i in plain])
    weights = torch.softmax(_tempered(logits[index], temperatures[:, None]), dim=-1)
    uniforms = [uniform(rows[i].params.seed, rows[i].position) for i in plain]
    ids[index] = invert(weights, torch.tensor(uniforms, dtype=torch.float64))


def _draw_truncated(logits: Tensor, row: Row) -> Tensor:
    """Draw one row after top-k, top-p and min-p; returns a 0-d id."""
    weights, ids = _nucleus(logits, row.params)
    draw = uniform(row.params.seed, row.position)
    return ids[invert(weights[None], torch.tensor([draw], dtype=torch.float64))[0]]


def _nucleus(logits: Tensor, params: SamplingParams) -> tuple[Tensor, Tensor]:
    """Return (weights, ids), most likely first, of one row; zero weight where it is cut."""
    tempered = _tempered(logits, torch.tensor(params.temperature))
    weights, ids = _candidates(tempered, params)
    alive = weights > 0
    if params.top_p < 1:
        # An id stays while the mass before it is below top_p; the first always stays.
        before = weights.cumsum(-1, dtype=torch.float64) - weights
        alive &= before < params.top_p
    if params.min_p > 0:
        alive &= weights >= params.min_p * weights[0]
    alive[0] = True
    return weights * alive, ids


def _candidates(tempered: Tensor, params: SamplingParams) -> tuple[Tensor, Tensor]:
    """Return (weights, ids), most likely first, wide enough to hold everything that survives.

    Weights are probabilities: with top-k among the k, without it among all, returned or not.
    """
    vocab = tempered.shape[-1]
    if params.top_k > 0:
        values, ids = tempered.topk(min(params.top_k, vocab))
        return torch.softmax(values, dim=-1), ids
    probabilities = torch.softmax(tempered, dim=-1)
    weights, ids = probabilities.topk(min(_CANDIDATES, vocab))
    wide_enough = (params.top_p < 1) & (weights.sum(dtype=torch.float64) >= params.top_p) | (
        weights[-1] < params.min_p * weights[0]
    )
    if len(weights) == vocab or wide_enough:
        return weights, ids
    return probabilities.sort(descending=True, stable=True)


def _tempered(logits: Tensor, temperature: Tensor) -> Tensor:
    # The best logit is moved to zero first: a tiny temperature then overflows to -inf, not NaN.
    return (logits - logits.amax(dim=-1, keepdim=True)) / temperature


def invert(weights: Tensor, uniforms: Tensor) -> Tensor:
    """Return for each row of weights the index at which the running sum passes its uniform.

    Weights are [rows, n] and need not add up to one; uniforms are float64 [rows], in [0, 1).
    """
    running = weights.cumsum(dim=-1, dtype=torch.float64)
    targets = uniforms[:, None] * running[:, -1:]
    drawn = torch.searchsorted(running, targets, right=True)[:, 0]
    # u * total can round up to the total; the last index with weight is then meant.
    last = weights.shape[-1] - 1 - (weights > 0).flip(-1).int().argmax(dim=-1)
    return torch.minimum(drawn, last)
