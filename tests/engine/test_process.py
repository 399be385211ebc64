"""The slot protocol through a real engine process, over sockets and memfds."""

import json
import os
import socket
import time
from pathlib import Path

import pytest

from engine.config import EngineConfig
from engine.digest import model_digest
from engine.errors import EngineGone, ModelFiles
from engine.process import run
from engine.slot import Slot
from engine.types import EngineState, ErrorCode, FinishReason, SamplingParams

ROOT = Path(__file__).parents[2]


@pytest.fixture
def connection(engine):
    connection = engine.connect()
    yield connection
    connection.close()


def wait_for(connection, condition, limit=20):
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end
        connection.wait(end - time.monotonic())


def params(**fields):
    return SamplingParams(**{"max_new_tokens": 6, "temperature": 0.0, **fields})


def submit(connection, index, prompt, group=1, **fields):
    slot = connection.slots[index]
    slot.submit(prompt, params(**fields), group=group, index_in_group=index)
    connection.wake(index)
    return slot


def test_ready_line_says_what_is_served(engine, model_folder):
    ready = engine.ready
    assert ready["model_digest"] == model_digest(EngineConfig(model=model_folder("llama"))).hex()
    assert (ready["max_model_len"], ready["vocab_size"]) == (512, 199)
    assert ready["max_sequences"] == 4
    assert json.loads(ready["policy"])["verification"] == "none"


def test_a_stream_from_submit_to_erased(connection, prompt_ids):
    connection.open_slots(1)
    slot = submit(connection, 0, prompt_ids(30), logprobs=1)
    ids = []
    while slot.finish is None:
        connection.wait(20)
        ids += slot.ids(len(ids), slot.released)
    ids += slot.ids(len(ids), slot.released)
    assert slot.state is EngineState.FINISHED
    assert len(ids) == 6
    assert slot.logprobs(5).top[0][0] == ids[5]
    slot.done()
    connection.wake(0)
    wait_for(connection, lambda: slot.state is EngineState.ERASED)
    assert slot.finish is FinishReason.LENGTH
    assert not any(bytes(slot._views.bytes)[8192:])


def test_several_slots_and_a_group(connection, prompt_ids):
    slots = connection.open_slots(3)
    for index in range(3):
        submit(connection, index, prompt_ids(40), temperature=1.0, seed=index % 2)
    wait_for(connection, lambda: all(s.state is EngineState.FINISHED for s in slots))
    first, second, third = (slot.ids(0, 6) for slot in slots)
    assert first == third != second


def test_masks_steer_token_by_token(connection, prompt_ids):
    connection.open_slots(1)
    slot = connection.slots[0]
    masks = [bytes(8) + b"\x02" + bytes(16), bytes(9) + b"\x01" + bytes(15)]
    slot.set_mask(1, masks[0])
    submit(connection, 0, prompt_ids(12), constrained=True, max_new_tokens=2)
    wait_for(connection, lambda: slot.sampled == 1)
    slot.set_mask(2, masks[1])
    connection.wake(0)
    wait_for(connection, lambda: slot.state is EngineState.FINISHED)
    assert slot.ids(0, 2) == [65, 72]


def test_cancel_while_it_runs(connection, prompt_ids):
    connection.open_slots(1)
    slot = submit(connection, 0, prompt_ids(10), max_new_tokens=490)
    wait_for(connection, lambda: slot.sampled > 2)
    slot.cancel()
    connection.wake(0)
    wait_for(connection, lambda: slot.state is EngineState.ERASED)
    assert slot.finish is FinishReason.ABORTED
    assert slot.sampled < 490
    assert not any(bytes(slot._views.bytes)[8192:])


def test_done_at_a_stop_string(connection, prompt_ids):
    connection.open_slots(1)
    slot = submit(connection, 0, prompt_ids(10), max_new_tokens=490)
    wait_for(connection, lambda: slot.released > 3)
    slot.done(3)
    connection.wake(0)
    wait_for(connection, lambda: slot.state is EngineState.ERASED)
    assert slot.finish is FinishReason.STOP


def test_a_capsule_that_dies_leaves_an_erased_slot(engine, prompt_ids):
    connection = engine.connect()
    connection.open_slots(2)
    slot = submit(connection, 0, prompt_ids(10), max_new_tokens=490)
    witness = Slot.attach(os.dup(slot.fd), engine.geometry)
    wait_for(connection, lambda: slot.sampled > 2)
    connection.close()
    end = time.monotonic() + 20
    while witness.state is not EngineState.ERASED:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert not any(bytes(witness._views.bytes)[8192:])
    witness.close()


def test_an_invalid_request_fails_in_its_slot(connection, prompt_ids):
    connection.open_slots(1)
    slot = connection.slots[0]
    slot.submit(prompt_ids(4), params(), group=1, index_in_group=0)
    slot._views.words[6] = 10**6  # a prompt longer than the slot
    connection.wake(0)
    wait_for(connection, lambda: slot.state is EngineState.FAILED)
    assert slot.error is ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize("offence", ["no descriptor", "twice", "not a slot", "number"])
def test_who_breaks_the_protocol_is_dropped_alone(engine, offence):
    bystander = engine.connect()
    bystander.open_slots(1)
    sock = engine.raw_socket()
    slot = Slot.create(engine.geometry)
    if offence == "no descriptor":
        sock.send(b"\x00")
    elif offence == "twice":
        socket.send_fds(sock, [b"\x00"], [slot.fd])
        socket.send_fds(sock, [b"\x00"], [slot.fd])
    elif offence == "not a slot":
        with Path("/dev/null").open("rb") as file:
            socket.send_fds(sock, [b"\x00"], [file.fileno()])
    else:
        socket.send_fds(sock, [b"\xff"], [slot.fd])
    sock.settimeout(20)
    while sock.recv(1):
        pass
    sock.close()
    slot.close()
    submit(bystander, 0, [5, 6], max_new_tokens=1)
    wait_for(bystander, lambda: bystander.slots[0].state is EngineState.FINISHED)
    bystander.close()


def test_many_capsules_at_once(engine, prompt_ids):
    connections = [engine.connect() for _ in range(12)]
    for number, connection in enumerate(connections):
        connection.open_slots(1)
        submit(connection, 0, prompt_ids(5 + number), max_new_tokens=12)
    for connection in connections:
        slot = connection.slots[0]
        wait_for(connection, lambda slot=slot: slot.state is EngineState.FINISHED)
        assert slot.sampled == 12
        connection.close()


def test_an_idle_engine_sleeps(engine):
    def cpu():
        fields = Path(f"/proc/{engine.process.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    time.sleep(0.05)
    before = cpu()
    time.sleep(0.3)
    assert cpu() - before <= 1  # ticks of 10 ms


def test_the_end_of_the_control_socket_ends_everything(engine_process, model_folder, prompt_ids):
    process = engine_process(model_folder("llama"))
    connection = process.connect()
    connection.open_slots(1)
    slot = submit(connection, 0, prompt_ids(10), max_new_tokens=490)
    wait_for(connection, lambda: slot.sampled > 2)
    assert process.stop() == (0, b"")
    assert slot.state is EngineState.ERASED
    with pytest.raises(EngineGone):
        wait_for(connection, lambda: False)
    connection.close()


def test_a_refused_model_never_gets_ready(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    read, write = os.pipe()
    with pytest.raises(ModelFiles), theirs:
        run(theirs.detach(), EngineConfig(model=tmp_path), write)
    control.close()
    os.close(write)
    assert os.read(read, 1) == b""
    os.close(read)
