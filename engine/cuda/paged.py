"""Triton kernels over the paged pool: decode attention, storing, zeroing.

A tile is some positions of one KV block, so a tile's slots are consecutive and one table entry
finds them. A program of `decode_split` attends all query heads that share a KV head over one part
of one sequence, with one read of the cache; `join_splits` puts the parts together. How many parts
there are depends on the batch alone, never on a context's length: a captured graph holds for all.

Padding rows have context 0: their loops are empty and their output is zero.
"""

# A kernel's parameters are what its launch passes; the compiler types them, not we.
# ruff: noqa: ANN001, ANN201, PLR0917
# mypy: disable-error-code="import-not-found,no-untyped-def,untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def softcapped(scores, cap):
    """Cap * tanh(scores / cap); Triton has no tanh that runs everywhere."""
    return cap * (1.0 - 2.0 / (tl.exp(2.0 * scores / cap) + 1.0))


@triton.jit
def split_range(context, window, part, tile: tl.constexpr, splits: tl.constexpr):
    """Where a sequence's seen positions begin, and where a part of them, in whole tiles, does."""
    first = tl.maximum(context - window, 0)
    origin = first // tile * tile
    length = tl.cdiv(tl.cdiv(context - origin, splits), tile) * tile
    start = origin + part * length
    return first, start, tl.minimum(start + length, context)


