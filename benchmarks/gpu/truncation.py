"""KV truncation: bytes saved, accuracy, and speed against the kernels that read everything."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.gpu.kernels import PLAIN, graphed, random_pool, spans_of, tables_of
from benchmarks.gpu.suite import BLOCK, Suite, relative_error
from engine.attention import AttentionBatch
from engine.cuda.backend import LayerCache
from engine.cuda.tables import Tables
from engine.kv_alignment import AlignedKVPool, AlignedLayer, attend_aligned
from engine.kv_cache import LayerShape

_HEADS, _SHARED, _SIZE = 8, 4, 128


def truncation(suite: Suite) -> None:
    """Measure attention over a pool in planes against the whole one, on the same synthetic cache.

    Some channels of K far above the others, a first position that draws much attention, and near
    positions that draw more than far ones: as caches of large models are described. Not a model's.
    """
    for context in suite.sizes.contexts:
        _measure(suite, context, min(8, suite.sizes.batches[-1]))


def _measure(suite: Suite, context: int, batch: int) -> None:
    spans, blocks = spans_of([(context - 1, 1)] * batch)
    q, k, v = synthetic(context, _HEADS, _SHARED, _SIZE, suite.device)
    shape = LayerShape(_HEADS, _SIZE, _SIZE)
    whole = random_pool(suite, shape, blocks)
    planes = AlignedKVPool(
        [shape], blocks=blocks, block_size=BLOCK, dtype=torch.bfloat16, device=suite.device
    )
    for span in spans:
        slots = [span.blocks[p // BLOCK] * BLOCK + p % BLOCK for p in range(context)]
        for pool in (whole, planes):
            pool.write(0, torch.tensor(slots).to(suite.device), k, v)
    cache = AlignedLayer(planes, 0, PLAIN)
    got, reading = attend_aligned(q[0], cache, spans[0].blocks, context)
    rows = (q, k[-1:], v[-1:])
    exact = AttentionBatch(whole, spans[:1])
    want = exact.attend(0, *(part.transpose(0, 1)[None] for part in rows), PLAIN)[0, 0]
    suite.check(f"truncated attention @ context {context}", relative_error(got, want), 0.02)
    saved = 1 - reading.read / reading.whole
    suite.add(f"sweep truncation bytes saved @ context {context}", "of KV", [saved])
    if suite.on_gpu:
        queries = q.expand(batch, -1, -1).contiguous()
        tables = tables_of(spans, 1, suite.device)
        _compare(suite, cache, LayerCache(whole, 0, PLAIN), tables, (queries, got))


def _compare(
    suite: Suite,
    cache: AlignedLayer,
    whole: LayerCache,
    tables: Tables,
    expected: tuple[Tensor, Tensor],
) -> None:
    """Hold the truncating kernels against the reference, and their speed against the others."""
    from engine.kv_alignment_triton import decode_aligned  # noqa: PLC0415 - needs Triton

    queries, want = expected
    out, other = torch.empty_like(queries), torch.empty_like(queries)
    decode_aligned(queries, cache, tables, out)
    batch, context = len(queries), int(tables.contexts[0])
    suite.check(f"truncating kernels @ context {context}", relative_error(out[0], want), 1e-2)
    ours = graphed(suite, lambda: decode_aligned(queries, cache, tables, out))
    base = graphed(suite, lambda: suite.kernels.decode(queries, whole, tables, other))
    ratios = [two / one for one, two in zip(ours, base, strict=True)]
    suite.add(f"sweep truncation speed @ b{batch}, context {context}", "x", ratios)


def synthetic(
    length: int, heads: int, shared: int, size: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Return q [1, query heads, size] and k, v [length, heads, size], bf16."""
    torch.manual_seed(1)
    q = torch.randn(heads * shared, size)
    k, v = torch.randn(length, heads, size), torch.randn(length, heads, size)
    k[:, :, ::16] += 12 * torch.randn(heads, size // 16)
    far = torch.arange(length).flip(0)[:, None] / length
    wanted = 2.0 * torch.randn(length, heads) - 6.0 * far
    wanted[0] = 8.0
    wanted[-32:] += 5.0
    mean = q.view(heads, shared, size).mean(1)
    now = torch.einsum("khd,hd->kh", k, mean) * size**-0.5
    k += ((wanted - now) * size**0.5 / (mean * mean).sum(-1))[:, :, None] * mean
    q, k, v = (part.bfloat16().to(device) for part in (q, k, v))
    return q[None], k, v
