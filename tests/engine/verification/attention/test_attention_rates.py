"""How often honest attention is refused, and how often a lie is not: many rows, drawn anew.

Attention is the fused kernel's own, in bfloat16. The heavy forms count 3,000,000 heads' rows.
"""

import math
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional

from engine.verification.attention import prompt
from engine.verification.attention.prompt import Rows, Terms
from engine.verification.attention.running import Numbers, Running
from engine.verification.secrets import Secrets
from engine.verification.thresholds import BOUNDS

LAYERS, HEADS, KEY_HEADS, SIZE = 64, 32, 8, 32
SCALING = SIZE**-0.5
TERMS = Terms(SIZE**-0.5, 0.0, 0)


class Decoding:
    """Decoding rows of an honest device, `LAYERS * HEADS` a draw."""

    def __init__(self, context):
        self.noise = torch.Generator().manual_seed(context)
        model = SimpleNamespace(layers=LAYERS, key_heads=KEY_HEADS, size=SIZE, windows=(0,))
        self.position = context - 1
        self.keys, self.values = self.drawn(context, KEY_HEADS), self.drawn(context, KEY_HEADS)
        self.running = Running.of(Numbers(model, Secrets()), None, 0, self.keys, self.values)

    def drawn(self, rows, heads):
        return torch.randn(LAYERS, rows, heads, SIZE, generator=self.noise).bfloat16()

    def row(self):
        """Return a query, its scores and its output."""
        warmth = 4 * torch.rand(LAYERS, 1, HEADS, 1, generator=self.noise)
        query = (warmth * self.drawn(1, HEADS)).bfloat16()
        q, k, v = (each.transpose(1, 2) for each in (query, self.keys, self.values))
        shared = q.float().view(LAYERS, KEY_HEADS, HEADS // KEY_HEADS, SIZE)
        scores = (shared @ k.float().transpose(2, 3) * SCALING).flatten(1, 2)
        output = functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)
        return query[:, 0], scores, output[:, :, 0]

    def passed(self, query, scores, output):
        found = self.running.residuals(self.position, query, scores, output, (SCALING, 0.0))
        return (found[0] <= BOUNDS.scores) & (found[1] <= BOUNDS.mixed)


@pytest.mark.parametrize("draws", [50, pytest.param(1_500, marks=pytest.mark.soak)])
def test_no_honest_decoded_row_is_refused(draws):
    decoding = Decoding(200)
    assert all(decoding.passed(*decoding.row()).all() for _ in range(draws))


@pytest.mark.parametrize("draws", [10, pytest.param(1_500, marks=pytest.mark.soak)])
def test_an_output_off_by_5_percent_of_its_head_never_passes(draws):
    decoding = Decoding(150)
    for _ in range(draws):
        query, scores, output = decoding.row()
        error = torch.randn(output.shape, generator=decoding.noise)
        error *= 0.05 * output.float().norm(dim=-1, keepdim=True) / error.norm(dim=-1, keepdim=True)
        assert not decoding.passed(query, scores, (output + error).bfloat16()).any()


def prompt_rows(context, seed):
    noise = torch.Generator().manual_seed(seed)
    keys, values, queries = (
        torch.randn(context, heads, SIZE, generator=noise).bfloat16()
        for heads in (KEY_HEADS, KEY_HEADS, HEADS)
    )
    queries = (queries * 4 * torch.rand(1, HEADS, 1, generator=noise)).bfloat16()
    parts = (each.transpose(0, 1)[None] for each in (queries, keys, values))
    told = functional.scaled_dot_product_attention(*parts, is_causal=True, enable_gqa=True)
    return Rows(torch.arange(context), queries, told[0].transpose(0, 1)), keys, values


@pytest.mark.parametrize("draws", [7, pytest.param(184, marks=pytest.mark.soak)])
def test_no_honest_row_of_a_prompt_is_refused(draws):
    for seed in range(draws):
        rows, keys, values = prompt_rows(512, seed)
        assert prompt.audit(rows, keys, values, TERMS, BOUNDS.attention).all()


@pytest.mark.parametrize("share", [0.01, 0.05, 0.1])
def test_an_audit_finds_what_chance_allows(share):
    """1 - (1 - f)^k, exactly: k rows drawn from n without returning them."""
    context, opened, trials = 1024, 32, 1_000
    rows, keys, values = prompt_rows(context, 1)
    lies = int(share * context)
    rows.outputs[torch.randperm(context - 1)[:lies]] *= 1.1  # the last row is always opened
    passed = prompt.audit(rows, keys, values, TERMS, BOUNDS.attention)
    assert int((~passed).sum()) == lies
    secrets = Secrets()
    drawn = (secrets.subset(b"%d" % trial, context, opened) for trial in range(trials))
    found = sum(not passed[index].all() for index in drawn) / trials
    expected = 1 - math.comb(context - lies, opened) / math.comb(context, opened)
    assert abs(expected - (1 - (1 - lies / context) ** opened)) < 0.02
    assert abs(found - expected) < 5 * math.sqrt(expected * (1 - expected) / trials)