@triton.jit(do_not_specialize=["across"])
def decode_split(
    q,
    keys,
    values,
    products,
    tops,
    sums,
    decoding,
    borders,
    contexts,
    blocks,
    scale,
    cap,
    window,
    across,
    q_row,
    q_head,
    heads: tl.constexpr,
    shared: tl.constexpr,
    shared_pad: tl.constexpr,
    size: tl.constexpr,
    size_pad: tl.constexpr,
    value_size: tl.constexpr,
    value_pad: tl.constexpr,
    block_size: tl.constexpr,
    tile: tl.constexpr,
    splits: tl.constexpr,
    capped: tl.constexpr,
    exact: tl.constexpr,
):
    """Grid: decoding sequences, KV heads, splits."""
    at = tl.program_id(0)
    head = tl.program_id(1)
    part = tl.program_id(2)
    sequence = tl.load(decoding + at)
    row = tl.load(borders + sequence)
    context = tl.load(contexts + sequence).to(tl.int32)
    first, start, stop = split_range(context, window, part, tile, splits)
    member = tl.arange(0, shared_pad)
    dim = tl.arange(0, size_pad)
    vdim = tl.arange(0, value_pad)
    member_ok = member < shared
    q_at = row * q_row + (head * shared + member)[:, None] * q_head + dim[None, :]
    rows = tl.load(q + q_at, mask=member_ok[:, None] & (dim < size)[None, :], other=0.0)
    top = tl.full([shared_pad], float("-inf"), tl.float32)
    total = tl.zeros([shared_pad], tl.float32)
    product = tl.zeros([shared_pad, value_pad], tl.float32)
    for begin in range(start, stop, tile):
        block = tl.load(blocks + begin // block_size * across + sequence)
        place = tl.arange(0, tile)
        position = begin + place
        seen = (position < stop) & (position >= first)
        slot = block * block_size + begin % block_size + place
        k_at = (slot[None, :] * heads + head) * size + dim[:, None]
        k = tl.load(keys + k_at, mask=seen[None, :] & (dim < size)[:, None], other=0.0)
        if exact:
            scores = tl.dot(rows.to(tl.float32), k.to(tl.float32), input_precision="ieee") * scale
        else:
            scores = tl.dot(rows, k) * scale
        if capped:
            scores = softcapped(scores, cap)
        scores = tl.where(seen[None, :], scores, float("-inf"))
        higher = tl.maximum(top, tl.max(scores, 1))
        factor = tl.exp(top - higher)
        weights = tl.exp(scores - higher[:, None])
        v_at = (slot[:, None] * heads + head) * value_size + vdim[None, :]
        v = tl.load(values + v_at, mask=seen[:, None] & (vdim < value_size)[None, :], other=0.0)
        product = product * factor[:, None]
        if exact:
            product += tl.dot(weights, v.to(tl.float32), input_precision="ieee")
        else:
            product += tl.dot(weights.to(v.dtype), v)
        total = total * factor + tl.sum(weights, 1)
        top = higher
    out = ((at * heads + head) * shared + member) * splits + part
    tl.store(tops + out, top, mask=member_ok)
    tl.store(sums + out, total, mask=member_ok)
    p_at = out[:, None] * value_size + vdim[None, :]
    tl.store(products + p_at, product, mask=member_ok[:, None] & (vdim < value_size)[None, :])


@triton.jit
def join_splits(
    products,
    tops,
    sums,
    out,
    decoding,
    borders,
    sinks,
    query_heads,
    value_size: tl.constexpr,
    value_pad: tl.constexpr,
    splits: tl.constexpr,
    splits_pad: tl.constexpr,
    sunk: tl.constexpr,
):
    """Grid: decoding sequences, query heads."""
    at = tl.program_id(0)
    head = tl.program_id(1)
    row = tl.load(borders + tl.load(decoding + at))
    part = tl.arange(0, splits_pad)
    vdim = tl.arange(0, value_pad)
    line = (at * query_heads + head) * splits
    top = tl.load(tops + line + part, mask=part < splits, other=float("-inf"))
    total = tl.load(sums + line + part, mask=part < splits, other=0.0)
    highest = tl.max(top, 0)
    if sunk:
        sink = tl.load(sinks + head)
        highest = tl.maximum(highest, sink)
    # A sequence of no positions has no highest score; its factors must be 0, not NaN.
    factor = tl.where(top == float("-inf"), 0.0, tl.exp(top - highest))
    weight = tl.sum(factor * total, 0)
    if sunk:
        weight += tl.exp(sink - highest)
    p_at = (line + part)[:, None] * value_size + vdim[None, :]
    p_ok = (part < splits)[:, None] & (vdim < value_size)[None, :]
    product = tl.load(products + p_at, mask=p_ok, other=0.0)
    joined = tl.sum(product * factor[:, None], 0) / tl.where(weight > 0, weight, 1.0)
    out_at = (row * query_heads + head) * value_size + vdim
    tl.store(out + out_at, joined.to(out.dtype.element_ty), mask=vdim < value_size)


@triton.jit
def store_rows(
    rows,
    pool,
    slots,
    row_stride,
    head_stride,
    size: tl.constexpr,
    elements: tl.constexpr,
    elements_pad: tl.constexpr,
):
    """Grid: rows. Copies [heads, size] of each to its slot; slot -1 is nowhere."""
    row = tl.program_id(0)
    slot = tl.load(slots + row)
    if slot >= 0:
        element = tl.arange(0, elements_pad)
        ok = element < elements
        source = row.to(tl.int64) * row_stride + element // size * head_stride + element % size
        tl.store(pool + slot * elements + element, tl.load(rows + source, mask=ok), mask=ok)


@triton.jit
def zero_blocks(
    base,
    offsets,
    extents,
    blocks,
    chunk: tl.constexpr,
):
    """Grid: blocks, tensors. Block b of tensor t is extents[t] elements from offsets[t] on."""
    block = tl.load(blocks + tl.program_id(0))
    extent = tl.load(extents + tl.program_id(1))
    start = tl.load(offsets + tl.program_id(1)) + block * extent
    nothing = tl.zeros([chunk], base.dtype.element_ty)
    for at in range(0, extent, chunk):
        element = at + tl.arange(0, chunk)
        tl.store(base + start + element, nothing, mask=element < extent)


@triton.jit
def zero_range(address, size, chunk: tl.constexpr):
    """Grid: chunks of a range of `size` bytes of device memory that begins at `address`."""
    byte = tl.program_id(0).to(tl.int64) * chunk + tl.arange(0, chunk)
    memory = address.to(tl.pointer_type(tl.uint8))
    tl.store(memory + byte, tl.zeros([chunk], tl.uint8), mask=byte < size)
