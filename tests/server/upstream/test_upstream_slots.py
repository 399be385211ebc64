"""Slots in front of another engine: ids, log-probabilities, cancelling, and what is refused."""

import base64
import json
import os
import time
from pathlib import Path

import pytest

from engine.errors import EngineGone
from engine.slot import Slot
from engine.types import EngineState, ErrorCode, FinishReason
from server.config import UPSTREAM_KINDS, Upstream
from server.errors import StartError
from server.upstream_dialect import DIALECTS
from server.upstream_policy import upstream_digest

FOLDER = Path(__file__).parents[3] / "engine" / "tinychat" / "model"
BIG = [(" x", [number]) for number in range(40, 200)]


@pytest.mark.parametrize("unix", [False, True])
def test_ids_go_in_and_come_out(served, stand_in, unix):
    engine = stand_in("vllm", unix=unix)
    node = served(engine.url, "vllm")
    slot = node.finished([5, 6, 7])
    assert slot.ids(0, slot.released) == [40, 41]
    assert slot.sampled == slot.released
    assert slot.finish is FinishReason.LENGTH
    assert slot.counts().checks == 0
    assert engine.asked["prompt"] == [5, 6, 7]
    assert engine.asked["model"] == "m"


def test_every_parameter_is_said_also_where_it_changes_nothing(served, stand_in):
    engine = stand_in("vllm")
    served(engine.url, "vllm").finished(
        [5], seed=2**63 + 5, logit_bias=((7, 1.5),), eos_ids=(2, 3), frequency_penalty=0.5
    )
    asked = engine.asked
    assert asked.pop("cache_salt")
    assert asked == {
        "model": "m", "prompt": [5], "stream": True, "max_tokens": 5, "temperature": 0.0,
        "top_p": 1.0, "seed": 5, "top_k": -1, "min_p": 0.0, "frequency_penalty": 0.5,
        "presence_penalty": 0.0, "repetition_penalty": 1.0, "logit_bias": {"7": 1.5},
        "min_tokens": 0, "ignore_eos": False, "stop_token_ids": [2, 3],
        "return_token_ids": True, "skip_special_tokens": False,
    }  # fmt: skip


def test_no_two_sequences_share_a_cache_salt_and_all_have_one_form(served, stand_in):
    engine = stand_in("vllm")
    node = served(engine.url, "vllm")
    for _ in range(3):
        node.finished([5, 6])
    salts = [body["cache_salt"] for body in engine.bodies]
    assert len(set(salts)) == len(salts)
    assert {len(base64.urlsafe_b64decode(salt)) for salt in salts} == {32}


def test_log_probabilities_are_mapped(served, stand_in):
    engine = stand_in("vllm")
    slot = served(engine.url, "vllm").finished([5], logprobs=2)
    assert engine.asked["logprobs"] == 2
    for index, token in enumerate((40, 41)):
        got = slot.logprobs(index)
        assert got.chosen == -0.5
        assert got.top == ((token, -0.5), (9, -2.0))


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize(("word", "reason"), [("stop", "STOP"), ("length", "LENGTH")])
def test_how_it_ended(served, stand_in, word, reason, done):
    engine = stand_in("vllm")
    engine.finish, engine.done = word, done
    assert served(engine.url, "vllm").finished([5]).finish is FinishReason[reason]


def test_a_sequence_never_outgrows_its_slot(served, stand_in):
    engine = stand_in("vllm")
    engine.answer = [(" x", list(range(40, 140)))]
    slot = served(engine.url, "vllm").finished([5] * 290, max_new_tokens=200)
    assert (slot.sampled, slot.finish) == (10, FinishReason.LENGTH)


def test_nothing_wanted_is_nothing_asked(served, stand_in):
    engine = stand_in("vllm")
    node = served(engine.url, "vllm")
    before = len(engine.bodies)
    assert node.finished([5], max_new_tokens=0).finish is FinishReason.LENGTH
    assert len(engine.bodies) == before


