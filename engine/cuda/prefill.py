"""Triton kernel: a chunk's rows attend over their sequence's whole cache, their own rows included.

A tile of a chunk is some rows times the query heads that share one KV head, packed into one
product: row r of the product is query r // shared, head r % shared. Chunks of any lengths lie one
after another without padding; a tile knows its sequence and its first row (`Tables.tiles`).
"""

# A kernel's parameters are what its launch passes; the compiler types them, not we.
# ruff: noqa: ANN001, ANN201, PLR0915, PLR0917
# mypy: disable-error-code="import-not-found,no-untyped-def,untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from engine.cuda.paged import softcapped


@triton.jit(do_not_specialize=["across"])
def prefill_tile(
    q,
    keys,
    values,
    out,
    tiles,
    borders,
    contexts,
    blocks,
    sinks,
    scale,
    cap,
    window,
    across,
    q_row,
    q_head,
    heads: tl.constexpr,
    shared: tl.constexpr,
    queries: tl.constexpr,
    packed: tl.constexpr,
    size: tl.constexpr,
    size_pad: tl.constexpr,
    value_size: tl.constexpr,
    value_pad: tl.constexpr,
    block_size: tl.constexpr,
    tile: tl.constexpr,
    capped: tl.constexpr,
    sunk: tl.constexpr,
    exact: tl.constexpr,
):
    """Grid: tiles, KV heads."""
    at = tl.program_id(0)
    head = tl.program_id(1)
    sequence = tl.load(tiles + at * 2)
    first = tl.load(tiles + at * 2 + 1).to(tl.int32)
    border = tl.load(borders + sequence)
    length = (tl.load(borders + sequence + 1) - border).to(tl.int32)
    context = tl.load(contexts + sequence).to(tl.int32)
    before = context - length
    index = tl.arange(0, packed)
    query = first + index // shared
    query_head = head * shared + index % shared
    row_ok = (index // shared < queries) & (query < length)
    position = before + query
    dim = tl.arange(0, size_pad)
    vdim = tl.arange(0, value_pad)
    place = tl.arange(0, tile)
    q_at = (border + query)[:, None] * q_row + query_head[:, None] * q_head + dim[None, :]
    rows = tl.load(q + q_at, mask=row_ok[:, None] & (dim < size)[None, :], other=0.0)
    top = tl.full([packed], float("-inf"), tl.float32)
    total = tl.zeros([packed], tl.float32)
    product = tl.zeros([packed, value_pad], tl.float32)
    if sunk:
        top = tl.load(sinks + query_head, mask=row_ok, other=0.0)
        total += 1.0
    stop = before + tl.minimum(first + queries, length)
    floor = tl.maximum(before + first - window + 1, 0) // tile * tile
    for begin in range(floor, stop, tile):
        block = tl.load(blocks + begin // block_size * across + sequence)
        slot = block * block_size + begin % block_size + place
        there = begin + place < stop
        k_at = (slot[None, :] * heads + head) * size + dim[:, None]
        k = tl.load(keys + k_at, mask=there[None, :] & (dim < size)[:, None], other=0.0)
        if exact:
            scores = tl.dot(rows.to(tl.float32), k.to(tl.float32), input_precision="ieee") * scale
        else:
            scores = tl.dot(rows, k) * scale
        if capped:
            scores = softcapped(scores, cap)
        distance = position[:, None] - (begin + place)[None, :]
        scores = tl.where((distance >= 0) & (distance < window), scores, float("-inf"))
        higher = tl.maximum(top, tl.max(scores, 1))
        # A row that has seen nothing yet keeps its -inf, and exp(-inf - 0) is 0 as it should be.
        base = tl.where(higher == float("-inf"), 0.0, higher)
        factor = tl.exp(top - base)
        weights = tl.exp(scores - base[:, None])
        v_at = (slot[:, None] * heads + head) * value_size + vdim[None, :]
        v = tl.load(values + v_at, mask=there[:, None] & (vdim < value_size)[None, :], other=0.0)
        product = product * factor[:, None]
        if exact:
            product += tl.dot(weights, v.to(tl.float32), input_precision="ieee")
        else:
            product += tl.dot(weights.to(v.dtype), v)
        total = total * factor + tl.sum(weights, 1)
        top = higher
    result = product / tl.where(total > 0, total, 1.0)[:, None]
    row = (border + query)[:, None] * (heads * shared) + query_head[:, None]
    out_ok = row_ok[:, None] & (vdim < value_size)[None, :]
    tl.store(out + row * value_size + vdim[None, :], result.to(out.dtype.element_ty), mask=out_ok)
