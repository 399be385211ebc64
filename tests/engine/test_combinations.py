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
        {"device": "cuda:3", "tensor_parallel": 2},
        {"kv_offload_bytes": 1 << 20, "verification": "audit"},
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
        ({"kv_offload_bytes": -1}, "no less than nothing"),
        ({"kv_offload_bytes": 1, "device": "cuda"}, "kv_offload is for one process on a CPU"),
        ({"kv_offload_bytes": 1, "tensor_parallel": 2}, "kv_offload is for one process"),
        ({"kv_truncation": True, "device": "cuda", "tensor_parallel": 2}, "one process"),
    ],
)
def test_what_does_not(settings, reason):
    with pytest.raises(EngineError, match=reason):
        check_combination(EngineConfig(Path("m"), **settings))
