"""A prompt's rows: recomputed exactly or by tiles, or checked from shipped scores."""

import dataclasses

import pytest
import torch
from torch.nn import functional

from engine.verification.attention import prompt, ship
from engine.verification.attention.prompt import Rows, Terms
from engine.verification.secrets import Secrets
from engine.verification.thresholds import BOUNDS

HEADS, KEY_HEADS, SIZE = 8, 2, 64
PLAIN = Terms(SIZE**-0.5, 0.0, 0)
TERMS = {
    "plain": PLAIN,
    "window": dataclasses.replace(PLAIN, window=50),
    "cap": dataclasses.replace(PLAIN, cap=3.0),
}
SUMS = 8


def cache(context, seed=0):
    noise = torch.Generator().manual_seed(seed)
    return [
        torch.randn(context, heads, SIZE, generator=noise).bfloat16()
        for heads in (KEY_HEADS, KEY_HEADS, HEADS)
    ]


def scores_of(queries, keys, terms):
    k = keys.float().transpose(0, 1).repeat_interleave(HEADS // KEY_HEADS, 0)
    return queries.float().transpose(0, 1) @ k.transpose(1, 2) * terms.scaling


def honest(context, first, terms, seed=0):
    """Return rows from `first` on as a device computes them, in bfloat16 where it does."""
    keys, values, queries = cache(context, seed)
    positions = torch.arange(first, context)
    scores = scores_of(queries[first:], keys, terms)
    if terms.cap:
        scores = terms.cap * torch.tanh(scores / terms.cap)
    seen = prompt.visible(positions, context, terms.window)
    weights = scores.masked_fill(~seen, -torch.inf).softmax(-1).bfloat16().float()
    v = values.float().transpose(0, 1).repeat_interleave(HEADS // KEY_HEADS, 0)
    outputs = (weights @ v).transpose(0, 1).bfloat16()
    return Rows(positions, queries[first:], outputs), keys, values


def test_the_reference_is_the_fused_kernel_s_own_attention():
    keys, values, queries = cache(200)
    parts = (each.transpose(0, 1)[None] for each in (queries, keys, values))
    told = functional.scaled_dot_product_attention(*parts, is_causal=True, enable_gqa=True)
    rows = Rows(torch.arange(200), queries, told[0].transpose(0, 1))
    assert prompt.rho(rows, keys, values, PLAIN).max() < BOUNDS.attention


@pytest.mark.parametrize("judge", [prompt.audit, prompt.full])
@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("first", [0, 70])
def test_honest_rows_pass_and_tampered_ones_do_not(judge, name, first):
    rows, keys, values = honest(130, first, TERMS[name])
    assert judge(rows, keys, values, TERMS[name], BOUNDS.attention).all()
    tampered = rows.outputs.clone()
    tampered[5, 3, 7] += 1.1 * tampered[5].float().square().mean().sqrt()
    tampered[-1] = tampered[-2]
    lying = dataclasses.replace(rows, outputs=tampered)
    passed = judge(lying, keys, values, TERMS[name], BOUNDS.attention)
    assert (~passed).nonzero()[:, 0].tolist() == [5, len(passed) - 1]


def test_a_row_near_the_limit_is_settled_exactly(monkeypatch):
    rows, keys, values = honest(130, 0, PLAIN)
    monkeypatch.setattr(prompt, "_CANDIDATE", 1e-6)
    assert prompt.full(rows, keys, values, PLAIN, BOUNDS.attention).all()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("judge", [prompt.audit, prompt.full])
def test_what_is_not_a_number_does_not_pass(judge, value):
    rows, keys, values = honest(40, 0, PLAIN)
    rows.outputs[3, 1, 1] = value
    passed = judge(rows, keys, values, PLAIN, BOUNDS.attention)
    assert (~passed).nonzero()[:, 0].tolist() == [3]


@pytest.mark.parametrize(
    ("lie", "least"),
    [
        ("int8", 0.95), ("fp8", 0.99), ("int4", 0.99), ("half of the window", 0.45),
        ("half of the prompt", 0.45),
    ],
)  # fmt: skip
def test_a_cache_that_is_not_what_was_shipped_shows_in_most_rows(lie, least):
    """The reference's table 5.3, at the same thresholds."""
    keys, values, queries = cache(600)

    def steps(rows, count):
        scale = rows.abs().amax(-1, keepdim=True) / count
        return (rows / scale).round() * scale

    changed = {
        "int8": lambda rows: steps(rows, 127),
        "int4": lambda rows: steps(rows, 7),
        "fp8": lambda rows: rows.to(torch.float8_e4m3fn).float(),
    }.get(lie, lambda rows: rows)
    k, v = (changed(each.float()).bfloat16() for each in (keys, values))
    window = 300 if lie == "half of the window" else 0
    parts = (each.transpose(0, 1)[None] for each in (queries, k, v))
    seen = prompt.visible(torch.arange(600), 600, window)
    if lie == "half of the prompt":
        seen[300:, :300] = False
    told = functional.scaled_dot_product_attention(*parts, attn_mask=seen, enable_gqa=True)
    rows = Rows(torch.arange(600), queries, told[0].transpose(0, 1))
    passed = prompt.audit(rows, keys, values, PLAIN, BOUNDS.attention)
    assert 1 - passed.float().mean() >= least


@pytest.mark.parametrize("head", [0, 4, 7])
def test_blocks_of_heads_are_judged_as_they_come(head):
    rows, keys, values = honest(130, 0, PLAIN)
    shared = HEADS // KEY_HEADS

    def fetch(block):
        heads = slice(block.start * shared, block.stop * shared)
        part = Rows(rows.positions, rows.queries[:, heads], rows.outputs[:, heads])
        return part, keys[:, block], values[:, block]

    blocks = [slice(0, 1), slice(1, 2)]
    assert prompt.full_in_blocks(fetch, blocks, PLAIN, BOUNDS.attention).all()
    rows.outputs[9, head] = rows.outputs[10, head]
    passed = prompt.full_in_blocks(fetch, blocks, PLAIN, BOUNDS.attention)
    assert (~passed).nonzero()[:, 0].tolist() == [9]


def known(keys, values, terms):
    secrets = Secrets(bytes)
    r = secrets.integers(b"r", KEY_HEADS * SUMS * len(keys)).float().view(KEY_HEADS, SUMS, -1)
    own = secrets.integers(b"v", KEY_HEADS * SIZE * SUMS).float().view(KEY_HEADS, SIZE, SUMS)
    return ship.Known(keys, values, r, own, terms)


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("first", [0, 70])
def test_shipped_scores_are_checked_without_computing_them(name, first):
    terms = TERMS[name]
    rows, keys, values = honest(130, first, terms)
    scores = scores_of(rows.queries, keys, terms)
    shipped = ship.ship(scores, rows.positions, terms)
    found = ship.residuals(rows, shipped, known(keys, values, terms))
    assert found.scores.max() < BOUNDS.scores
    assert found.total.max() < 1e-5
    assert found.output.max() < BOUNDS.mixed

    below = shipped.below.clone()
    below[2, 9, 4] += 0.01
    lying = ship.residuals(
        rows, dataclasses.replace(shipped, below=below), known(keys, values, terms)
    )
    if name != "window" or first == 0:
        assert lying.scores[9, 2] > BOUNDS.scores
    longer = dataclasses.replace(shipped, log_total=shipped.log_total + 0.001)
    assert ship.residuals(rows, longer, known(keys, values, terms)).total.min() > 1e-5
    rows.outputs[4] *= 1.04
    tampered = ship.residuals(rows, shipped, known(keys, values, terms))
    assert (tampered.output[4] > BOUNDS.mixed).any()
