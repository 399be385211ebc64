"""What lies between the products, replayed: T follows the residual stream through all layers.

Where U multiplies, T has been told the input X; here it is held against what T finds from the
embeddings and the products Y alone, so that every product is chained to the one before. Two
roundings of one value to bfloat16 lie a step apart at most; `Thresholds.steps` says how many pass.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional

from engine.native import checks
from engine.verification.model import Norms, TrustedModel
from engine.verification.transcript import Matrix, Opening

_STEP = 2.0**-8
"""Half the distance of neighbours in bfloat16 at most, in parts of the number."""
_FLOOR = 2.0**-6
"""Of a row's root mean square: an error in float32 follows what was added up, not what is left of
it, so a number far below its row may be off by more than its own steps. Three steps of this floor
are 2e-4 of the row's root mean square: nothing next to what three steps are elsewhere."""


@dataclass(frozen=True)
class Rows:
    """The opened rows of a step, as T knows them itself.

    Attributes:
        embeddings: bfloat16 [rows, hidden].
        positions: int64 [rows].
    """

    embeddings: Tensor
    positions: Tensor


@dataclass(frozen=True)
class Replayed:
    """How far U's inputs are from T's, in `_STEP`s; [layers, rows], infinite for not a number.

    `values` is bool: values are copied, and must be equal. `final` is float32 [rows, hidden]: what
    T would have the head multiply.
    """

    attention_input: Tensor
    mlp_input: Tensor
    activated: Tensor
    queries: Tensor
    keys: Tensor
    values: Tensor
    final: Tensor


def replay(
    model: TrustedModel, rows: Rows, opening: Opening, keys: Tensor, values: Tensor
) -> Replayed:
    """Replay opened rows through all layers.

    Args:
        model: as T has it.
        rows: whose rows they are.
        opening: what U told of them.
        keys: bfloat16 [layers, rows, key heads, size], as shipped.
        values: of the same shape.
    """
    found = checks.available()
    if found is not None:
        return _by_library(found, model, rows, opening, (keys.contiguous(), values.contiguous()))
    return by_torch(model, rows, opening, keys, values)


def _by_library(
    found: ctypes.CDLL,
    model: TrustedModel,
    rows: Rows,
    opening: Opening,
    shipped: tuple[Tensor, Tensor],
) -> Replayed:
    count, hidden = rows.embeddings.shape
    distances, last = torch.empty(6, model.layers, count), torch.empty(count, hidden)
    products = [opening.products[matrix] for matrix in Matrix]
    opened = [checks.opened(each.outputs, each.inputs) for each in products]
    cosine, sine = rotation(model, rows.positions)
    queries = opening.queries.contiguous()
    embeddings, at = rows.embeddings.contiguous(), checks.pointer
    norms = [getattr(model.norms, each.name) for each in fields(Norms)]
    work = checks.Replay(
        *opened,
        *map(at, (embeddings, queries, *shipped, cosine, sine)),
        (ctypes.c_void_p * len(norms))(*(None if norm is None else at(norm) for norm in norms)),
        *map(at, (model.final_norm, distances, last)),
        *(getattr(model, name) for name in _NUMBERS),
        *(model.layers, count, hidden, model.heads, model.key_heads, model.size),
    )
    found.sottovoce_replay(ctypes.byref(work), torch.get_num_threads())
    attention_input, mlp_input, activated, turned_queries, turned_keys, copied = distances
    return Replayed(
        attention_input=attention_input,
        mlp_input=mlp_input,
        activated=activated,
        queries=turned_queries,
        keys=turned_keys,
        values=copied == 0,
        final=last,
    )


_NUMBERS = (
    "epsilon", "embedding_scale", "residual_scale", "activation", "gated", "centred", "parallel",
    "whole_norms",
)  # fmt: skip


