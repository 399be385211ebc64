"""Which kernels are chosen, and what flashinfer would be told. It is stood in for itself."""

import sys
import types

import pytest
import torch

from engine.cuda import backend
from engine.cuda.tables import fill, shape_of, view


def test_a_gpu_gets_the_best_there_is(monkeypatch):
    there = {"triton", "flashinfer"}
    monkeypatch.setattr(backend, "find_spec", lambda name: name if name in there else None)
    gpu = torch.device("cuda")
    assert backend._best(gpu) == "flashinfer"
    there.remove("flashinfer")
    assert backend._best(gpu) == "triton"
    there.clear()
    assert backend._best(gpu) == "torch"
    assert backend.choose(torch.device("cpu")).name == "torch"


def test_unknown_kernels_are_refused():
    with pytest.raises(ValueError, match="flashinfer, triton or torch"):
        backend.choose(torch.device("cpu"), only="pallas")


class Planned:
    """Stands in for flashinfer's wrapper: attends, page by page, over what it was planned with."""

    plans = 0

    def __init__(self, workspace, layout):
        assert workspace.dtype == torch.uint8
        assert layout == "NHD"

    def plan(self, *positional, **rest):
        borders, page_borders, pages, last, heads, kv_heads, _, page = positional
        assert {t.dtype for t in (borders, page_borders, pages, last)} == {torch.int32}
        Planned.plans += 1
        self.numbers = borders, page_borders, pages, last
        self.page, self.rest, self.shared = page, rest, heads // kv_heads

    def run(self, q, cache):
        borders, page_borders, pages, last = self.numbers
        out = torch.empty(len(q), q.shape[1], cache[1].shape[3])
        for at in range(len(last)):
            mine = pages[page_borders[at] : page_borders[at + 1]].long()
            length = (len(mine) - 1) * self.page + int(last[at])
            k, v = (part[mine].flatten(0, 1)[:length] for part in cache)
            rows = q[borders[at] : borders[at + 1]].float()
            scale = self.rest["sm_scale"] or q.shape[2] ** -0.5
            scores = torch.einsum("qhd,khd->hqk", rows, k.repeat_interleave(self.shared, 1)) * scale
            cap, left = self.rest["logits_soft_cap"], self.rest["window_left"]
            if cap is not None:
                scores = cap * torch.tanh(scores / cap)
            distance = torch.arange(length - len(rows), length)[:, None] - torch.arange(length)
            hidden = (distance < 0) | (distance > left if left >= 0 else False)
            weights = scores.masked_fill(hidden, float("-inf")).softmax(-1)
            values = v.repeat_interleave(self.shared, 1)
            out[borders[at] : borders[at + 1]] = torch.einsum("hqk,khd->qhd", weights, values)
        return out


@pytest.fixture
def flashinfer(monkeypatch, triton_kernels):  # noqa: ARG001 - its kernels are the base
    module = types.ModuleType("flashinfer")
    module.BatchPrefillWithPagedKVCacheWrapper = Planned
    monkeypatch.setitem(sys.modules, "flashinfer", module)
    monkeypatch.delitem(sys.modules, "engine.cuda.flashinfer_kernels", raising=False)
    Planned.plans = 0
    return backend.choose(torch.device("cpu"), only="flashinfer")


@pytest.mark.parametrize("options", [{}, {"window": 9}, {"softcap": 1.5}, {"sinks": True}])
def test_flashinfer_is_told_of_the_chunks_alone(options, flashinfer, kernel_lab):
    lengths = [(44, 1), (0, 33), (17, 1), (29, 40), (15, 1), (3, 2)]
    case = kernel_lab.case(lengths, **options)
    got = kernel_lab.compute(flashinfer, case)
    want = kernel_lab.expected(case)
    assert ((got - want).norm() / want.norm()).item() < 1e-5
    assert Planned.plans == (0 if "sinks" in options else 1)


def test_a_table_says_where_every_row_goes(kernel_lab):
    spans = kernel_lab.step([(30, 1), (0, 20), (14, 3)], block_size=16)
    shape = shape_of(spans, 16, 8)
    assert (shape.rows, shape.sequences, shape.decoding, shape.tiles) == (24, 3, 1, 4)
    tables = view(torch.zeros(shape.total, dtype=torch.int64), shape)
    fill(tables, spans, 16, 8)
    assert tables.borders.tolist() == [0, 1, 21, 24]
    assert tables.contexts.tolist() == [31, 20, 17]
    assert tables.positions.tolist() == [30, *range(20), 14, 15, 16]
    assert tables.decoding.tolist() == [0]
    assert tables.tiles.tolist() == [[1, 0], [1, 8], [1, 16], [2, 0]]
    for at, span in enumerate(spans):
        assert tables.blocks[: len(span.blocks), at].tolist() == list(span.blocks)
    last = spans[2]
    expected = [last.blocks[0] * 16 + 14, last.blocks[0] * 16 + 15, last.blocks[1] * 16]
    assert tables.slots[-3:].tolist() == expected
