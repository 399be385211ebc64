import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from engine.native import draws
from engine.sampler import Row, adjust, forbid, logprobs, sample, uniform
from engine.types import SamplingParams


@pytest.fixture(autouse=True, params=["compiled", "torch"])
def how(request, monkeypatch):
    """Every test of this file holds for both ways of drawing."""
    if request.param == "torch":
        monkeypatch.setattr(draws, "available", lambda: False)
    elif not draws.available():
        pytest.skip("the compiled library cannot be used here")


EMPTY = np.empty(0, np.int64)


def row(position=0, history=EMPTY, prompt_length=0, mask=None, **params):
    values = {"max_new_tokens": 1, **params}
    return Row(SamplingParams(**values), position, history, prompt_length, mask)


def reference_distribution(logits, *, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0):
    """The definition, spelled out in Python floats."""
    weights = [math.exp((value - max(logits)) / temperature) for value in logits]
    order = sorted(range(len(logits)), key=lambda i: -weights[i])
    if top_k:
        order = order[:top_k]
    total = sum(weights[i] for i in order)
    kept, mass = [], 0.0
    for i in order:
        if mass < top_p * total or not kept:
            kept.append(i)
        mass += weights[i]
    kept = [i for i in kept if weights[i] >= min_p * weights[order[0]]]
    total = sum(weights[i] for i in kept)
    return {i: weights[i] / total for i in kept}


def draw_many(logits, count, **params):
    """Positions 0 .. count-1 of one sequence, in batches."""
    counts = [0] * len(logits)
    template, one = torch.tensor(logits), row(**params)
    for start in range(0, count, 10_000):
        positions = range(start, min(start + 10_000, count))
        rows = [replace(one, position=i) for i in positions]
        draws = sample(template.repeat(len(rows), 1), rows)
        assert (draws >= 0).all()
        for i, n in enumerate(np.bincount(draws, minlength=len(logits)).tolist()):
            counts[i] += n
    return counts


# 0.1 % points of the chi-square distribution, by degrees of freedom.
CHI_SQUARE = {1: 10.83, 2: 13.82, 3: 16.27, 4: 18.47, 5: 20.52, 7: 24.32}


@pytest.mark.parametrize(
    ("count", "params"),
    [
        (100_000, {}),
        (10_000, {"temperature": 0.5}),
        (10_000, {"temperature": 2.0, "top_k": 4}),
        (5_000, {"top_p": 0.7}),
        (5_000, {"min_p": 0.2}),
        (5_000, {"temperature": 1.5, "top_k": 6, "top_p": 0.9, "min_p": 0.05}),
    ],
)
def test_draws_follow_the_distribution(count, params):
    logits = [0.3, -1.0, 2.0, 0.0, 1.1, -0.4, 0.9, -3.0]
    expected = reference_distribution(logits, **params)
    counts = draw_many(logits, count, seed=11, **params)
    assert all(n == 0 for i, n in enumerate(counts) if i not in expected)
    statistic = sum((counts[i] - count * p) ** 2 / (count * p) for i, p in expected.items())
    assert statistic < CHI_SQUARE[len(expected) - 1]


def test_a_draw_depends_on_seed_and_position_not_on_the_batch():
    torch.manual_seed(0)
    logits = torch.randn(6, 500)
    rows = [row(position=i, seed=100 + i, top_p=0.9 if i % 2 else 1.0) for i in range(6)]
    together = sample(logits.clone(), rows).tolist()
    alone = [sample(logits[i : i + 1].clone(), [rows[i]]).item() for i in range(6)]
    assert together == alone
    torch.manual_seed(1)  # and not on any generator of torch
    assert sample(logits.clone(), rows).tolist() == together
    assert uniform(1, 2) == uniform(1, 2) != uniform(2, 1)


def test_uniform_is_fixed_for_ever():
    # SHA-256("sottovoce draw v1" || 16 zero bytes), first 53 bits, as hashlib computed it once.
    assert uniform(0, 0) == pytest.approx(UNIFORM_0_0, abs=1e-15)
    assert 0 <= min(uniform(s, 0) for s in range(2000)) < 0.002
    assert 0.998 < max(uniform(s, 0) for s in range(2000)) < 1


UNIFORM_0_0 = 0.1110428904121945


def test_temperature_zero_is_greedy_and_tiny_temperature_is_almost():
    logits = torch.tensor([[1.0, 3.0, 2.9]])
    assert sample(logits.clone(), [row(temperature=0.0)]).tolist() == [1]
    assert sample(logits.clone(), [row(temperature=1e-30)]).tolist() == [1]
    assert sample(logits.clone(), [row(temperature=5.0, top_k=1)]).tolist() == [1]
    assert sample(logits.clone(), [row(temperature=5.0, top_p=0.0)]).tolist() == [1]


