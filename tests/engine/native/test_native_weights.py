"""Packing is a rearrangement, and rounding to 8 bits is off by half a step at most."""

import pytest
import torch

from engine.native.weights import GROUP, pack, pack_pairs, quantise


@pytest.mark.parametrize("outputs", [32, 64, 50, 1])
def test_packing_moves_weights_and_changes_none(outputs):
    weight = torch.randn(outputs, 128).to(torch.bfloat16)
    packed = pack(weight, torch.arange(outputs), int8=False)
    assert torch.equal(packed.unpack()[:outputs], weight.float())
    assert not packed.unpack()[outputs:].any()
    assert packed.bias[:outputs].tolist() == list(range(outputs))


def test_a_panel_of_pairs_holds_sixteen_of_each():
    first, second = torch.randn(2, 64, 128).to(torch.bfloat16)
    rows = pack_pairs(first, second, int8=False).unpack().view(4, 2, 16, 128)
    assert torch.equal(rows[:, 0].reshape(64, 128), first.float())
    assert torch.equal(rows[:, 1].reshape(64, 128), second.float())


def test_rounding_is_off_by_half_a_step_at_most():
    weight = torch.randn(96, 256)
    unpacked = pack(weight, int8=True).unpack()
    _, scales = quantise(weight)
    error = (unpacked - weight).abs().view(96, 256 // GROUP, GROUP).amax(-1)
    # The largest weight of a group may lie half a rounding of bfloat16 beyond step 127.
    assert bool((error <= scales.float() * 0.76).all())


def test_an_outlier_costs_its_own_neighbours_only():
    weight = torch.randn(32, 256)
    plain = pack(weight, int8=True).unpack()
    weight[3, 70] = 1000.0
    spoilt = pack(weight, int8=True).unpack()
    changed = (plain != spoilt).nonzero()
    assert set(changed[:, 0].tolist()) == {3}
    assert {column // GROUP for column in changed[:, 1].tolist()} == {1}


def test_a_matrix_of_zeros_stays_one():
    assert not pack(torch.zeros(32, 64), int8=True).unpack().any()
