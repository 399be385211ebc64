"""The device object on the CPU: graphs are stood in for by a recorder that does the work again."""

import pytest
import torch
from torch.nn import functional

from engine.attention import Span
from engine.cuda.device import CudaDevice, Parts
from engine.cuda.graphs import DecodeGraphs, sizes
from engine.cuda.oracle import TorchKernels
from engine.cuda.tables import decoding_shape, view
from engine.device import StepInput
from engine.kv_alignment import AlignedKVPool
from engine.kv_cache import KVPool


class Again:
    """A recorder whose replays are runs. Counts them, and notes what it was asked to record."""

    def __init__(self, refuse=False):
        self.recorded, self.replays, self.refuse = 0, 0, refuse

    def record(self, work):
        if self.refuse:
            raise RuntimeError("operation not permitted when stream is capturing")
        work()
        self.recorded += 1

        def replay():
            self.replays += 1
            with torch.inference_mode():
                work()

        return replay


class Eraser:
    calls = 0

    def erase(self):
        self.calls += 1


def make(loaded, *, recorder=None, kernels=None, blocks=24, max_logit_rows=8):
    cpu = torch.device("cpu")
    pool = KVPool(loaded.shapes, blocks=blocks, block_size=16, dtype=loaded.dtype, device=cpu)
    parts = Parts(kernels or TorchKernels(splits=2), recorder, Eraser(), pinned=False)
    device = CudaDevice(
        loaded.computation, pool, max_rows=200, max_logit_rows=max_logit_rows, parts=parts
    )
    return device, pool


def step(device, spans, ids, wanted=None):
    rows = [torch.tensor(one[span.start : span.context]) for span, one in zip(spans, ids)]  # noqa: B905
    count = sum(len(part) for part in rows)
    wanted = range(count) if wanted is None else wanted
    logits = device.step(StepInput(torch.cat(rows), spans, wanted)).logits.clone()
    device.finish_step()
    return logits


def close(got, expected, tolerance=2e-4):
    return ((got - expected).norm(dim=-1) / expected.norm(dim=-1)).max().item() < tolerance


@pytest.mark.parametrize("name", ["qwen3", "mistral", "gemma2", "gpt_oss", "gpt2"])
def test_chunks_and_decoding_by_graphs_equal_the_stock_model(name, load_model, stock_logits):
    recorder = Again()
    loaded = load_model_in_torch(load_model, name)
    device, pool = make(loaded, recorder=recorder)
    generator = torch.Generator().manual_seed(3)
    lengths = [60, 47, 75]
    ids = [torch.randint(0, 199, (n,), generator=generator).tolist() for n in lengths]
    tables = [[5, 2, 9, 20], [7, 8, 10], [1, 0, 12, 14, 13]]
    expected = [stock_logits(name, one) for one in ids]
    for table, one, want in zip(tables, ids, expected, strict=True):
        count = len(one) - 3
        got = step(device, [Span(table, 0, count)], [one], wanted=[count - 1])
        assert close(got, want[count - 1 : count])
    assert recorder.replays == 0
    for back in (3, 2):
        spans = [Span(t, len(one) - back, 1) for t, one in zip(tables, ids, strict=True)]
        got = step(device, spans, ids)
        want = torch.stack([one[len(one) - back] for one in expected])
        assert close(got, want)
    assert recorder.replays == 2
    # A step that mixes goes without a graph, and so does one whose logits are not all wanted.
    more = ids[0] + ids[1]
    mixed = [Span(tables[2], 74, 1), Span([15, 16, 17], 0, 40)]
    got = step(device, mixed, [ids[2], more], wanted=[0])
    assert close(got, expected[2][74:])
    assert recorder.replays == 2
    device.zero_blocks(list(range(24)))
    assert not any(bool(tensor.any()) for tensor in (*pool.keys, *pool.values))


def load_model_in_torch(load_model, name):
    """A converted model that is computed by torch also where a compiled library would do it."""
    loaded = load_model(name)
    assert hasattr(loaded.computation, "hook"), "float32 models are computed by torch"
    return loaded


@pytest.mark.parametrize("recorder", [None, Again(), Again(refuse=True)])
def test_nothing_of_a_step_is_left_after_it(recorder, load_model):
    device, pool = make(load_model("llama"), recorder=recorder)
    buffers = [device._host, device._numbers, device._logits, device._recorded]
    assert not any(bool(buffer.any()) for buffer in (*buffers, *pool.keys, *pool.values))
    ids = [[5, 6, 7, 8, 9], [1, 2, 3]]
    step(device, [Span([3], 0, 4), Span([4], 0, 2)], ids)
    step(device, [Span([3], 4, 1), Span([4], 2, 1)], ids)
    assert not any(bool(buffer.any()) for buffer in buffers)
    erased = device._parts.eraser.calls
    device.zero_blocks([3, 4])
    assert device._parts.eraser.calls == erased + 1
    assert not any(bool(tensor.any()) for tensor in (*pool.keys, *pool.values))