def by_torch(
    model: TrustedModel, rows: Rows, opening: Opening, keys: Tensor, values: Tensor
) -> Replayed:
    """Do as `replay`, in torch: the stream is a running sum over products that T already has."""
    y = {matrix: product.outputs for matrix, product in opening.products.items()}
    x = {matrix: product.inputs for matrix, product in opening.products.items()}
    starts, middles, last = stream(model, rows.embeddings, y[Matrix.OUTPUT], y[Matrix.DOWN])
    norms = model.norms
    attention_input = norm(model, norms.attention, starts)
    if not model.parallel:
        mlp_input = norm(model, norms.mlp, middles)
    elif norms.mlp is None:
        mlp_input = attention_input
    else:
        mlp_input = norm(model, norms.mlp, starts)
    q, k, v = _heads(model, y[Matrix.QKV])
    turn = rotation(model, rows.positions)
    return Replayed(
        attention_input=steps(x[Matrix.QKV], attention_input),
        mlp_input=steps(x[Matrix.GATE_UP], mlp_input),
        activated=steps(x[Matrix.DOWN], _activated(model, y[Matrix.GATE_UP])),
        queries=steps(opening.queries.flatten(2), _placed(model, q, norms.query, turn)),
        keys=steps(keys.flatten(2), _placed(model, k, norms.key, turn)),
        values=(values.flatten(2) == v).all(-1),
        final=norm(model, model.final_norm, last),
    )


def steps(told: Tensor, right: Tensor) -> Tensor:
    """Return the largest distance of each row; float32, infinite for what is not a number.

    Args:
        told: bfloat16 [..., width].
        right: float32 of the same shape.
    """
    floor = _FLOOR * right.square().mean(-1, keepdim=True).sqrt() + _SMALLEST
    distance = (told.float() - right).abs_() / torch.maximum(right.abs(), floor)
    found: Tensor = distance.amax(-1) / _STEP
    return found.nan_to_num_(nan=torch.inf)


_SMALLEST = 1e-30
"""For rows of zeros, which are to be zeros."""


def stream(
    model: TrustedModel, embeddings: Tensor, output: Tensor, down: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the residual stream before, and inside, each layer, and after the last; float32.

    Args:
        model: as T has it.
        embeddings: bfloat16 [rows, hidden].
        output: what attention adds, bfloat16 [layers, rows, hidden].
        down: what the MLP adds.
    """
    parts = torch.empty(2 * model.layers + 1, *embeddings.shape)
    parts[0] = embeddings.float() * model.embedding_scale
    parts[1::2] = norm(model, model.norms.attention_post, output.float()) * model.residual_scale
    parts[2::2] = norm(model, model.norms.mlp_post, down.float()) * model.residual_scale
    sums = parts.cumsum_(0)
    return sums[:-1:2], sums[1::2], sums[-1]


def norm(model: TrustedModel, weight: Tensor | None, x: Tensor) -> Tensor:
    """Normalise the last dimension as the family does; without a weight, return `x`."""
    if weight is None:
        return x
    if model.centred:
        x = x - x.mean(-1, keepdim=True)
    return _scaled(x, weight, model.epsilon)


def _scaled(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    return x * (x.square().mean(-1, keepdim=True) + epsilon).rsqrt_() * weight


def rotation(model: TrustedModel, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Return cosines and sines, float32 [layers, rows, 1, size / 2]."""
    angles = (positions.float()[:, None] * model.frequencies)[:, :, None]
    scale = model.rotary_scales[..., None]
    return angles.cos() * scale, angles.sin_() * scale


def _placed(
    model: TrustedModel, x: Tensor, weight: Tensor | None, turn: tuple[Tensor, Tensor]
) -> Tensor:
    """Normalise and rotate heads; float32 [layers, rows, heads * size]."""
    if weight is not None and model.whole_norms:
        x = _scaled(x, weight, model.epsilon)
    heads = x.view(*x.shape[:2], -1, model.size)
    if weight is not None and not model.whole_norms:
        heads = _scaled(heads, weight[:, :, None], model.epsilon)
    cosine, sine = turn
    a, b = heads.chunk(2, dim=-1)
    return torch.cat([a * cosine - b * sine, b * cosine + a * sine], -1).flatten(2)


def _heads(model: TrustedModel, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries and keys as float32, and values as they are."""
    size, key_heads = model.size, model.key_heads
    widths = [model.heads * size, key_heads * size, key_heads * size]
    q, k, v = torch.split(qkv, widths, -1)
    return q.float(), k.float(), v


_ACTIVATIONS: tuple[Callable[[Tensor], Tensor], ...] = (
    functional.silu,
    lambda x: functional.gelu(x, approximate="tanh"),
    functional.gelu,
    lambda x: functional.relu(x).square(),
)
"""In the order of `engine.native.families`."""


def _activated(model: TrustedModel, y: Tensor) -> Tensor:
    bend = _ACTIVATIONS[model.activation]
    if not model.gated:
        return bend(y.float())
    gate, up = y.chunk(2, dim=-1)
    return bend(gate.float()).mul_(up)
