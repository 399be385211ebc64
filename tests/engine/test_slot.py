import fcntl
import math
import os
import socket

import pytest

from engine.connection import MAX_SLOTS, EngineConnection
from engine.errors import EngineError, EngineGone, InvalidRequest
from engine.slot import Command, Slot, SlotGeometry
from engine.types import (
    EngineState,
    ErrorCode,
    FinishReason,
    SamplingParams,
    VerificationCounts,
)

GEOMETRY = SlotGeometry(max_model_len=32, vocab_size=100, max_logprobs=3)
FULL = SamplingParams(
    max_new_tokens=7,
    temperature=0.3,
    top_p=0.9,
    top_k=5,
    min_p=0.05,
    seed=2**63 + 17,
    frequency_penalty=-1.5,
    presence_penalty=0.25,
    repetition_penalty=1.1,
    logit_bias=((3, -100.0), (99, 1.5)),
    logprobs=2,
    prompt_logprobs=0,
    eos_ids=(1, 2),
    ignore_eos=True,
    min_tokens=2,
    constrained=True,
)


@pytest.fixture
def pair():
    ours = Slot.create(GEOMETRY)
    theirs = Slot.attach(os.dup(ours.fd), GEOMETRY)
    yield ours, theirs
    ours.close()
    theirs.close()


def contents(slot):
    return bytes(slot._views.bytes)


def test_a_request_arrives_as_it_was_written(pair):
    capsule, engine = pair
    assert engine.state is EngineState.EMPTY
    capsule.submit([5, 6, 99], FULL, group=2**40, index_in_group=3)
    assert capsule.state is EngineState.SUBMITTED
    assert engine.command is Command.SUBMIT
    request = engine.request()
    assert request.params == FULL
    assert (request.prompt_length, request.group, request.index_in_group) == (3, 2**40, 3)
    assert engine.prompt_buffer().cast("I").tolist() == [5, 6, 99]


def test_default_parameters_arrive_too(pair):
    capsule, engine = pair
    params = SamplingParams(max_new_tokens=0)
    capsule.submit([1], params, group=0, index_in_group=0)
    assert engine.request().params == params


def test_ids_and_logprobs_are_read_up_to_sampled_only(pair):
    capsule, engine = pair
    capsule.submit([5, 6], FULL, group=0, index_in_group=0)
    engine.request()
    ids = engine.output_buffer().cast("I")
    rows_f = engine.rows_buffer().cast("f")
    rows_i = engine.rows_buffer().cast("I")
    ids[0] = 42
    width = GEOMETRY.row_words
    at = 2 * width  # output 0 follows two prompt ids
    rows_f[at], rows_i[at + 1], rows_i[at + 2] = -0.5, 42, 7
    rows_f[at + 4], rows_f[at + 5] = -0.5, -1.25
    with pytest.raises(EngineError):
        capsule.ids(0, 1)
    engine.publish_sampled(1)
    assert capsule.ids(0, 1) == [42]
    assert capsule.logprobs(0).chosen == -0.5
    assert capsule.logprobs(0).top == ((42, -0.5), (7, -1.25))
    rows_f[width] = -2.0
    assert capsule.prompt_logprobs(1).chosen == -2.0
    assert capsule.prompt_logprobs(1).top == ()
    for missing in (lambda: capsule.logprobs(1), lambda: capsule.prompt_logprobs(0)):
        with pytest.raises(EngineError):
            missing()


def test_release_never_shows_without_its_counts(pair):
    capsule, engine = pair
    counts = VerificationCounts(checks=9, decisions=bytes(range(32)), sent=1, hits=2, misses=3)
    engine.publish_sampled(4)
    engine.publish_released(2, counts)
    assert (capsule.sampled, capsule.released) == (4, 2)
    assert capsule.counts() == counts


def test_a_mask_is_for_the_next_id_only(pair):
    capsule, engine = pair
    with pytest.raises(EngineError, match="next id"):
        capsule.set_mask(2, bytes(13))
    capsule.set_mask(1, bytes([0xFF] * 13))
    assert engine.mask_for == 1
    assert bytes(engine.mask_buffer()) == bytes([0xFF] * 13) + bytes(3)
    for length in (12, 17):
        with pytest.raises(InvalidRequest):
            capsule.set_mask(1, bytes(length))


