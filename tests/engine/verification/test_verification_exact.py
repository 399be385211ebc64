"""Integer products: an honest row never fails, a sum that is off by one never passes."""

import pytest
import torch

from engine.errors import ModelRefused
from engine.verification import exact
from engine.verification.secrets import Secrets

OUTPUTS, INPUTS, ROWS = 192, 512, 256


@pytest.fixture(scope="module")
def weight():
    generator = torch.Generator().manual_seed(1)
    return torch.randint(-127, 128, (OUTPUTS, INPUTS), generator=generator).to(torch.int8)


@pytest.fixture(scope="module")
def sketch(weight):
    return exact.sketch(weight, Secrets(bytes), b"0")


def inputs_of(seed):
    generator = torch.Generator().manual_seed(seed)
    return exact.rounded(torch.randn(ROWS, INPUTS, generator=generator))


def test_honest_rows_never_fail(weight, sketch):
    for seed in range(20):
        x = inputs_of(seed).steps
        assert exact.check(x, exact.sums(x, weight), sketch).all()


def test_the_largest_rows_there_are_pass(weight, sketch):
    x = weight.sign() * 127  # every term of some sum at its largest
    assert exact.check(x, exact.sums(x, weight), sketch).all()


def test_a_sum_that_is_off_by_one_is_always_caught(weight, sketch):
    x = inputs_of(3).steps
    right = exact.sums(x, weight)
    row = torch.arange(ROWS)
    for seed in range(16):
        told = right.clone()
        generator = torch.Generator().manual_seed(seed)
        at = torch.randint(OUTPUTS, (ROWS,), generator=generator)
        told[row, at] += 2 * torch.randint(2, (ROWS,), generator=generator).int() - 1
        assert not exact.check(x, told, sketch).any()


def test_sums_that_cannot_be_are_refused_before_they_are_multiplied(weight, sketch):
    x = inputs_of(4).steps
    told = exact.sums(x, weight)
    told[1, 0] = -(2**31)
    told[2, 0] = 2**31 - 1
    passed = exact.check(x, told, sketch)
    assert (~passed).nonzero().flatten().tolist() == [1, 2]


def test_a_matrix_whose_sums_leave_float64_is_refused():
    wide = torch.zeros(1, dtype=torch.int8).expand(1 << 14, 1 << 14)
    with pytest.raises(ModelRefused, match="too large"):
        exact.sketch(wide, Secrets(bytes), b"0")


def test_rounding_keeps_the_largest_and_the_zeros():
    found = exact.rounded(torch.tensor([[0.5, -2.0, 0.0], [0.0, 0.0, 0.0]]))
    assert found.steps.tolist() == [[32, -127, 0], [0, 0, 0]]
    assert found.scale[1].item() == 0
