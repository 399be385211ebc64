"""N-grams over the compiled decoder: rows of several positions of one sequence, and their gain."""

import pytest
import torch
import transformers

from engine.config import EngineConfig
from engine.loader import load
from engine.native import library
from engine.native.model import NativeModel
from engine.speculative import Costs
from engine.speculative_bench import compare, repetitive, unrelated

try:
    library.load()
except library.NativeUnavailable as unavailable:
    pytest.skip(f"compiled kernels: {unavailable}", allow_module_level=True)


@pytest.fixture(autouse=True)
def flat_costs(monkeypatch):
    """What rows cost here and now would decide how many steps are taken."""
    monkeypatch.setattr("engine.build.measure", lambda *_, **__: Costs([1, 32], [1.0, 1.0]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(3)
    config = transformers.LlamaConfig(
        hidden_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=256, vocab_size=2048, max_position_embeddings=1024, head_dim=32,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("wide")
    model = transformers.AutoModelForCausalLM.from_config(config)
    model.to(torch.bfloat16).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("weights", ["as stored", "int8"])
def test_repetitive_text_takes_a_fraction_of_the_steps(folder, weights):
    config = EngineConfig(model=folder, weights=weights, max_sequences=4)
    loaded = load(config)
    assert isinstance(loaded.computation, NativeModel)
    comparison = compare(config, loaded, repetitive(forced=True, count=120), rounds=1)
    assert comparison.steps > 2
    assert comparison.unchanged
    assert len(comparison.ratios) == 1


def test_text_that_does_not_repeat_takes_as_many_steps(folder):
    config = EngineConfig(model=folder, max_sequences=4)
    comparison = compare(config, load(config), unrelated(count=120), rounds=1)
    assert 1 <= comparison.steps < 1.2
