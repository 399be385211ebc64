"""Random steps over a pool: chunks and single rows of several sequences, in scattered blocks.

Without Triton its kernels' tests are skipped. With it they run on a CPU, by its interpreter:
`TRITON_INTERPRET=1 PYTHONPATH=(a folder with triton 3.6) python -m pytest tests/engine/cuda`.
"""

import os
import random
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch

from engine.attention import AttentionBatch, Options, Span
from engine.cuda.backend import LayerCache
from engine.cuda.oracle import TorchKernels
from engine.cuda.tables import fill, shape_of, tile_length, view
from engine.kv_cache import KVPool, LayerShape


def make_pool(*, blocks, block_size, heads, size, value_size=None, dtype=torch.float32, layers=1):
    shape = LayerShape(heads, size, value_size or size)
    pool = KVPool(
        [shape] * layers,
        blocks=blocks,
        block_size=block_size,
        dtype=dtype,
        device=torch.device("cpu"),
    )
    for tensor in (*pool.keys, *pool.values):  # what a kernel must not look at spoils its result
        tensor.fill_(float("nan"))
    return pool


def make_step(lengths, *, block_size, seed=0, blocks=None):
    """Spans of (start, rows) pairs, their blocks drawn without order from all of the pool."""
    rng = random.Random(seed)
    needed = [-(-(start + rows) // block_size) for start, rows in lengths]
    numbers = list(range(blocks or sum(needed) + 3))
    rng.shuffle(numbers)
    spans, at = [], 0
    for (start, rows), count in zip(lengths, needed, strict=True):
        spans.append(Span(numbers[at : at + count], start, rows))
        at += count
    return spans


def make_tables(spans, block_size, tile):
    shape = shape_of(spans, block_size, tile)
    tables = view(torch.full((shape.total,), 10**6), shape)
    fill(tables, spans, block_size, tile)
    return tables


def compute(kernels, case):
    """What kernels make of a case: the cache of earlier positions is there, the rows are new."""
    tile = tile_length(kernels.tile_rows, case.q.shape[1] // case.k.shape[1])
    tables = make_tables(case.spans, case.pool.block_size, tile)
    kernels.prepare(tables, case.pool)
    kernels.write(case.pool, 0, tables.slots, case.k, case.v)
    out = torch.full((len(case.q), case.q.shape[1], case.v.shape[2]), float("nan"))
    out = out.to(case.q.dtype)
    cache = LayerCache(case.pool, 0, case.options)
    if len(tables.decoding):
        kernels.decode(case.q, cache, tables, out)
    if len(tables.tiles):
        kernels.prefill(case.q, cache, tables, out)
    return out


def expected(case):
    """What the engine's torch attention makes of it; writes the new rows into the pool, too."""
    for tensor in (*case.pool.keys, *case.pool.values):  # it multiplies masked values by zero
        tensor.nan_to_num_()
    batch = AttentionBatch(case.pool, case.spans)
    q, k, v = (rows.transpose(0, 1)[None] for rows in (case.q, case.k, case.v))
    return batch.attend(0, q, k, v, case.options)[0]


@pytest.fixture(scope="session")
def kernel_lab():
    def case(
        lengths, *, block_size=16, heads=2, shared=2, size=16, value_size=None,
        dtype=torch.float32, window=None, softcap=None, sinks=False, seed=0,
    ):  # fmt: skip
        torch.manual_seed(seed)
        spans = make_step(lengths, block_size=block_size, seed=seed)
        blocks = max(block for span in spans for block in span.blocks) + 1
        pool = make_pool(
            blocks=blocks, block_size=block_size, heads=heads, size=size,
            value_size=value_size, dtype=dtype,
        )  # fmt: skip
        for span in spans:
            for position in range(span.start):
                slot = span.blocks[position // block_size] * block_size + position % block_size
                pool.keys[0][slot] = torch.randn(heads, size)
                pool.values[0][slot] = torch.randn(heads, value_size or size)
        rows = sum(span.length for span in spans)
        query_heads = heads * shared
        # As a model hands them over: heads before rows, so that rows are strided.
        q = torch.randn(query_heads, rows, size, dtype=dtype).transpose(0, 1) * 2
        k = torch.randn(heads, rows, size, dtype=dtype).transpose(0, 1)
        v = torch.randn(heads, rows, value_size or size, dtype=dtype).transpose(0, 1)
        sink = torch.randn(query_heads) if sinks else None
        options = Options(None, window, softcap, sink)
        return SimpleNamespace(spans=spans, pool=pool, q=q, k=k, v=v, options=options)

    return SimpleNamespace(
        case=case, compute=compute, expected=expected, tables=make_tables, step=make_step,
        pool=make_pool, oracle=TorchKernels,
    )  # fmt: skip


@pytest.fixture(scope="session")
def triton_kernels():
    if not find_spec("triton"):
        pytest.skip("Triton is not installed")
    if os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip("TRITON_INTERPRET=1 is not set, and must be from the interpreter's start")
    from triton.runtime import interpreter  # noqa: PLC0415 - only where Triton is

    from engine.cuda.triton_kernels import TritonKernels  # noqa: PLC0415

    patch = interpreter._patch_lang_tensor

    def with_scalars(tensor, *scope):
        """Numpy from 2.4 on makes no number of an array of one element, as Triton 3.6 asks."""
        patch(tensor, *scope)
        set_attribute = scope[0].set_attr if scope else setattr
        set_attribute(tensor, "__index__", lambda self: self.handle.data.item())

    interpreter._patch_lang_tensor = with_scalars

    def kernels(*, exact=False):
        return TritonKernels(torch.device("cpu"), programs=6, exact=exact)

    return kernels