@pytest.mark.parametrize("how", ["cancel", "done", "hang up"])
def test_who_goes_hangs_up_on_the_other_engine(served, stand_in, until, how):
    engine = stand_in("vllm")
    node = served(engine.url, "vllm")
    engine.answer, engine.pause = BIG, 0.02
    connection, slot = node.submit([5, 6], max_new_tokens=200)
    until(connection, lambda: slot.sampled > 2)
    witness = Slot.attach(os.dup(slot.fd), connection.geometry)
    if how == "hang up":
        node.connections.remove(connection)
        connection.close()
    else:
        getattr(slot, how)()
        connection.wake(0)
    end = time.monotonic() + 10
    while witness.state is not EngineState.ERASED:
        assert time.monotonic() < end
        time.sleep(0.005)
    assert witness.finish is (FinishReason.STOP if how == "done" else FinishReason.ABORTED)
    assert witness.sampled < 100
    assert not any(bytes(witness._views.bytes)[8192:])
    assert engine.hung_up.wait(10)
    witness.close()


def test_cancelled_before_it_began(served, stand_in, until):
    node = served(stand_in("vllm").url, "vllm")
    connection = node.connect()
    (slot,) = connection.open_slots(1)
    slot.cancel()
    connection.wake(0)
    until(connection, lambda: slot.state is EngineState.ERASED)
    assert slot.finish is FinishReason.ABORTED


def test_a_finished_slot_is_erased_when_it_was_read(served, stand_in, until):
    node = served(stand_in("vllm").url, "vllm")
    connection, slot = node.submit([5, 6])
    until(connection, lambda: slot.state is EngineState.FINISHED)
    slot.done()
    connection.wake(0)
    until(connection, lambda: slot.state is EngineState.ERASED)
    assert slot.finish is FinishReason.LENGTH
    assert not any(bytes(slot._views.bytes)[8192:])


def test_many_at_once(served, stand_in, until):
    engine = stand_in("vllm")
    engine.pause = 0.02
    node = served(engine.url, "vllm")
    running = [node.submit([number + 3]) for number in range(12)]
    for connection, slot in running:
        until(connection, lambda slot=slot: slot.state is EngineState.FINISHED)
        assert slot.ids(0, 2) == [40, 41]


@pytest.mark.parametrize("kind", ["vllm", "sglang", "openai"])
@pytest.mark.parametrize("wish", [{"constrained": True}, {"prompt_logprobs": 0}])
def test_grammars_and_scores_of_prompts_are_refused(served, stand_in, kind, wish):
    slot = served(stand_in(kind).url, kind).finished([5, 6], **wish)
    assert (slot.state, slot.error) == (EngineState.FAILED, ErrorCode.UNSUPPORTED)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"status": 400}, ErrorCode.UNSUPPORTED),
        ({"status": 500}, ErrorCode.STEP_FAILED),
        ({"status": 429}, ErrorCode.STEP_FAILED),
        ({"finish": None}, ErrorCode.STEP_FAILED),
        ({"finish": "abort"}, ErrorCode.STEP_FAILED),
        ({"answer": [("x", [10**6])]}, ErrorCode.STEP_FAILED),
        ({"answer": [("x", [-1])]}, ErrorCode.STEP_FAILED),
        ({"answer": [("x", "no")]}, ErrorCode.STEP_FAILED),
        ({"answer": [("x" * (2 << 20), [4])]}, ErrorCode.STEP_FAILED),
    ],
    ids=str,
)
def test_an_engine_that_misbehaves_fails_the_sequence_alone(served, stand_in, fault, code):
    engine = stand_in("vllm")
    node = served(engine.url, "vllm")
    good = (engine.answer, engine.finish)
    for name, value in fault.items():
        setattr(engine, name, value)
    slot = node.finished([5])
    assert (slot.state, slot.error) == (EngineState.FAILED, code)
    assert not any(bytes(slot._views.bytes)[8192:])
    engine.answer, engine.finish, engine.status = *good, 200
    assert node.finished([5]).state is EngineState.FINISHED


