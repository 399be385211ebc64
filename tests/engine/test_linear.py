import pytest
import torch
from torch import nn

from engine.linear import Member, PackedLinear, PlainLinear, can_pack, convert, make_linear


class Attention(nn.Module):
    def __init__(self, bias, inputs=(24, 24, 24)):
        super().__init__()
        self.q_proj = nn.Linear(inputs[0], 32, bias=bias)
        self.k_proj = nn.Linear(inputs[1], 16, bias=bias)
        self.v_proj = nn.Linear(inputs[2], 16, bias=bias)

    def forward(self, x):
        return self.q_proj(x), self.k_proj(x), self.v_proj(x)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_siblings_compute_what_they_did_alone(bias, dtype):
    module = Attention(bias).to(dtype)
    x = torch.randn(1, 7, 24, dtype=dtype)
    with torch.inference_mode():
        expected = module(x)
        (siblings,) = convert(module)
        got = module(x)
    assert isinstance(module.q_proj, Member)
    for one, other in zip(got, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-2 if dtype == torch.bfloat16 else 1e-6)
    assert siblings._input is None
    assert not siblings._parts


def test_siblings_do_not_mix_inputs_up():
    module = Attention(bias=True)
    plain = [getattr(module, name) for name in ("q_proj", "k_proj", "v_proj")]
    (siblings,) = convert(module)
    x, y = torch.randn(2, 24), torch.randn(2, 24)
    with torch.inference_mode():
        for linear, member, value in (
            (plain[0], module.q_proj, x),
            (plain[1], module.k_proj, y),
            (plain[2], module.v_proj, x),
            (plain[0], module.q_proj, x),
            (plain[0], module.q_proj, x),
        ):
            assert torch.allclose(member(value), linear(value), atol=1e-6)
    assert siblings._input is not None  # k and v of the last x were not fetched
    siblings.clear()
    assert siblings._input is None


def test_unequal_inputs_are_not_siblings():
    module = Attention(bias=False, inputs=(24, 24, 8))
    assert convert(module) == []
    assert type(module.q_proj) is nn.Linear


def test_packing_needs_bf16_on_a_cpu_that_has_it():
    assert not can_pack(torch.zeros(4, 4))
    assert isinstance(make_linear(torch.zeros(4, 4), None), PlainLinear)
    assert not can_pack(torch.zeros(4, 4, dtype=torch.bfloat16, device="meta"))


def test_packed_equals_plain():
    weight, bias = torch.randn(40, 24).bfloat16(), torch.randn(40).bfloat16()
    if not can_pack(weight):
        pytest.skip("this CPU has no bf16 in oneDNN")
    for rows in (1, 8, 33):
        x = torch.randn(1, rows, 24).bfloat16()
        packed, plain = PackedLinear(weight, bias)(x), PlainLinear(weight, bias)(x)
        assert torch.allclose(packed, plain, atol=0.1)
        assert packed.dtype == torch.bfloat16
