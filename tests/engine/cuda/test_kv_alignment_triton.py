"""The truncating kernels against the torch reference, by Triton's interpreter."""

import pytest
import torch

from engine.attention import Options, Span
from engine.cuda.tables import fill, shape_of, view
from engine.kv_alignment import AlignedKVPool, AlignedLayer, attend_aligned
from engine.kv_cache import LayerShape

LENGTHS = [70, 1, 16, 200]


def make(size, value_size, shared, seed=0):
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.randperm(24, generator=generator).tolist()
    spans, at = [], 0
    for length in LENGTHS:
        count = -(-length // 16)
        spans.append(Span(blocks[at : at + count], length - 1, 1))
        at += count
    pools = [
        AlignedKVPool(
            [LayerShape(2, size, value_size)],
            blocks=24,
            block_size=16,
            dtype=torch.float32,
            device=torch.device("cpu"),
        )
        for _ in range(2)
    ]
    # Some dimensions and some positions count for far less than others.
    channels = 2.0 ** -torch.randint(0, 14, (size,), generator=generator)
    rows = {}
    for span in spans:
        slots = torch.tensor(
            [span.blocks[p // 16] * 16 + p % 16 for p in range(span.context)], dtype=torch.int64
        )
        k = torch.randn(span.context, 2, size, generator=generator) * channels * 6
        v = torch.randn(span.context, 2, value_size, generator=generator)
        rows[tuple(span.blocks)] = slots, k, v
    q = torch.randn(len(spans), 2 * shared, size, generator=generator) * 3
    return spans, pools, rows, q


@pytest.mark.parametrize(
    "options",
    [
        Options(None, None, None, None),
        Options(0.5, 33, None, None),
        Options(None, None, 3.0, None),
        Options(None, 64, 5.0, torch.tensor([0.5, -1.0, 2.0, 1.0, 0.0, 3.0])),
    ],
)
@pytest.mark.parametrize(("size", "value_size"), [(32, 32), (24, 8)])
@pytest.mark.usefixtures("triton_kernels")
def test_kernels_equal_the_reference(options, size, value_size):
    from engine.kv_alignment_triton import (  # noqa: PLC0415 - only where Triton is
        decode_aligned,
        write_aligned,
    )

    spans, (pool, other), rows, q = make(size, value_size, 3)
    for slots, k, v in rows.values():
        padded = torch.cat([slots, torch.tensor([-1])])
        write_aligned(pool, 0, padded, *(torch.cat([part, part[:1]]) for part in (k, v)))
        other.write(0, slots, k, v)
    for one, two in zip(pool._by_block(), other._by_block(), strict=True):
        assert torch.equal(one, two)
    shape = shape_of(spans, 16, 1)
    tables = view(torch.zeros(shape.total, dtype=torch.int64), shape)
    fill(tables, spans, 16, 1)
    out = torch.full((len(spans), 6, value_size), float("nan"))
    cache = AlignedLayer(pool, 0, options)
    decode_aligned(q, cache, tables, out)
    saved = 0
    for at, span in enumerate(spans):
        want, reading = attend_aligned(q[at], cache, span.blocks, span.context)
        saved += reading.whole - reading.read
        assert ((out[at] - want).norm() / want.norm()).item() < 2e-3
    assert saved > 0
