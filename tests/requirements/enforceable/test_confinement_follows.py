"""From its policy a client can tell whether an engine is confined (decision 19)."""

import inspect
import json
from pathlib import Path

import pytest

from engine.config import EngineConfig
from engine.policy import engine_policy
from server import launcher, sandbox
from server.config import Upstream, WorkerConfig

GROUPS = ("tensor_parallel", "pipeline_parallel", "sequence_parallel")
FORMS = [
    {},
    {"verification": "none", "speculation": "ngram"},
    {"kv_offload_bytes": 1 << 20},
    {"tensor_parallel": 2, "verification": "none"},
    {"device": "cuda", "verification": "none"},
    {"device": "cuda:1", "verification": "none"},
]


def worker(engine, **settings):
    return WorkerConfig(
        model=Path("/m"), model_name="m", engine=engine, host="127.0.0.1", port=1,
        log_url="http://log", issuer_url="http://issuer", issuer_name="i",
        spent_socket=Path("/s"), **settings,
    )  # fmt: skip


def promised(policy):
    """Whether this policy promises a confined engine, as the decision says it."""
    members = json.loads(policy)
    groups = {members["optimisations"][name]["state"] for name in GROUPS}
    return members["device"] == "cpu" and groups == {"off"}


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_an_engine_is_confined_exactly_if_its_policy_promises_it(form):
    config = EngineConfig(Path("/m"), **form)
    confined = sandbox.engine(worker(config)) is not None
    assert confined == promised(engine_policy(config))


def test_what_asks_another_engine_is_confined():
    config = worker(EngineConfig(Path("/m")), upstream=Upstream("http://127.0.0.1:1", "vllm", "m"))
    assert sandbox.engine(config) is not None


@pytest.mark.parametrize("role", ["KEEPER", "FRONT", "DOOR", "ENGINE"])
def test_each_role_confines_itself_before_it_does_anything_under_every_policy(role):
    """There is no condition before the call, and no way around it."""
    source = inspect.getsource(launcher)
    (line,) = [each for each in source.splitlines() if f"sandbox.confine(Role.{role}," in each]
    assert line.strip().startswith("sandbox.confine(")
    indent = len(line) - len(line.lstrip())
    assert indent in {8, 12}, "in the function that is the role, not below a condition"
