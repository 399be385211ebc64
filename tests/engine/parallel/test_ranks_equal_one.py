"""What two ranks compute together is what one computes alone."""

import sys

import pytest
import torch

DIVIDED = [
    "llama",
    "gpt_neox",  # queries, keys and values of each head in one product
    "olmo2",  # norms over all heads: what was divided is brought together
    "phi3",  # one product for queries, keys and values, and for gate and up
    "mixtral",
    "gemma2",
    "starcoder2",
]
# gemma3_text has three layers, and layers with a sliding window among them.
ONLY_WHOLE = ["gpt2", "gpt_oss"]
"""Without a tensor-parallel plan in transformers."""


FORMS = ["tensor_parallel", "pipeline_parallel", "sequence_parallel"]
BLOCKS = [3, 4, 5]
REFUSED = {
    "heads": ({"tensor_parallel": 4}, "4 heads over 2 KV heads cannot be divided among 4 ranks"),
    "layers": ({"pipeline_parallel": 3}, "2 layers cannot be divided among 3 ranks"),
    "int8": (
        {"tensor_parallel": 2, "dtype": "bfloat16", "weights": "int8"},
        "int8 weights: a group of ranks computes through torch",
    ),
}


@pytest.fixture(scope="module")
def results(in_groups, steps, prompt_ids):
    """What groups computed, by form, architecture and kind of case; one program for all."""
    cases = {}
    for form in FORMS:
        for name in [*DIVIDED, *ONLY_WHOLE, "gemma3_text"]:
            cases[form, name] = (name, steps, {"dtype": "float32", form: 2})
        cases[form, "bfloat16"] = ("llama", steps, {"dtype": "bfloat16", form: 2})
        # Looks at 20 positions that it did not write.
        probe = [(BLOCKS, 20, [6])]
        script = [probe, BLOCKS, [(BLOCKS, 0, prompt_ids(21))], probe, BLOCKS, probe]
        cases[form, "zeroed"] = ("llama", script, {"dtype": "float32", form: 2})
    for what, (config, _) in REFUSED.items():
        cases["refused", what] = ("llama", steps, {"dtype": "float32", **config})
    return dict(zip(cases, in_groups(cases.values()), strict=True))


def worst(got, expected):
    """Return the largest error of a step, relative to its logits."""
    return max(
        ((one - other).norm() / other.norm()).item()
        for one, other in zip(got, expected, strict=True)
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", [*DIVIDED, *ONLY_WHOLE, "gemma3_text"])
def test_in_float32_they_agree(results, alone, steps, form, name):
    got = results[form, name]
    if form == "tensor_parallel" and name in ONLY_WHOLE:
        assert got == "transformers has no tensor-parallel plan for it"
    else:
        assert worst(got, alone(name, steps)) < 1e-5


@pytest.mark.parametrize("form", FORMS)
def test_in_bfloat16_they_differ_by_rounding(results, alone, steps, form):
    exact = alone("llama", steps)
    rounding = worst(alone("llama", steps, "bfloat16"), exact)
    assert worst(results[form, "bfloat16"], exact) < 1.5 * rounding


@pytest.mark.parametrize("form", FORMS)
def test_zeroed_blocks_are_zero_on_every_rank(results, form):
    clean, _, dirty, again = results[form, "zeroed"]
    assert torch.equal(clean, again)
    assert not torch.equal(clean, dirty)


@pytest.mark.parametrize("what", REFUSED)
def test_a_model_that_cannot_be_divided_says_why(results, what):
    assert results["refused", what] == REFUSED[what][1]


def test_ranks_that_torchrun_started(in_groups, alone, steps):
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2")
    local = (
        "--rdzv-backend",
        "c10d",
        "--rdzv-endpoint",
        "127.0.0.1:0",
        "--local-addr",
        "127.0.0.1",
    )
    case = ("llama", steps, {"dtype": "float32", "tensor_parallel": 2})
    (got,) = in_groups([case], *torchrun, *local)
    assert worst(got, alone("llama", steps)) < 1e-5
