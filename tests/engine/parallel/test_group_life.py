"""An engine of two ranks behind the same slots: streams, cancels, and ends as a whole."""

import json
import os
import select
import signal
import time
from pathlib import Path

import pytest

from engine.config import EngineConfig
from engine.digest import model_digest
from engine.errors import EngineError, EngineGone
from engine.parallel.launch import Torchrun
from engine.policy import engine_policy
from engine.types import EngineState, SamplingParams

FORMS = ["tensor_parallel", "pipeline_parallel", "sequence_parallel"]


@pytest.fixture(scope="module")
def pair(engine_process, model_folder):
    """One engine of two ranks."""
    process = engine_process(model_folder("llama"), tensor_parallel=2)
    assert process.ready, process.stop()
    yield process
    code, errors = process.stop()
    assert (code, errors) == (0, b"")


def ranks_behind(process):
    """The processes of the ranks behind an engine's first."""
    path = Path(f"/proc/{process.process.pid}/task/{process.process.pid}/children")
    return [int(pid) for pid in path.read_text().split()]


def generate(connection, prompt, **fields):
    (slot,) = connection.open_slots(1)
    index = len(connection.slots) - 1
    params = SamplingParams(**{"max_new_tokens": 12, "temperature": 0.0, **fields})
    slot.submit(prompt, params, group=1, index_in_group=index)
    connection.wake(index)
    return slot


def wait_for(connection, condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        connection.wait(1)


def all_of(connection, slot):
    wait_for(connection, lambda: slot.state is EngineState.FINISHED)
    return slot.ids(0, slot.sampled)


def test_its_answers_are_those_of_one_rank(pair, engine, prompt_ids):
    prompt = prompt_ids(150)
    answers = []
    for process in (pair, engine):
        connection = process.connect()
        answers.append(all_of(connection, generate(connection, prompt)))
        connection.close()
    assert answers[0] == answers[1]


def test_it_has_the_digest_of_the_model_and_declares_itself(pair, model_folder):
    assert pair.ready["model_digest"] == model_digest(EngineConfig(model_folder("llama"))).hex()
    row = json.loads(pair.ready["policy"])["optimisations"]["tensor_parallel"]
    assert row == {"form": "2 ranks, inside one attested group only", "state": "declared"}


def test_cancelling_erases_and_the_next_prompt_is_undisturbed(pair, prompt_ids):
    connection = pair.connect()
    before = all_of(connection, generate(connection, prompt_ids(40, 3)))
    slot = generate(connection, prompt_ids(60), max_new_tokens=400)
    wait_for(connection, lambda: slot.sampled > 2)
    slot.cancel()
    connection.wake(1)
    wait_for(connection, lambda: slot.state is EngineState.ERASED)
    assert slot.sampled < 400
    assert all_of(connection, generate(connection, prompt_ids(40, 3))) == before
    connection.close()


@pytest.mark.parametrize("busy", [False, True])
def test_a_rank_that_dies_ends_the_engine(engine_process, model_folder, prompt_ids, busy):
    process = engine_process(model_folder("llama"), pipeline_parallel=2)
    connection = process.connect()
    if busy:
        slot = generate(connection, prompt_ids(20), max_new_tokens=480)
        wait_for(connection, lambda: slot.sampled > 2)
    (behind,) = ranks_behind(process)
    os.kill(behind, signal.SIGKILL)
    with pytest.raises(EngineGone):
        wait_for(connection, lambda: False)
    assert process.process.wait(20) == 1
    _, errors = process.stop()
    assert b"RankLost: a rank of the group" in errors
    connection.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_rank_outlives_the_first(engine_process, model_folder, number):
    process = engine_process(model_folder("llama"), sequence_parallel=2)
    (behind,) = ranks_behind(process)
    ended = os.pidfd_open(behind)
    process.process.send_signal(number)
    process.process.wait(20)
    assert wait_readable(ended)
    process.stop()


def wait_readable(descriptor):
    return select.select([descriptor], [], [], 10)[0]


def test_a_refused_model_is_refused_with_its_reason(engine_process, model_folder):
    process = engine_process(model_folder("gpt2"), tensor_parallel=2)
    assert process.ready is None
    code, errors = process.stop()
    assert code == 1
    assert b"UnsupportedModel: transformers has no tensor-parallel plan" in errors


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_declared_and_only_when_used(form):
    def rows(**config):
        policy = json.loads(engine_policy(EngineConfig(model=Path("m"), **config)))
        return {name: policy["optimisations"][name] for name in FORMS}

    alone, grouped = rows(), rows(**{form: 3})
    assert {row["state"] for row in alone.values()} == {"off"}
    assert grouped.pop(form) == {
        "state": "declared",
        "form": "3 ranks, inside one attested group only",
    }
    alone.pop(form)
    assert grouped == alone


def test_one_form_at_a_time():
    with pytest.raises(EngineError, match="one of tensor"):
        _ = EngineConfig(Path("m"), tensor_parallel=2, pipeline_parallel=2).ranks
    with pytest.raises(EngineError, match="one of tensor"):
        _ = EngineConfig(Path("m"), tensor_parallel=0).ranks


def test_torchruns_ranks_are_on_one_machine():
    names = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}
    assert Torchrun.find({}) is None
    assert Torchrun.find(names) == Torchrun(1, 2)
    for other in ({"MASTER_ADDR": "192.0.2.1"}, {"LOCAL_WORLD_SIZE": "1"}):
        with pytest.raises(EngineError, match="on one machine"):
            Torchrun.find(names | other)