def test_a_wide_nucleus_falls_back_to_the_whole_vocabulary():
    logits = torch.zeros(1, 5000)
    drawn = {sample(logits.clone(), [row(position=i, top_p=0.999)]).item() for i in range(300)}
    assert len(drawn) > 250  # 1,024 candidates would still do, but ids must reach the far end
    assert max(drawn) > 4500


def test_penalties_are_the_published_formulas():
    history = np.array([1, 1, 2, 3, 3, 3, 4])  # prompt 1 1 2, output 3 3 3 4
    logits = torch.tensor([0.5, 2.0, -2.0, 1.0, -1.0, 0.0])
    params = {"frequency_penalty": 0.5, "presence_penalty": 0.25, "repetition_penalty": 2.0}
    got = logits.clone()
    adjust(got, row(history=history, prompt_length=3, position=4, **params))
    expected = []
    for token, value in enumerate(logits.tolist()):
        seen = token in (1, 2, 3, 4)
        repeated = (value / 2 if value > 0 else value * 2) if seen else value
        count = [0, 0, 0, 3, 1, 0][token]
        expected.append(repeated - 0.5 * count - 0.25 * (count > 0))
    assert got.tolist() == pytest.approx(expected)


def test_bias_min_tokens_and_mask():
    logits = torch.tensor([1.0, 5.0, 3.0, 2.0])
    biased = logits.clone()
    adjust(biased, row(logit_bias=((1, -100.0), (3, 1.5))))
    assert biased.tolist() == [1.0, -95.0, 3.0, 3.5]
    early, late = logits.clone(), logits.clone()
    adjust(early, row(position=1, min_tokens=2, eos_ids=(1, 2)))
    adjust(late, row(position=2, min_tokens=2, eos_ids=(1, 2)))
    assert early.tolist() == [1.0, -math.inf, -math.inf, 2.0]
    assert late.tolist() == logits.tolist()
    mask = torch.tensor([0b1001], dtype=torch.uint8)
    masked = logits.clone()
    forbid(masked, mask)
    assert masked.tolist() == [1.0, -math.inf, -math.inf, 2.0]
    assert sample(logits[None].clone(), [row(temperature=0.0, mask=mask)]).tolist() == [3]
    drawn = {sample(logits[None].clone(), [row(position=i, mask=mask)]).item() for i in range(200)}
    assert drawn == {0, 3}


def test_every_bit_of_a_mask_counts_and_padding_does_not():
    torch.manual_seed(3)
    allowed = torch.rand(1003) < 0.5
    weights = torch.nn.functional.pad(allowed.int(), (0, 21)).view(-1, 8) << torch.arange(8)
    logits = torch.randn(2, 1003)
    expected = logits[1].masked_fill(~allowed, -math.inf)
    forbid(logits[1], weights.sum(-1).to(torch.uint8))
    assert torch.equal(logits[1], expected)


def test_a_mask_hides_no_number_that_is_none():
    logits = torch.tensor([1.0, math.nan, math.inf, 2.0])
    forbid(logits, torch.tensor([0b1001], dtype=torch.uint8))
    assert logits[0] == 1.0
    assert logits[1].isnan()
    assert logits[2:].tolist() == [-math.inf, 2.0]


@pytest.mark.parametrize("params", [{}, {"temperature": 0.0}, {"top_k": 2}, {"top_p": 0.5}])
def test_a_row_without_candidates_is_invalid_and_harms_no_other(params):
    good = torch.tensor([0.0, 9.0, 0.0])
    nothing = torch.full((3,), -math.inf)
    poisoned = torch.tensor([0.0, math.nan, 1.0])
    logits = torch.stack([good, nothing, poisoned])
    draws = sample(logits, [row(**params)] * 3)
    assert draws.tolist() == [1, -1, -1]


def test_ids_without_weight_are_never_drawn():
    logits = torch.full((2000, 4), -math.inf)
    logits[:, 2] = 1.0
    rows = [row(position=i, seed=5) for i in range(2000)]
    assert np.unique(sample(logits, rows)).tolist() == [2]


def test_logprobs_are_those_of_the_raw_logits():
    logits = torch.randn(3, 50)
    chosen, ids, values = logprobs(logits, torch.tensor([4, 5, 6]), 5)
    reference = logits.log_softmax(-1)
    assert torch.allclose(chosen, reference[[0, 1, 2], [4, 5, 6]])
    top = reference.topk(5)
    assert torch.equal(ids, top.indices)
    assert torch.allclose(values, top.values)
    _, ids, values = logprobs(logits, torch.tensor([4, 5, 6]), 0)
    assert ids.shape == values.shape == (3, 0)