@pytest.mark.parametrize("wish", [0, 3])
def test_fewer_log_probabilities_than_asked_for_fail(served, stand_in, wish):
    engine = stand_in("vllm")
    engine.logprobs = wish > 0  # none at all, or two where three are wanted
    slot = served(engine.url, "vllm").finished([5], logprobs=wish)
    assert (slot.state, slot.error) == (EngineState.FAILED, ErrorCode.STEP_FAILED)


def test_a_prompt_id_outside_the_vocabulary(served, stand_in, until):
    node = served(stand_in("vllm").url, "vllm")
    connection = node.connect()
    (slot,) = connection.open_slots(1)
    slot._views.words[slot.geometry.prompt_offset // 4] = 10**6
    slot._views.words[6] = 1
    slot._views.words[0] = 1
    connection.wake(0)
    until(connection, lambda: slot.state is EngineState.FAILED)
    assert slot.error is ErrorCode.INVALID_REQUEST


def test_the_ready_line_claims_no_more_than_is_known(served, stand_in, tokenizer):
    engine = stand_in("vllm")
    ready = served(engine.url, "vllm").ready
    assert ready["max_model_len"] == 300
    assert ready["vocab_size"] == tokenizer.vocab_size
    policy = json.loads(ready["policy"])
    assert (policy["verification"], policy["erasure"], policy["upstream"]) == (
        "none",
        "upstream",
        "vllm",
    )
    assert ready["model_digest"] == upstream_digest(FOLDER, "vllm").hex()


def test_the_shortest_context_counts(served, stand_in):
    engine = stand_in("vllm")
    assert served(engine.url, "vllm", engine={"max_model_len": 64}).ready["max_model_len"] == 64
    engine.max_model_len = None
    assert served(engine.url, "vllm").ready["max_model_len"] == 2048


def test_its_end_erases_every_slot(served, stand_in, until):
    engine = stand_in("vllm")
    engine.answer, engine.pause = BIG, 0.02
    node = served(engine.url, "vllm")
    connection, slot = node.submit([5, 6], max_new_tokens=200)
    until(connection, lambda: slot.sampled > 2)
    node.control.close()
    with pytest.raises(EngineGone):
        until(connection, lambda: False)
    node.thread.join(10)
    assert slot.state is EngineState.ERASED
    assert engine.hung_up.wait(10)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"status": 400}, "refuses the request"),
        ({"finish": None}, "ended before"),
        ({"kind": "openai"}, "does not return the ids"),
    ],
    ids=str,
)
def test_an_engine_that_is_not_of_its_kind_is_refused_at_the_start(served, stand_in, fault, reason):
    engine = stand_in("vllm")
    for name, value in fault.items():
        setattr(engine, name, value)
    node = served(engine.url, "vllm")
    assert node.ready is None
    node.thread.join(5)
    assert isinstance(node.error, StartError)
    assert reason in str(node.error)


@pytest.mark.parametrize(
    ("url", "kind", "reason"),
    [
        ("http://127.0.0.1:1", "vllm", "did not come up"),
        ("http://192.0.2.1:80", "vllm", "127.0.0.1"),
        ("https://127.0.0.1:80", "vllm", "127.0.0.1"),
        ("http://engine.example", "vllm", "127.0.0.1"),
    ],
)
def test_engines_elsewhere_or_absent(served, url, kind, reason):
    node = served(url, kind)
    assert node.ready is None
    node.thread.join(10)
    assert isinstance(node.error, StartError)
    assert reason in str(node.error)


def test_a_kind_is_known_or_refused():
    assert set(UPSTREAM_KINDS) == set(DIALECTS)
    with pytest.raises(ValueError, match="vllm, sglang, openai"):
        Upstream("http://127.0.0.1:1", "llama", "m")
