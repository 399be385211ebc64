"""Every kernel against torch attention over the same pool, and how close it comes to a ceiling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from benchmarks.gpu.suite import BLOCK, Suite, relative_error
from engine.attention import AttentionBatch, Options, Span
from engine.cuda.backend import Kernels, LayerCache
from engine.cuda.tables import Tables, fill, shape_of, tile_length, view
from engine.kv_cache import KVPool, LayerShape

PLAIN = Options(None, None, None, None)
_HEADS, _SHARED, _SIZE = 8, 4, 128
"""KV heads, query heads that share one, and the size of a head: those of the 8B shape."""
_MOST_POSITIONS = 1 << 21
_CHECKS: tuple[tuple[str, list[tuple[int, int]], Options], ...] = (
    ("decode", [(0, 1), (63, 1), (64, 1), (700, 1), (4000, 1)], PLAIN),
    ("decode window", [(3000, 1), (12, 1)], Options(None, 128, None, None)),
    ("decode cap", [(900, 1)], Options(0.1, None, 30.0, None)),
    ("prefill", [(0, 300), (0, 2), (64, 64)], PLAIN),
    ("prefill on cache", [(1000, 200), (77, 33)], PLAIN),
    ("prefill window", [(0, 500), (600, 70)], Options(None, 100, None, None)),
    ("prefill cap", [(0, 150)], Options(0.1, None, 30.0, None)),
    ("mixed", [(500, 1), (0, 190), (33, 1), (900, 100)], Options(None, 400, 20.0, None)),
)


def spans_of(lengths: Sequence[tuple[int, int]], *, seed: int = 0) -> tuple[list[Span], int]:
    """Return spans of (start, rows) over blocks without order, and how many blocks there are."""
    counts = [-(-(start + rows) // BLOCK) for start, rows in lengths]
    order = torch.randperm(sum(counts) + 2, generator=torch.Generator().manual_seed(seed)).tolist()
    spans, at = [], 0
    for (start, rows), count in zip(lengths, counts, strict=True):
        spans.append(Span(order[at : at + count], start, rows))
        at += count
    return spans, len(order)


def tables_of(spans: Sequence[Span], tile: int, device: torch.device) -> Tables:
    """Return a step's tables on the device."""
    shape = shape_of(spans, BLOCK, tile)
    host = torch.zeros(shape.total, dtype=torch.int64)
    fill(view(host, shape), spans, BLOCK, tile)
    return view(host.to(device), shape)


def run_kernels(
    kernels: Kernels, cache: LayerCache, rows: Sequence[Tensor], tables: Tables
) -> Tensor:
    """Write and attend one step; returns the output."""
    q, k, v = rows
    kernels.write(cache.pool, cache.layer, tables.slots, k, v)
    out = torch.full((len(q), q.shape[1], v.shape[2]), float("nan"), dtype=q.dtype, device=q.device)
    if len(tables.decoding):
        kernels.decode(q, cache, tables, out)
    if len(tables.tiles):
        kernels.prefill(q, cache, tables, out)
    return out


@dataclass(frozen=True)
class Case:
    """A step of (start, rows) pairs for one kind of layer."""

    name: str
    lengths: list[tuple[int, int]]
    options: Options


def check_kernels(suite: Suite) -> None:
    """Hold every kernel against torch attention over the same pool, in three types."""
    types = {torch.bfloat16: 1e-2, torch.float16: 3e-3, torch.float32: 1e-4}
    for dtype, limit in types.items():
        for name, lengths, options in _CHECKS:
            case = Case(name, _smaller(suite, lengths), options)
            sinks = torch.randn(_HEADS * _SHARED, device=suite.device)
            sunk = Case(f"{name} sinks", case.lengths, replace(options, sinks=sinks))
            _check(suite, case, dtype, limit)
            _check(suite, sunk, dtype, limit)
    _check_zeroing(suite)


def _check(suite: Suite, case: Case, dtype: torch.dtype, limit: float) -> None:
    size = 128 if suite.on_gpu else 16
    spans, blocks = spans_of(case.lengths)
    shape = LayerShape(_HEADS, size, size)
    pool = random_pool(suite, shape, blocks, dtype)
    count = sum(span.length for span in spans)
    rows = [
        torch.randn(heads, count, size, device=suite.device, dtype=dtype).transpose(0, 1)
        for heads in (_HEADS * _SHARED, _HEADS, _HEADS)
    ]
    tile = tile_length(suite.kernels.tile_rows, _SHARED)
    cache = LayerCache(pool, 0, case.options)
    got = run_kernels(suite.kernels, cache, rows, tables_of(spans, tile, suite.device))
    # The reference computes in float32 whatever the type, from the same rounded numbers.
    exact = random_pool(suite, shape, blocks, torch.float32)
    exact.keys[0].copy_(pool.keys[0])
    exact.values[0].copy_(pool.values[0])
    heads_first = [part.transpose(0, 1)[None].float() for part in rows]
    want = AttentionBatch(exact, spans).attend(0, *heads_first, case.options)[0]
    kind = str(dtype).removeprefix("torch.")
    suite.check(f"{suite.kernels.name} {case.name} {kind}", relative_error(got, want), limit)


