"""Triton kernels of `engine.kv_alignment`: three passes, each over what it needs and no more.

`aligned_scores` reads K by dimensions and leaves every score in memory (a few bytes a position, of
hundreds) at the place of its slot, because which positions matter is known only when all scores
are. `aligned_values` then reads V by positions, and `engine.cuda.paged.join_splits` puts the parts
together.
"""

# A kernel's parameters are what its launch passes; the compiler types them, not we.
# ruff: noqa: ANN001, ANN201, PLR0917
# mypy: disable-error-code="import-not-found,no-untyped-def,untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from engine.cuda import paged
from engine.cuda.tables import Tables
from engine.kv_alignment import (
    KEY_LOW,
    KEY_NONE,
    MIDDLE,
    VALUE_LOW,
    VALUE_NONE,
    AlignedKVPool,
    AlignedLayer,
)

_NO_WINDOW = 1 << 30
_SPLITS = 32
_SMALLEST_PRODUCT = 16


@triton.jit
def halves(high, low):
    """float16 values of their bytes."""
    bits = (high.to(tl.int16) << 8) | low.to(tl.int16)
    return bits.to(tl.float16, bitcast=True)


@triton.jit
def store_keys(
    rows,
    high,
    low,
    tops,
    slots,
    row_stride,
    head_stride,
    size: tl.constexpr,
    elements: tl.constexpr,
    elements_pad: tl.constexpr,
    block_size: tl.constexpr,
):
    """Grid: rows. Slot -1 is nowhere."""
    row = tl.program_id(0)
    slot = tl.load(slots + row)
    if slot >= 0:
        element = tl.arange(0, elements_pad)
        ok = element < elements
        source = row.to(tl.int64) * row_stride + element // size * head_stride + element % size
        value = tl.load(rows + source, mask=ok, other=0.0).to(tl.float32)
        value = tl.minimum(tl.maximum(value, -65504.0), 65504.0).to(tl.float16)
        bits = value.to(tl.int16, bitcast=True).to(tl.int32) & 0xFFFF
        line = slot // block_size * elements + element
        at = line * block_size + slot % block_size
        tl.store(high + at, (bits >> 8).to(tl.uint8), mask=ok)
        tl.store(low + at, (bits & 0xFF).to(tl.uint8), mask=ok)
        tl.atomic_max(tops + line, (bits >> 10) & 31, mask=ok)


@triton.jit
def store_values(
    rows,
    high,
    low,
    slots,
    row_stride,
    head_stride,
    size: tl.constexpr,
    elements: tl.constexpr,
    elements_pad: tl.constexpr,
):
    """Grid: rows. Slot -1 is nowhere."""
    row = tl.program_id(0)
    slot = tl.load(slots + row)
    if slot >= 0:
        element = tl.arange(0, elements_pad)
        ok = element < elements
        source = row.to(tl.int64) * row_stride + element // size * head_stride + element % size
        value = tl.load(rows + source, mask=ok, other=0.0).to(tl.float32)
        value = tl.minimum(tl.maximum(value, -65504.0), 65504.0).to(tl.float16)
        bits = value.to(tl.int16, bitcast=True).to(tl.int32) & 0xFFFF
        at = slot * elements + element
        tl.store(high + at, (bits >> 8).to(tl.uint8), mask=ok)
        tl.store(low + at, (bits & 0xFF).to(tl.uint8), mask=ok)


