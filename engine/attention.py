"""Attention over the paged KV pool, called by transformers' own model code.

A model is called with all rows of a step as one sequence, [1, rows]. `AttentionHook` stands in
transformers' AttentionInterface under a name of its own and passes each layer's q, k and v to the
attention of the current step, which knows which row belongs to whom. (Not a keyword argument of
the model call: several architectures do not hand those on.)

No entry is made among transformers' mask functions: an implementation without one is given no
mask at all, which is what we want; masks are made here, from positions.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface

from engine.kv_cache import KVPool, LayerShape, runs

_numbers = itertools.count()


@dataclass(frozen=True)
class Span:
    """One sequence's rows in one step: positions start .. start + length - 1."""

    blocks: Sequence[int]
    """All blocks of the sequence, in order of position."""
    start: int
    length: int

    @property
    def context(self) -> int:
        """Positions there are after this step."""
        return self.start + self.length


@dataclass(frozen=True)
class Options:
    """What a layer asks of its attention."""

    scaling: float | None
    window: int | None
    """Each row sees this many positions, itself included; None for all."""
    softcap: float | None
    sinks: Tensor | None
    """A logit a query head that takes part in the softmax and adds nothing to the output."""


class Attention(Protocol):
    """What the hook calls; q, k, v are [1, heads, rows, size]."""

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, options: Options) -> Tensor:
        """Return [1, rows, query heads, value size]."""
        ...


class AttentionHook:
    """One converted model's entry in the AttentionInterface."""

    def __init__(self) -> None:
        self.name = f"sottovoce_{next(_numbers)}"
        self._current: Attention | None = None
        AttentionInterface.register(self.name, self._forward)

    @contextmanager
    def use(self, attention: Attention) -> Iterator[None]:
        """Let the model attend through `attention` meanwhile."""
        self._current = attention
        try:
            yield
        finally:
            self._current = None

    def _forward(
        self,
        module: Any,  # noqa: ANN401 - transformers' own attention modules share no type
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,  # noqa: ARG002 - always None, see above
        *,
        scaling: float | None = None,
        sliding_window: int | None = None,
        softcap: float | None = None,
        s_aux: Tensor | None = None,
        **_: Any,  # noqa: ANN401 - what other implementations want to know
    ) -> tuple[Tensor, None]:
        if self._current is None:
            raise RuntimeError("a converted model was called outside of a step")
        options = Options(scaling, sliding_window, softcap, s_aux)
        return self._current.attend(module.layer_idx, query, key, value, options), None


@dataclass
class ShapeProbe:
    """An attention that computes nothing and notes what every layer would ask for."""

    shapes: dict[int, LayerShape] = field(default_factory=dict)
    windows: dict[int, int | None] = field(default_factory=dict)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, options: Options) -> Tensor:
        """Return zeros of the right shape."""
        self.shapes[layer] = LayerShape(k.shape[1], k.shape[3], v.shape[3])
        self.windows[layer] = options.window
        return q.new_zeros(1, q.shape[2], q.shape[1], v.shape[3])


class AttentionBatch:
    """The attention of one step: writes the new rows' K and V, then attends over the pool."""

    def __init__(self, pool: KVPool, spans: Sequence[Span]) -> None:
        self._pool = pool
        device = pool.keys[0].device
        parts = [_slots(span, pool.block_size)[span.start :] for span in spans]
        self._slots = torch.cat(parts).to(device)
        self._groups = _group(spans, pool.block_size, device)
        positions = [torch.arange(span.start, span.context) for span in spans]
        self.positions = torch.cat(positions).to(device)
        """int64 [rows]."""

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, options: Options) -> Tensor:
        """Attend; see `Attention`."""
        self.write(layer, k, v)
        keys, values = self._pool.keys[layer], self._pool.values[layer]
        rows = q[0].transpose(0, 1)
        parts = [group.attend(rows[group.rows], keys, values, options) for group in self._groups]
        return (parts[0] if len(parts) == 1 else torch.cat(parts))[None]

    def write(self, layer: int, k: Tensor, v: Tensor) -> None:
        """Store the rows' k and v, [1, heads, rows, size]."""
        self._pool.write(layer, self._slots, k[0].transpose(0, 1), v[0].transpose(0, 1))


@dataclass(frozen=True)
class View:
    """The part of the cache that a group looks at, and who sees what of it."""

    first: int
    length: int
    mask: Tensor | None
    """bool, [queries, length] or [batch, 1, 1, length]; None when everything is seen."""
    causal: bool
    """Instead of a mask: queries and keys are the same positions."""


