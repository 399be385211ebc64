"""Kernels against the engine's torch attention, over odd shapes; Triton's by its interpreter."""

import pytest
import torch

CASES = {
    "decode": {"lengths": [(0, 1), (15, 1), (16, 1), (70, 1), (41, 1)]},
    "decode grouped by five": {"lengths": [(33, 1), (7, 1)], "shared": 5, "heads": 1},
    "decode narrow values": {"lengths": [(33, 1)], "size": 24, "value_size": 8, "shared": 1},
    "decode windows": {"lengths": [(90, 1), (3, 1), (47, 1)], "window": 20},
    "decode windows of one": {"lengths": [(90, 1), (0, 1)], "window": 1},
    "decode caps": {"lengths": [(90, 1), (12, 1)], "softcap": 1.5},
    "decode sinks": {"lengths": [(90, 1), (12, 1)], "sinks": True},
    "decode large blocks": {"lengths": [(200, 1), (64, 1)], "block_size": 64},
    "decode blocks of 48": {"lengths": [(100, 1), (47, 1)], "block_size": 48},
    "chunks": {"lengths": [(0, 37), (5, 20), (31, 2), (0, 16)]},
    "chunks of heads of three": {"lengths": [(0, 37), (21, 50)], "shared": 3, "heads": 2},
    "chunks narrow values": {"lengths": [(9, 30)], "size": 24, "value_size": 8, "shared": 1},
    "chunks windows": {"lengths": [(0, 60), (50, 30), (3, 4)], "window": 13},
    "chunks caps": {"lengths": [(0, 30), (40, 9)], "softcap": 1.5},
    "chunks sinks": {"lengths": [(0, 30), (40, 9)], "sinks": True},
    "everything": {
        "lengths": [(44, 1), (0, 33), (17, 1), (29, 40), (0, 1)],
        "window": 21,
        "softcap": 2.0,
        "sinks": True,
    },
}


def relative(got, want):
    return ((got.float() - want.float()).norm() / want.float().norm()).item()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("splits", [1, 3])
def test_the_oracles_index_logic_equals_the_engines_attention(name, splits, kernel_lab):
    case = kernel_lab.case(**CASES[name])
    got = kernel_lab.compute(kernel_lab.oracle(splits=splits), case)
    assert relative(got, kernel_lab.expected(case)) < 1e-5


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_triton_kernels_equal_the_engines_attention(name, dtype, kernel_lab, triton_kernels):
    case = kernel_lab.case(**CASES[name], dtype=dtype)
    # The interpreter's products of bfloat16 are wrong; of float16 they are right.
    kernels = triton_kernels(exact=dtype == torch.bfloat16)
    got = kernel_lab.compute(kernels, case)
    limit = 1e-5 if dtype == torch.float32 else 1e-2
    assert relative(got, kernel_lab.expected(case)) < limit
