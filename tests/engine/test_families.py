"""Every family that is served, against the stock model: prompts in chunks, and paged decoding.

At 1,100 tokens, so that sliding windows, soft caps and sinks have something to forget or to bend.
"""

from dataclasses import replace

import pytest

from engine.attention import AttentionBatch, Group, Span
from engine.config import EngineConfig
from engine.errors import UnsupportedModel
from engine.loader import load

FAMILIES = [
    "cohere", "cohere2", "ernie4_5", "exaone4", "gemma", "gemma2", "gemma3_text", "glm4", "gpt2",
    "gpt_neox", "gpt_oss", "granite", "helium", "hunyuan_v1_dense", "llama", "mistral", "mixtral",
    "nemotron", "olmo2", "opt", "phi", "phi3", "qwen2", "qwen3", "qwen3_moe", "seed_oss",
    "smollm3", "stablelm", "starcoder2",
]  # fmt: skip
LATENT = "deepseek_v3"
"""Keys and values are kept as the heads see them, values narrower than keys."""


@pytest.mark.parametrize("name", [*FAMILIES, LATENT])
def test_prefill_and_paged_decoding_equal_the_stock_model(name, lab):
    device, _ = lab.device(lab.load(name), blocks=80)
    ids = lab.prompt(1100)
    expected = lab.stock(name, ids)
    blocks = [*range(79, 60, -1), *range(61)]  # some of them no run
    start, worst = 0, []
    for length in (512, 400, 150, 34, 1, 1, 1, 1):
        (got,) = lab.step(device, [Span(blocks, start, length)], [ids])
        want = expected[start : start + length]
        worst.append(((got - want).norm(dim=-1) / want.norm(dim=-1)).max().item())
        start += length
    assert max(worst) < 5e-4, worst


@pytest.mark.parametrize("name", ["cohere2", "exaone4", "gemma2", "gemma3_text", "gpt_oss", "mistral", "starcoder2"])  # fmt: skip  # noqa: E501
def test_the_comparison_would_notice_a_forgotten_window(name, lab, monkeypatch):
    device, _ = lab.device(lab.load(name), blocks=80)
    ids = lab.prompt(1100)
    original = Group._view
    monkeypatch.setattr(Group, "_view", lambda group, _: original(group, None))
    (got,) = lab.step(device, [Span(list(range(80)), 0, 1100)], [ids])
    want = lab.stock(name, ids)
    assert ((got - want).norm(dim=-1) / want.norm(dim=-1)).max().item() > 0.01


@pytest.mark.parametrize("option", ["softcap", "sinks"])
def test_the_comparison_would_notice_a_forgotten_cap_or_sink(option, lab, monkeypatch):
    name = {"softcap": "gemma2", "sinks": "gpt_oss"}[option]
    device, _ = lab.device(lab.load(name), blocks=80)
    original = AttentionBatch.attend

    def forgetful(self, *args):
        return original(self, *args[:-1], replace(args[-1], **{option: None}))

    monkeypatch.setattr(AttentionBatch, "attend", forgetful)
    ids = lab.prompt(1100)
    (got,) = lab.step(device, [Span(list(range(80)), 0, 1100)], [ids])
    want = lab.stock(name, ids)
    assert ((got - want).norm(dim=-1) / want.norm(dim=-1)).max().item() > 0.01


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("falcon", "attention interface"),
        ("bloom", "attention interface"),
        ("mamba", "linear_attention"),
    ],
)
def test_what_is_not_served_is_refused_with_the_reason(name, reason, model_folder):
    with pytest.raises(UnsupportedModel, match=reason):
        load(EngineConfig(model=model_folder(name), dtype="float32"))