def test_erase_leaves_the_outcome_and_nothing_else(pair):
    capsule, engine = pair
    capsule.submit([5, 6], FULL, group=77, index_in_group=0)
    engine.request()
    engine.output_buffer().cast("I")[0] = 42
    engine.rows_buffer()[:] = bytes([7]) * (4 * GEOMETRY.row_words * 4) + bytes(
        len(engine.rows_buffer()) - 4 * GEOMETRY.row_words * 4
    )
    capsule.set_mask(1, bytes([0xAA] * 13))
    engine.publish_sampled(1)
    capsule.done(1)
    assert engine.command is Command.DONE
    engine.erase()
    engine.set_state(EngineState.ERASED, finish=FinishReason.STOP)
    assert capsule.state is EngineState.ERASED
    assert capsule.finish is FinishReason.STOP
    assert capsule.sampled == 1
    everything = contents(capsule)
    assert not any(everything[:4096])
    assert not any(everything[8192:])
    with pytest.raises(EngineError):
        capsule.ids(0, 1)
    with pytest.raises(EngineError, match="once"):
        capsule.submit([1], FULL, group=0, index_in_group=0)


def test_failure_carries_its_class(pair):
    capsule, engine = pair
    engine.set_state(EngineState.FAILED, finish=FinishReason.FAILED, error=ErrorCode.STEP_FAILED)
    assert capsule.error is ErrorCode.STEP_FAILED
    assert capsule.state is EngineState.FAILED


def test_the_engine_does_not_believe_a_slot(pair):
    capsule, engine = pair
    capsule.submit([5], FULL, group=0, index_in_group=0)
    clean = contents(capsule)[:4096]
    for word, value in ((6, 33), (6, 0), (7, 33), (8, 1025), (13, 50), (28, 0)):
        capsule._views.bytes[:4096] = clean
        capsule._views.words[word] = value
        if word == 28:
            capsule._views.doubles[9] = math.nan
        with pytest.raises(InvalidRequest):
            engine.request()
    capsule._views.words[0] = 99
    assert engine.command is Command.CANCEL


def test_out_of_range_requests_are_refused_at_once(pair):
    capsule, _ = pair
    wrong = SamplingParams(max_new_tokens=1, eos_ids=(100,))
    much = SamplingParams(max_new_tokens=1, logprobs=4)
    fine = SamplingParams(max_new_tokens=1)
    for ids, params in (([], fine), ([0] * 33, fine), ([100], fine), ([1], wrong), ([1], much)):
        with pytest.raises(InvalidRequest):
            capsule.submit(ids, params, group=0, index_in_group=0)
    assert capsule.state is EngineState.EMPTY


@pytest.mark.parametrize(
    "field",
    [
        {"temperature": -0.1},
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"top_p": 1.1},
        {"min_p": -1.0},
        {"top_k": -1},
        {"seed": 2**64},
        {"frequency_penalty": 2.5},
        {"presence_penalty": -2.5},
        {"repetition_penalty": 0.0},
        {"logit_bias": ((1, 101.0),)},
        {"logit_bias": ((1, 0.0),) * 1025},
        {"eos_ids": tuple(range(33))},
        {"logprobs": -2},
        {"max_new_tokens": -1},
    ],
)
def test_parameters_out_of_range_cannot_exist(field):
    with pytest.raises(InvalidRequest):
        SamplingParams(**{"max_new_tokens": 1, **field})


def test_only_a_sealed_memfd_of_the_agreed_size_is_mapped(tmp_path):
    unsealed = os.memfd_create("x", os.MFD_ALLOW_SEALING)
    os.ftruncate(unsealed, GEOMETRY.size)
    small = Slot.create(SlotGeometry(4096, 100))
    file = os.open(tmp_path / "f", os.O_RDWR | os.O_CREAT)
    os.ftruncate(file, GEOMETRY.size)
    for fd in (unsealed, os.dup(small.fd), file):
        with pytest.raises(InvalidRequest):
            Slot.attach(fd, GEOMETRY)
        with pytest.raises(OSError):  # noqa: PT011 - closed is what we ask
            os.fstat(fd)
    small.close()


def test_a_slot_cannot_be_shrunk_under_the_other_side():
    slot = Slot.create(GEOMETRY)
    with pytest.raises(PermissionError):
        os.ftruncate(slot.fd, 0)
    assert fcntl.fcntl(slot.fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK
    slot.close()


def test_connection_hands_over_slots_and_passes_wake_ups():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection = EngineConnection(ours, GEOMETRY)
    slots = connection.open_slots(2)
    for number in (0, 1):
        data, fds, _, _ = socket.recv_fds(theirs, 1, 1)
        assert data == bytes((number,))
        mapped = Slot.attach(fds[0], GEOMETRY)
        mapped.publish_sampled(number + 5)
        mapped.close()
    assert [slot.sampled for slot in slots] == [5, 6]
    connection.wake(1)
    assert theirs.recv(1) == b"\x01"
    assert connection.wait(0) == set()
    for _ in range(3):
        theirs.send(b"\x01")
    theirs.send(b"\x00")
    assert connection.wait(5) == {0, 1}
    with pytest.raises(EngineError, match="at most"):
        connection.open_slots(MAX_SLOTS)
    theirs.close()
    with pytest.raises(EngineGone):
        connection.wait(5)
    with pytest.raises(EngineGone):
        connection.wake(0)
    connection.close()
