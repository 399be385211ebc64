"""Paged attention against stock transformers, for every way rows can be grouped."""

import random

import pytest
import torch

from engine.attention import Span, _group
from engine.device import StepInput
from engine.kv_cache import runs

FAMILIES = [
    "llama",
    "qwen2",
    "qwen3",
    "mistral",
    "gemma2",
    "gemma3_text",
    "gpt2",
    "mixtral",
    "gpt_oss",
    "stablelm",
    "nemotron",
]


def close(got, expected, tolerance=2e-4):
    error = (got - expected).norm(dim=-1) / expected.norm(dim=-1)
    return error.max().item() < tolerance


@pytest.mark.parametrize("name", FAMILIES)
def test_chunks_and_decoding_equal_the_stock_model(name, lab):
    device, pool = lab.device(lab.load(name))
    ids = lab.prompt(120)
    expected = lab.stock(name, ids)
    blocks = list(range(3, 11))
    start = 0
    for length in (1, 50, 33, 30, 1, 1, 1, 1, 1, 1):
        (got,) = lab.step(device, [Span(blocks, start, length)], [ids])
        assert close(got, expected[start : start + length]), (start, length)
        start += length
    device.zero_blocks(blocks)
    assert not any(bool(tensor.any()) for tensor in (*pool.keys, *pool.values))


@pytest.mark.parametrize("name", ["llama", "mistral", "gemma2", "gpt_oss"])
def test_a_step_mixes_sequences_without_their_meeting(name, lab):
    """Runs at equal distances, runs elsewhere, scattered blocks, and a chunk, all in one step."""
    device, _ = lab.device(lab.load(name))
    lengths = [60, 75, 50, 33, 47, 90]
    ids = [lab.prompt(length, seed) for seed, length in enumerate(lengths)]
    tables = [
        [0, 1, 2, 3, 4],
        [5, 6, 7, 8, 9],
        [10, 11, 12, 13, 14],
        [40, 41, 42],
        [20, 33, 21],
        [24, 50, 51, 25, 26, 52],
    ]
    expected = [lab.stock(name, one) for one in ids]
    for table, one in zip(tables[:5], ids, strict=False):
        lab.step(device, [Span(table, 0, len(one) - 2)], [one])
    lab.step(device, [Span(tables[5], 0, 20)], [ids[5]])
    for back in (2, 1):
        spans = [
            Span(table, len(one) - back, 1) for table, one in zip(tables[:5], ids, strict=False)
        ]
        spans.append(Span(tables[5], 20 if back == 2 else 50, 30 if back == 2 else 40))
        parts = lab.step(device, spans, ids)
        for span, got, want in zip(spans, parts, expected, strict=True):
            assert close(got, want[span.start : span.context])


def test_rows_of_runs_at_equal_distances_are_one_group():
    cpu = torch.device("cpu")
    spans = [Span([i * 4, i * 4 + 1], 17 + i, 1) for i in range(5)]
    assert [len(group.starts) for group in _group(spans, 16, cpu)] == [5]
    apart = [Span([0, 1], 17, 1), Span([4, 5], 17, 1), Span([9, 10], 17, 1)]
    assert [len(group.starts) for group in _group(apart, 16, cpu)] == [2, 1]
    short = [Span([0, 1, 2], 40, 1), Span([4, 5], 30, 1)]
    assert [len(group.starts) for group in _group(short, 16, cpu)] == [1, 1]
    backwards = [Span([5, 6], 17, 1), Span([3, 4], 17, 1)]
    assert [len(group.starts) for group in _group(backwards, 16, cpu)] == [1, 1]


@pytest.mark.parametrize("seed", range(20))
def test_no_group_reads_beyond_its_members_blocks(seed):
    rng = random.Random(seed)
    spans, at = [], 0
    for _ in range(12):
        count = rng.choice([1, 2, 2, 2, 3])
        at += rng.choice([0, 0, 1, 2])
        span = Span(list(range(at, at + count)), rng.randrange(count * 16), 1)
        spans.append(span)
        at += count
    member = iter(spans)
    for group in _group(spans, 16, torch.device("cpu")):
        for number in range(len(group.starts)):
            span = next(member)
            view = group._view(None)
            first = group.base + number * group.stride + view.first
            assert first == span.blocks[0] * 16
            assert view.first + view.length <= len(span.blocks) * 16 or len(group.starts) == 1
            assert view.length >= span.context or len(group.starts) > 1
    assert next(member, None) is None


def test_a_poisoned_neighbour_does_not_spread(lab):
    """NaN in one sequence's cache must not reach another, through masks times zero either."""
    device, pool = lab.device(lab.load("llama"))
    ids = [lab.prompt(20, 1), lab.prompt(30, 2)]
    tables = [[0, 1], [2, 3]]
    for table, one in zip(tables, ids, strict=True):
        lab.step(device, [Span(table, 0, len(one) - 1)], [one])
    spans = [Span(table, len(one) - 1, 1) for table, one in zip(tables, ids, strict=True)]
    honest = [part.clone() for part in lab.step(device, spans, ids)]
    pool.values[0][32:48] = float("nan")
    poisoned = lab.step(device, spans, ids)
    assert torch.equal(poisoned[0], honest[0])
    assert bool(poisoned[1].isnan().all())


def test_embeddings_may_take_the_place_of_ids(lab):
    loaded = lab.load("gemma2")
    device, _ = lab.device(loaded)
    ids = torch.tensor(lab.prompt(12))
    span = [Span([0], 0, 12)]
    by_ids = device.step(StepInput(ids, span, [11])).logits.clone()
    rows = loaded.computation.model.get_input_embeddings()(ids).detach()
    by_rows = device.step(StepInput(rows, span, [11])).logits.clone()
    assert torch.equal(by_ids, by_rows)


def test_bf16_stays_within_its_noise(lab):
    device, _ = lab.device(lab.load("qwen2", "bfloat16"))
    ids = lab.prompt(80)
    expected = lab.stock("qwen2", ids, torch.bfloat16)
    (whole,) = lab.step(device, [Span(list(range(5)), 0, 80)], [ids])
    assert close(whole, expected, 0.1)
    (chunk,) = lab.step(device, [Span(list(range(5)), 0, 79)], [ids])
    (last,) = lab.step(device, [Span(list(range(5)), 79, 1)], [ids])
    assert close(last, whole[-1:], 0.1)
    assert close(chunk, whole[:-1], 0.1)


def test_runs_are_found():
    assert list(runs([3, 4, 5, 9, 1, 2])) == [(3, 3), (9, 1), (1, 2)]
    assert list(runs([])) == []