@dataclass
class Group:
    """Rows attended over by one call: one sequence's chunk, or one row each of several.

    The cache of member b is the slots base + b * stride and following, read as a view; when a
    sequence's blocks are no run, `index` lists its slots and they are gathered.
    """

    rows: slice
    starts: list[int]
    queries: int
    base: int
    stride: int
    index: Tensor | None
    device: torch.device
    _views: dict[int | None, View] = field(default_factory=dict)

    def attend(self, q: Tensor, keys: Tensor, values: Tensor, options: Options) -> Tensor:
        """Attend rows q [rows, query heads, size] over one layer's pool tensors."""
        view = self._views.get(options.window)
        if view is None:
            view = self._views[options.window] = self._view(options.window)
        k, v = self._cache(keys, view), self._cache(values, view)
        batch, heads = len(self.starts), k.shape[1]
        # [batch, kv heads, query heads of one kv head, queries, size]
        grouped = q.reshape(batch, self.queries, heads, -1, q.shape[-1]).permute(0, 2, 3, 1, 4)
        if options.softcap is not None or options.sinks is not None:
            out = _explicit(grouped, k, v, view, options)
        else:
            out = _fused(grouped, k, v, view, options.scaling)
        return out.permute(0, 3, 1, 2, 4).reshape(len(q), q.shape[1], v.shape[-1])

    def _cache(self, pool: Tensor, view: View) -> Tensor:
        _, heads, size = pool.shape
        if self.index is not None:
            gathered = pool[self.index[view.first : view.first + view.length]]
            return gathered.transpose(0, 1)[None]
        slot = heads * size
        return pool.as_strided(
            (len(self.starts), heads, view.length, size),
            (self.stride * slot, size, slot, 1),
            pool.storage_offset() + (self.base + view.first) * slot,
        )

    def _view(self, window: int | None) -> View:
        last = max(self.starts) + self.queries
        first = 0 if window is None else max(0, min(self.starts) - window + 1)
        length = last - first
        whole = window is None or window >= length
        if len(self.starts) == 1 and self.queries == 1:
            return View(first, length, None, causal=False)
        if len(self.starts) == 1 and self.starts[0] == 0 and whole:
            return View(first, length, None, causal=True)
        if len(set(self.starts)) == 1 and self.queries == 1:
            return View(first, length, None, causal=False)
        starts = torch.tensor(self.starts, device=self.device)
        positions = starts[:, None] + torch.arange(self.queries, device=self.device)
        seen = torch.arange(first, last, device=self.device)
        mask = seen <= positions[..., None]
        if window is not None:
            mask &= seen > positions[..., None] - window
        return View(first, length, mask[0] if len(starts) == 1 else mask[:, None], causal=False)


def _fused(q: Tensor, k: Tensor, v: Tensor, view: View, scaling: float | None) -> Tensor:
    batch, heads, shared, queries, size = q.shape
    if queries == 1:
        # Query heads that share a KV head become the rows of one product: one read of the cache.
        out = functional.scaled_dot_product_attention(
            q.reshape(batch, heads, shared, size), k, v, attn_mask=view.mask, scale=scaling
        )
    else:
        out = functional.scaled_dot_product_attention(
            q.reshape(batch, heads * shared, queries, size),
            k,
            v,
            attn_mask=view.mask,
            is_causal=view.causal,
            scale=scaling,
            enable_gqa=shared > 1,
        )
    return out.reshape(batch, heads, shared, queries, v.shape[-1])


def _explicit(q: Tensor, k: Tensor, v: Tensor, view: View, options: Options) -> Tensor:
    """Attention with soft-capped scores or sinks, which no fused kernel of torch offers."""
    batch, heads, shared, queries, size = q.shape
    scale = size**-0.5 if options.scaling is None else options.scaling
    flat = q.reshape(batch, heads, shared * queries, size)
    scores = (flat @ k.transpose(-1, -2)).float().mul_(scale)
    scores = scores.view(batch, heads, shared, queries, -1)
    if options.softcap is not None:
        scores.div_(options.softcap).tanh_().mul_(options.softcap)
    mask = view.mask
    if view.causal:
        mask = torch.ones(queries, view.length, dtype=torch.bool, device=q.device).tril()
    if mask is not None:
        # [queries, length] fits as it is; [batch, 1, 1, length] lacks one dimension.
        scores.masked_fill_(~(mask if mask.dim() == 2 else mask[:, None]), float("-inf"))
    if options.sinks is not None:
        sinks = options.sinks.float().view(1, heads, shared, 1, 1)
        sinks = sinks.expand(batch, heads, shared, queries, 1)
        weights = torch.cat([scores, sinks], dim=-1).softmax(-1)[..., :-1]
    else:
        weights = scores.softmax(-1)
    out = weights.to(v.dtype).reshape(batch, heads, shared * queries, -1) @ v
    return out.view(batch, heads, shared, queries, -1)


def _slots(span: Span, block_size: int) -> Tensor:
    """Return the slots of positions 0 .. context - 1, int64."""
    parts = [
        torch.arange(first * block_size, (first + count) * block_size)
        for first, count in runs(span.blocks)
    ]
    return torch.cat(parts)[: span.context]


def _group(spans: Sequence[Span], block_size: int, device: torch.device) -> list[Group]:
    groups: list[Group] = []
    first_row = 0
    at = 0
    while at < len(spans):
        count, stride = _alike(spans[at:], block_size)
        members = spans[at : at + count]
        rows = slice(first_row, first_row + sum(span.length for span in members))
        base = members[0].blocks[0] * block_size
        index = None if _is_run(members[0]) else _slots(members[0], block_size).to(device)
        starts = [span.start for span in members]
        groups.append(Group(rows, starts, members[0].length, base, stride, index, device))
        first_row, at = rows.stop, at + count
    return groups


def _alike(spans: Sequence[Span], block_size: int) -> tuple[int, int]:
    """Return how many of the first spans can be one group, and their stride in slots.

    They must be single rows over runs at equal distances, of contexts that do not differ much,
    and no member may look beyond its own blocks: what lies there is another sequence's.
    """
    if not _single(spans[0]):
        return 1, 0
    distance = 0
    shortest = longest = spans[0].context
    room = len(spans[0].blocks) * block_size
    for count, span in enumerate(spans[1:], 1):
        step = span.blocks[0] - spans[count - 1].blocks[0]
        shortest, longest = min(shortest, span.context), max(longest, span.context)
        room = min(room, len(span.blocks) * block_size)
        fits = _single(span) and longest <= room and longest <= 2 * shortest + block_size
        if not fits or step <= 0 or distance not in (0, step):
            return count, distance * block_size
        distance = step
    return len(spans), distance * block_size


def _single(span: Span) -> bool:
    return span.length == 1 and _is_run(span)


def _is_run(span: Span) -> bool:
    return span.blocks[-1] - span.blocks[0] == len(span.blocks) - 1 and (
        len(list(runs(span.blocks))) == 1
    )