def _check_zeroing(suite: Suite) -> None:
    shapes = [LayerShape(8, 128, 128), LayerShape(2, 64, 32)]
    pool = KVPool(shapes, blocks=9, block_size=BLOCK, dtype=torch.bfloat16, device=suite.device)
    tensors = [*pool.keys, *pool.values]
    for tensor in tensors:
        tensor.fill_(1)
    suite.kernels.zero(pool, [1, 4, 5])
    kept = torch.ones(9, dtype=torch.bool, device=suite.device)
    kept[[1, 4, 5]] = False
    wrong = sum(
        int((tensor.view(9, -1) != kept[:, None].to(tensor.dtype)).sum()) for tensor in tensors
    )
    suite.check("blocks zeroed, and no others", float(wrong), 0.5)
    if not suite.on_gpu:
        return
    from engine.cuda.erase import CudaEraser, free_ranges  # noqa: PLC0415 - needs Triton

    secret = torch.full((1 << 20,), 7, dtype=torch.uint8, device=suite.device)
    address, kept_tensor = secret.data_ptr(), torch.ones(1 << 20, device=suite.device)
    del secret
    CudaEraser(suite.device).erase()
    index = torch.cuda.current_device()
    free = free_ranges(torch.cuda.memory_snapshot(), index)
    found = any(at <= address < at + size for at, size in free)
    again = torch.empty(1 << 20, dtype=torch.uint8, device=suite.device)
    same = again.data_ptr() == address
    wrong = int(again.any()) + int(not bool(kept_tensor.all())) + int(not found) + int(not same)
    suite.check("freed memory zeroed, owned memory kept", float(wrong), 0.5)


def time_kernels(suite: Suite) -> None:
    """Measure decode attention as a share of the copy bandwidth, prefill of the matmul rate."""
    for context in suite.sizes.contexts:
        for batch in suite.sizes.batches:
            if batch * context <= _MOST_POSITIONS:
                _time_decode(suite, batch, context)
    _time_prefill(suite, suite.sizes.long_prompt)


def _time_decode(suite: Suite, batch: int, context: int) -> None:
    spans, blocks = spans_of([(context - 1, 1)] * batch)
    pool = random_pool(suite, LayerShape(_HEADS, _SIZE, _SIZE), blocks)
    q = _queries(suite, batch)
    tables, cache = tables_of(spans, 1, suite.device), LayerCache(pool, 0, PLAIN)
    out = torch.empty_like(q)
    times = graphed(suite, lambda: suite.kernels.decode(q, cache, tables, out))
    moved = 4 * batch * context * _HEADS * _SIZE
    shares = [moved / one / 1e9 / suite.bandwidth for one in times]
    case = f"sweep decode attention bandwidth share @ b{batch}, context {context}"
    suite.add(case, "of copy", shares)


def _time_prefill(suite: Suite, rows: int) -> None:
    spans, blocks = spans_of([(0, rows)])
    pool = random_pool(suite, LayerShape(_HEADS, _SIZE, _SIZE), blocks)
    q = _queries(suite, rows)
    tile = tile_length(suite.kernels.tile_rows, _SHARED)
    tables, cache = tables_of(spans, tile, suite.device), LayerCache(pool, 0, PLAIN)
    out = torch.empty_like(q)
    times = suite.seconds(lambda: suite.kernels.prefill(q, cache, tables, out))
    work = 2 * rows * rows * _HEADS * _SHARED * _SIZE  # half of 4 n^2: causal
    shares = [work / one / 1e12 / suite.rate for one in times]
    suite.add(f"sweep prefill attention rate share @ {rows} rows", "of matmul", shares)


def _queries(suite: Suite, rows: int) -> Tensor:
    size = (rows, _HEADS * _SHARED, _SIZE)
    return torch.randn(size, device=suite.device, dtype=torch.bfloat16)


def random_pool(
    suite: Suite, shape: LayerShape, blocks: int, dtype: torch.dtype = torch.bfloat16
) -> KVPool:
    """Return a pool of one layer that is full of random numbers."""
    pool = KVPool([shape], blocks=blocks, block_size=BLOCK, dtype=dtype, device=suite.device)
    pool.keys[0].normal_()
    pool.values[0].normal_()
    return pool


def graphed(suite: Suite, work: Callable[[], object], times: int = 20) -> list[float]:
    """Return seconds of one `work`, many of which are launched as one graph."""
    if not suite.on_gpu:
        return suite.seconds(work)
    work()
    suite.wait()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(times):
            work()
    return [one / times for one in suite.seconds(graph.replay)]


def _smaller(suite: Suite, lengths: list[tuple[int, int]]) -> list[tuple[int, int]]:
    if suite.on_gpu:
        return lengths
    return [(start // 8, max(1, rows // 8) if rows > 16 else rows) for start, rows in lengths]
