"""What is replayed between the products: how far apart two roundings of one value may be."""

import dataclasses

import pytest
import torch
from verified_models import FAMILIES, Plain, prompt, span, trusted

from engine.native import checks
from engine.verification import rest
from engine.verification.rest import Rows, replay, steps
from engine.verification.transcript import Matrix


def test_two_roundings_are_one_step_apart_at_most():
    right = torch.randn(50, 300, generator=torch.Generator().manual_seed(1))
    assert steps(right.bfloat16(), right).max() <= 1
    assert steps(torch.nextafter(right.bfloat16(), torch.tensor(9.0).bfloat16()), right).max() <= 3


def test_an_element_off_by_more_is_seen_and_so_is_what_is_not_a_number():
    right = torch.ones(4, 64)
    told = right.bfloat16()
    told[1, 5] = 1.02
    told[2, 5] = float("nan")
    told[3, 5] = float("inf")
    assert (steps(told, right) > 3).tolist() == [False, True, True, True]


def test_numbers_far_below_their_row_have_the_rows_tolerance():
    right = torch.ones(2, 64)
    right[:, 0] = 1e-9
    told = right.bfloat16()
    told[0, 0] = 3e-5  # a fifth of a step at 2^-6
    told[1, 0] = 3e-3
    assert (steps(told, right) > 3).tolist() == [False, True]


def test_what_the_head_multiplies_follows_from_the_embeddings():
    model, device = trusted("gemma2"), Plain("gemma2")
    ids = prompt(12)
    _, told = device.step(ids, [span(0, 12)], [11])
    rows = Rows(model.embeddings[ids], torch.arange(12))
    opening = told.open(range(12))
    found = replay(model, rows, opening, told.keys, told.values)
    assert steps(told.final, found.final[11:]).item() <= 1
    rows = Rows(model.embeddings[ids.flip(0)], torch.arange(12))
    assert steps(told.final, replay(model, rows, opening, told.keys, told.values).final[11:]) > 3


@pytest.mark.skipif(checks.available() is None, reason="compiled kernels: not here")
@pytest.mark.parametrize("name", FAMILIES)
def test_the_library_replays_what_torch_replays(name):
    model, device = trusted(name), Plain(name)
    ids = prompt(21)
    _, told = device.step(ids, [span(0, 21)], [20])
    opening = told.open(range(21))
    opening.products[Matrix.OUTPUT].outputs[1, 4, 3] += 1  # so that something is far off, as well
    opening.products[Matrix.GATE_UP].outputs[2, 9, 0] = float("nan")
    rows = Rows(model.embeddings[ids], torch.arange(21))
    values = told.values.clone()
    values[1, 2, 0, 0] += 1
    compiled = rest.replay(model, rows, opening, told.keys, values)
    plain = rest.by_torch(model, rows, opening, told.keys, values)
    for field in dataclasses.fields(plain):
        one, other = getattr(compiled, field.name).float(), getattr(plain, field.name).float()
        torch.testing.assert_close(one, other, rtol=1e-2, atol=2e-2, equal_nan=True)
    assert compiled.values.sum() == plain.values.numel() - 1