def test_padding_rows_write_and_read_nothing(load_model):
    device, pool = make(load_model("llama"), recorder=Again())
    alone, other = make(load_model("llama"))
    ids = [[5, 6, 7, 8, 9], [1, 2, 3], [9, 9]]
    spans = [Span([3], 0, 1), Span([4], 0, 1), Span([6], 0, 1)]
    got, want = step(device, spans, ids), step(alone, spans, ids)  # three rows, padded to four
    assert torch.equal(got, want)
    for one, two in zip((*pool.keys, *pool.values), (*other.keys, *other.values), strict=True):
        assert torch.equal(one, two)


def test_embeddings_go_without_a_graph(load_model):
    recorder = Again()
    loaded = load_model("llama")
    device, _ = make(loaded, recorder=recorder)
    by_ids = step(device, [Span([3], 0, 1)], [[7]])
    embeddings = loaded.computation.model.get_input_embeddings()(torch.tensor([7])).detach()
    by_rows = device.step(StepInput(embeddings, [Span([3], 0, 1)], [0])).logits
    assert torch.equal(by_ids, by_rows)
    assert recorder.replays == 1


def test_a_model_that_cannot_be_recorded_is_computed_without_graphs(load_model):
    device, _ = make(load_model("mixtral"), recorder=Again(refuse=True))
    assert device.report["graphs"] == []
    assert "cannot be recorded" in device.report["graphs_refused"]
    assert len(step(device, [Span([3], 0, 1)], [[7]])) == 1


def test_the_report_names_kernels_and_sizes(load_model):
    device, _ = make(load_model("llama"), recorder=Again(), max_logit_rows=20)
    assert device.report == {
        "kernels": "torch", "graphs": [1, 2, 4, 8, 16, 20], "graphs_refused": None
    }  # fmt: skip


def test_a_device_by_triton_equals_one_by_torch(load_model, triton_kernels):
    ids = [list(range(1, 40)), list(range(50, 70))]
    tables = [[5, 2, 9], [7, 8]]
    results = []
    for kernels in (TorchKernels(), triton_kernels()):
        device, pool = make(load_model("gpt_oss"), recorder=Again(), kernels=kernels)
        spans = [Span(tables[0], 0, 38), Span(tables[1], 0, 19)]
        first = step(device, spans, ids, wanted=[37, 56])
        last = step(device, [Span(tables[0], 38, 1), Span(tables[1], 19, 1)], ids)
        results.append(torch.cat([first, last]))
        device.zero_blocks([2, 5, 7, 8, 9])
        assert not any(bool(tensor.any()) for tensor in (*pool.keys, *pool.values))
    assert close(*results)


@pytest.mark.parametrize("name", ["llama", "gpt_oss"])
@pytest.mark.parametrize("by_triton", [False, True])
def test_a_pool_in_planes_serves_a_whole_model(name, by_triton, load_model, stock_logits, request):
    cpu = torch.device("cpu")
    loaded = load_model(name)
    kernels = request.getfixturevalue("triton_kernels")() if by_triton else TorchKernels()
    pool = AlignedKVPool(loaded.shapes, blocks=24, block_size=16, dtype=torch.float32, device=cpu)
    parts = Parts(kernels, Again() if by_triton else None, Eraser(), pinned=False)
    device = CudaDevice(loaded.computation, pool, max_rows=200, max_logit_rows=8, parts=parts)
    ids = torch.randint(0, 199, (80,), generator=torch.Generator().manual_seed(3)).tolist()
    want = stock_logits(name, ids)
    blocks = [9, 3, 4, 20, 7]
    got = [step(device, [Span(blocks, 0, 50)], [ids], wanted=[49])]
    got += [step(device, [Span(blocks, 50, 28)], [ids], wanted=[27])]
    got += [step(device, [Span(blocks, at, 1)], [ids]) for at in (78, 79)]
    # Random weights attend to everything alike and are hard to approximate.
    assert close(torch.cat(got), want[[49, 77, 78, 79]], 0.03)
    device.zero_blocks(blocks)
    assert not any(bool(tensor.any()) for tensor in pool._by_block())


def test_sizes_cover_every_row_count():
    assert sizes(1) == [1]
    assert sizes(8) == [1, 2, 4, 8]
    assert sizes(40) == [1, 2, 4, 8, 16, 32, 40]
    prepared, worked = [], []
    graphs = DecodeGraphs(Again(), prepared.append, worked.append, largest=40)
    assert graphs.size_for(1) is None
    graphs.record_all()
    assert prepared == worked == [40, 32, 16, 8, 4, 2, 1]
    for rows in range(1, 41):
        size = graphs.size_for(rows)
        assert size == min(one for one in sizes(40) if one >= rows)
        graphs.replay(size)
        assert worked[-1] == size
    assert graphs.size_for(41) is None


def test_a_graphs_numbers_keep_their_places():
    """What a recording reads does not depend on contexts, but for how far the table is filled."""
    flat = torch.zeros(4000, dtype=torch.int64)
    short = view(flat, decoding_shape(4, [Span([1], 3, 1)], 16))
    long = view(flat, decoding_shape(4, [Span(list(range(40)), 600, 1)] * 3, 16))
    for name in ("ids", "positions", "slots", "contexts", "borders", "decoding", "blocks"):
        assert getattr(short, name).data_ptr() == getattr(long, name).data_ptr()
    assert short.blocks.stride() == long.blocks.stride()
    assert functional.pad(short.blocks, (0, 0, 0, 37)).shape == long.blocks.shape