@triton.jit(do_not_specialize=["across", "slots"])
def aligned_scores(
    q,
    high,
    low,
    tops,
    scores,
    maxima,
    decoding,
    borders,
    contexts,
    blocks,
    scale,
    cap,
    window,
    across,
    slots,
    q_row,
    q_head,
    heads: tl.constexpr,
    shared: tl.constexpr,
    shared_pad: tl.constexpr,
    size: tl.constexpr,
    size_pad: tl.constexpr,
    block_size: tl.constexpr,
    splits: tl.constexpr,
    capped: tl.constexpr,
    from_low: tl.constexpr,
    from_none: tl.constexpr,
    middle: tl.constexpr,
):
    """Grid: decoding sequences, KV heads, splits."""
    at = tl.program_id(0)
    head = tl.program_id(1)
    part = tl.program_id(2)
    sequence = tl.load(decoding + at)
    row = tl.load(borders + sequence)
    context = tl.load(contexts + sequence).to(tl.int32)
    first, start, stop = paged.split_range(context, window, part, block_size, splits)
    member = tl.arange(0, shared_pad)
    dim = tl.arange(0, size_pad)
    place = tl.arange(0, block_size)
    there = (member < shared)[:, None] & (dim < size)[None, :]
    q_at = row * q_row + (head * shared + member)[:, None] * q_head + dim[None, :]
    rows = tl.load(q + q_at, mask=there, other=0.0).to(tl.float32)
    bits = rows.to(tl.int32, bitcast=True)
    exponents = tl.where(bits & 0x7FFFFFFF != 0, (bits >> 23) & 0xFF, -1000)
    empty = tl.max(exponents, 1) == -1000
    rows = rows.to(tl.float16)
    highest = tl.full([shared_pad], float("-inf"), tl.float32)
    score_line = (head * shared + member).to(tl.int64) * slots
    for begin in range(start, stop, block_size):
        block = tl.load(blocks + begin // block_size * across + sequence)
        line = (block * heads + head) * size + dim
        top = tl.load(tops + line, mask=dim < size, other=-2000)
        products = exponents + top[None, :]
        below = tl.max(products, 1)[:, None] - products
        below = tl.where(empty[:, None], 1000, below)
        difference = tl.min(below, 0)
        with_high = (difference < from_none) & (dim < size)
        with_low = (difference < from_low) & (dim < size)
        seen = begin + place < stop
        # Whole lines, so that loads are wide; what lies behind the context is masked below.
        k_at = line[:, None] * block_size + place[None, :]
        upper = tl.load(high + k_at, mask=with_high[:, None], other=0)
        lower = tl.load(low + k_at, mask=with_low[:, None], other=0)
        lower = tl.where((with_high & (difference >= from_low))[:, None], middle, lower)
        result = tl.dot(rows, halves(upper, lower)) * scale
        if capped:
            result = paged.softcapped(result, cap)
        ok = (seen & (begin + place >= first))[None, :] & (member < shared)[:, None]
        result = tl.where(ok, result, float("-inf"))
        highest = tl.maximum(highest, tl.max(result, 1))
        slot = block * block_size + place
        tl.store(scores + score_line[:, None] + slot[None, :], result, mask=ok)
    out = ((at * heads + head) * shared + member) * splits + part
    tl.store(maxima + out, highest, mask=member < shared)


@triton.jit(do_not_specialize=["across", "slots"])
def aligned_values(
    scores,
    maxima,
    high,
    low,
    products,
    tops,
    sums,
    decoding,
    contexts,
    blocks,
    window,
    across,
    slots,
    heads: tl.constexpr,
    shared: tl.constexpr,
    shared_pad: tl.constexpr,
    value_size: tl.constexpr,
    value_pad: tl.constexpr,
    block_size: tl.constexpr,
    splits: tl.constexpr,
    from_low: tl.constexpr,
    from_none: tl.constexpr,
    middle: tl.constexpr,
):
    """Grid: decoding sequences, KV heads, splits."""
    at = tl.program_id(0)
    head = tl.program_id(1)
    part = tl.program_id(2)
    sequence = tl.load(decoding + at)
    context = tl.load(contexts + sequence).to(tl.int32)
    first, start, stop = paged.split_range(context, window, part, block_size, splits)
    member = tl.arange(0, shared_pad)
    vdim = tl.arange(0, value_pad)
    place = tl.arange(0, block_size)
    member_ok = member < shared
    line = (at * heads + head) * shared + member
    score_line = (head * shared + member).to(tl.int64) * slots
    parts = tl.arange(0, splits)
    all_maxima = tl.load(
        maxima + line[:, None] * splits + parts[None, :],
        mask=member_ok[:, None],
        other=float("-inf"),
    )
    highest = tl.max(all_maxima, 1)
    nothing = from_none + tl.ceil(tl.log2(tl.maximum(context - first, 1).to(tl.float32)))
    total = tl.zeros([shared_pad], tl.float32)
    product = tl.zeros([shared_pad, value_pad], tl.float32)
    for begin in range(start, stop, block_size):
        block = tl.load(blocks + begin // block_size * across + sequence)
        seen = (begin + place < stop) & (begin + place >= first)
        ok = seen[None, :] & member_ok[:, None]
        slot = block * block_size + place
        score = tl.load(scores + score_line[:, None] + slot[None, :], mask=ok, other=float("-inf"))
        # Heads that are only padding have no highest score and no say.
        below = tl.where(ok, (highest[:, None] - score) * 1.4426950408889634, 1000.0)
        difference = tl.floor(tl.min(below, 0))
        weights = tl.where(ok, tl.exp(score - highest[:, None]), 0.0)
        with_high = seen & (difference < nothing)
        with_low = seen & (difference < from_low)
        v_at = (slot[:, None] * heads + head) * value_size + vdim[None, :]
        inside = (vdim < value_size)[None, :]
        upper = tl.load(high + v_at, mask=with_high[:, None] & inside, other=0)
        lower = tl.load(low + v_at, mask=with_low[:, None] & inside, other=0)
        lower = tl.where((with_high & (difference >= from_low))[:, None], middle, lower)
        product += tl.dot(weights.to(tl.float16), halves(upper, lower))
        total += tl.sum(weights, 1)
    out = line * splits + part
    tl.store(tops + out, tl.where(start < stop, highest, float("-inf")), mask=member_ok)
    tl.store(sums + out, total, mask=member_ok)
    p_at = out[:, None] * value_size + vdim[None, :]
    tl.store(products + p_at, product, mask=member_ok[:, None] & (vdim < value_size)[None, :])


def write_aligned(pool: AlignedKVPool, layer: int, slots: Tensor, k: Tensor, v: Tensor) -> None:
    """Store k and v, [rows, heads, size] of any strides, at `slots`; nothing at -1."""
    keys, values = pool.keys[layer], pool.values[layer]
    for rows, planes in ((k, keys), (v, values)):
        count, heads, size = rows.shape
        one = rows if rows.stride(-1) == 1 else rows.contiguous()
        sizes = {
            "size": size,
            "elements": heads * size,
            "elements_pad": triton.next_power_of_2(heads * size),
        }
        strides = (one.stride(0), one.stride(1))
        if planes is keys:
            tops = pool.tops[layer]
            store_keys[(count,)](
                one, planes.high, planes.low, tops, slots, *strides, **sizes,
                block_size=pool.block_size,
            )  # fmt: skip
        else:
            store_values[(count,)](one, planes.high, planes.low, slots, *strides, **sizes)


def decode_aligned(q: Tensor, cache: AlignedLayer, tables: Tables, out: Tensor) -> None:
    """Attend the rows of `tables.decoding`; see `engine.cuda.backend.Kernels.decode`."""
    shape, options, block_size = cache.shape, cache.options, cache.pool.block_size
    keys, values = cache.keys, cache.values
    count, query_heads = len(tables.decoding), q.shape[1]
    q = q if q.stride(-1) == 1 else q.contiguous()
    shared = query_heads // shape.heads
    value_pad = _padded(shape.value_size)
    slots = cache.pool.blocks * block_size
    floats = q.new_empty(0).float()
    scores = floats.new_empty(query_heads, slots)  # every position of every sequence has one
    maxima, tops, sums = floats.new_empty(3, count, query_heads, _SPLITS)
    products = floats.new_empty(count, query_heads, _SPLITS, shape.value_size)
    scale = q.shape[-1] ** -0.5 if options.scaling is None else options.scaling
    window = _NO_WINDOW if options.window is None else options.window
    across = tables.blocks.shape[1]
    # Without a pipeline: Triton's copies of bytes would be 4 wide, its plain loads are 16.
    common = {
        "heads": shape.heads,
        "shared": shared,
        "shared_pad": _padded(shared),
        "block_size": block_size,
        "splits": _SPLITS,
        "middle": MIDDLE,
    }
    grid = (count, shape.heads, _SPLITS)
    aligned_scores[grid](
        q, keys.high, keys.low, cache.tops, scores, maxima,
        tables.decoding, tables.borders, tables.contexts, tables.blocks,
        scale, options.softcap or 0.0, window, across, slots, q.stride(0), q.stride(1),
        **common, size=shape.key_size, size_pad=_padded(shape.key_size),
        capped=options.softcap is not None, from_low=KEY_LOW, from_none=KEY_NONE, num_stages=1,
    )  # fmt: skip
    aligned_values[grid](
        scores, maxima, values.high, values.low, products, tops, sums,
        tables.decoding, tables.contexts, tables.blocks, window, across, slots,
        **common, value_size=shape.value_size, value_pad=value_pad,
        from_low=VALUE_LOW, from_none=VALUE_NONE, num_stages=1,
    )  # fmt: skip
    sinks = sums if options.sinks is None else options.sinks.float().contiguous()
    paged.join_splits[(count, query_heads)](
        products, tops, sums, out, tables.decoding, tables.borders, sinks, query_heads,
        value_size=shape.value_size, value_pad=value_pad, splits=_SPLITS, splits_pad=_SPLITS,
        sunk=options.sinks is not None,
    )  # fmt: skip


def _padded(size: int) -> int:
    return max(_SMALLEST_PRODUCT, int(triton.next_power_of_2(size)))
