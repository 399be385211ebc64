"""What is replayed between the products: how far apart two roundings of one value may be."""

import torch
from verified_models import Plain, prompt, span, trusted

from engine.verification.rest import Rows, replay, steps


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
