import json
from pathlib import Path

import pytest

from engine.config import EngineConfig
from engine.policy import OPTIMISATIONS, engine_policy, optimisations
from wire import canonical_json

# Every serving optimisation that the service's design speaks about.
NAMED = [
    "paging",
    "token_level_attention",
    "continuous_batching",
    "chunked_prefill",
    "packed_prefill",
    "grouped_query_attention",
    "fused_attention",
    "fused_projections",
    "prefix_cache",
    "prompt_snippet_cache",
    "kv_offload_host",
    "kv_offload_disk",
    "kv_duplication",
    "kv_pulling",
    "kv_migration",
    "prefill_decode_disaggregation",
    "speculation",
    "tensor_parallel",
    "pipeline_parallel",
    "sequence_parallel",
    "priority",
    "request_level_prediction",
    "content_aware_routing",
    "instance_flip",
    "cross_region_placement",
    "machine_level_scheduler",
    "global_profiling",
    "weight_quantisation",
    "kv_quantisation",
    "sparsity",
    "distillation",
    "kv_truncation",
    "cuda_graphs",
    "kernels_compiled_at_start",
    "compiled_kernels",
]


def test_no_optimisation_is_silent():
    assert sorted(row.name for row in OPTIMISATIONS) == sorted(NAMED)


@pytest.mark.parametrize("row", OPTIMISATIONS, ids=lambda row: row.name)
def test_every_row_says_what_it_does(row):
    assert row.state in {"on", "declared", "off", "refused"}
    assert row.form
    assert row.state != "on" or not row.touches, "what touches a requirement is at least declared"


def test_the_policy_is_canonical_and_holds_the_whole_table():
    text = engine_policy(EngineConfig(model=Path("m")))
    policy = json.loads(text)
    assert canonical_json.encode(policy) == text
    assert set(policy["optimisations"]) == set(NAMED)
    assert policy["version"] == 1
    assert (policy["verification"], policy["transfers"]) == ("none", "none")
    assert (policy["device"], policy["prefix_cache"]) == ("cpu", "request")


def test_an_accelerator_is_declared_with_its_plain_transfers():
    policy = json.loads(engine_policy(EngineConfig(model=Path("m"), device="cuda:1")))
    assert (policy["device"], policy["transfers"]) == ("cuda", "plain")


@pytest.mark.parametrize(
    ("speculation", "state", "form"),
    [
        ("none", "off", "draft model, or n-grams of the same request"),
        ("ngram", "declared", "n-grams of the same request; never a database of past requests"),
        ("draft", "declared", "draft model, named in the model digest"),
    ],
)
def test_speculation_is_declared_in_the_form_it_has(speculation, state, form):
    config = EngineConfig(model=Path("m"), speculation=speculation)
    row = json.loads(engine_policy(config))["optimisations"]["speculation"]
    assert row == {"state": state, "form": form}
    for other in optimisations(config):
        assert other.name == "speculation" or other in OPTIMISATIONS


def test_offload_is_declared_by_whoever_uses_it_and_its_transfers_are_sealed():
    policy = json.loads(engine_policy(EngineConfig(Path("m"), kv_offload_bytes=1 << 20)))
    assert policy["optimisations"]["kv_offload_host"]["state"] == "declared"
    assert policy["transfers"] == "sealed"
    policy = json.loads(engine_policy(EngineConfig(Path("m"))))
    assert policy["optimisations"]["kv_offload_host"]["state"] == "off"
    assert policy["transfers"] == "none"


def test_truncation_is_declared_by_whoever_uses_it():
    policy = json.loads(engine_policy(EngineConfig(Path("m"), device="cuda", kv_truncation=True)))
    assert policy["optimisations"]["kv_truncation"]["state"] == "declared"
    policy = json.loads(engine_policy(EngineConfig(Path("m"), device="cuda")))
    assert policy["optimisations"]["kv_truncation"]["state"] == "off"
