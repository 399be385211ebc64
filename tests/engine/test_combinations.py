"""An engine whose settings contradict each other is not built, and says why in one sentence."""

from pathlib import Path

import pytest

from engine.combinations import check_combination
from engine.config import EngineConfig
from engine.errors import EngineError


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"weights": "int8", "speculation": "ngram"},
        {"speculation": "draft", "draft": Path("d"), "tensor_parallel": 2},
        {"device": "cuda", "kv_truncation": True},
        {"kv_offload": "disk", "verification": "audit"},
        {"device": "cuda:3", "tensor_parallel": 2},
    ],
)
def test_what_goes_together(settings):
    check_combination(EngineConfig(Path("m"), **settings))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"device": "mps"}, "cpu, cuda or"),
        ({"weights": "int4"}, "as stored"),
        ({"weights": "int8", "device": "cuda"}, "int8"),
        ({"weights": "int8", "pipeline_parallel": 2}, "int8"),
        ({"speculation": "past requests"}, "speculation is"),
        ({"speculation": "draft"}, "needs the folder"),
        ({"draft": Path("d")}, "a draft model needs"),
        ({"kv_truncation": True}, "on a GPU"),
        ({"kv_offload": "cloud"}, "kv_offload is"),
        ({"kv_offload_bytes": 0}, "at least one byte"),
        ({"kv_offload": "host", "device": "cuda"}, "on a CPU"),
        ({"kv_offload": "disk", "tensor_parallel": 2}, "one process"),
        ({"kv_truncation": True, "device": "cuda", "tensor_parallel": 2}, "one process"),
    ],
)
def test_what_does_not(settings, reason):
    with pytest.raises(EngineError, match=reason):
        check_combination(EngineConfig(Path("m"), **settings))
