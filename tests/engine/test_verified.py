"""A verified engine: what passes, what does not, and what is said about either."""

import dataclasses
import hashlib
import struct
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import transformers

from engine.build import build
from engine.config import EngineConfig
from engine.errors import EngineError
from engine.loader import load
from engine.native import library
from engine.offload.device_memory import DeviceMemory
from engine.offload.offload import Offload
from engine.slot import Slot
from engine.speculative import Costs
from engine.transfer.store import SealedStore
from engine.types import EngineState, ErrorCode, FinishReason, SamplingParams

try:
    library.load()
except library.NativeUnavailable as unavailable:
    pytest.skip(f"compiled kernels: {unavailable}", allow_module_level=True)

VOCAB = 331


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(7)
    config = transformers.Qwen2Config(
        hidden_size=192, num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=2,
        intermediate_size=320, vocab_size=VOCAB, max_position_embeddings=512,
        initializer_range=0.08, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("verified")
    model = transformers.AutoModelForCausalLM.from_config(config)
    model.to(torch.bfloat16).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def loaded(folder):
    return load(EngineConfig(model=folder))


@pytest.fixture(autouse=True)
def flat_costs(monkeypatch):
    monkeypatch.setattr("engine.build.measure", lambda *_, **__: Costs([1, 32], [1.0, 1.0]))


class Local:
    """An engine whose capsule is the test."""

    def __init__(self, folder, loaded, **config):
        fields = {"verification": "audit", "block_size": 32, "kv_blocks": 32, "max_sequences": 4}
        config = EngineConfig(model=folder, **{**fields, **config})
        self.engine, self.geometry = build(config, loaded, lambda _: None)
        self.slots = []

    def submit(self, prompt, *, group=None, **fields):
        slot, key = Slot.create(self.geometry), len(self.slots)
        self.slots.append(slot)
        self.engine.register(key, slot)
        params = SamplingParams(**{"max_new_tokens": 8, "ignore_eos": True, **fields})
        slot.submit(prompt, params, group=key if group is None else group, index_in_group=key)
        self.engine.look(key, "scope")
        return slot

    def run(self):
        while self.engine.busy and self.engine.step():
            pass

    def generate(self, prompt, **fields):
        slot = self.submit(prompt, **fields)
        self.run()
        assert slot.state is EngineState.FINISHED, slot.error
        return slot.ids(0, slot.sampled)

    def lie(self, lie, after=0):
        """Put a lie on what the device says from its step number `after` on."""
        device = self.engine._device
        honest, steps = device.step, iter(range(10**6))

        def step(batch):
            output = honest(batch)
            return lie(output) or output if next(steps) >= after else output

        device.step = step


@pytest.fixture(params=["in turn", "beside"])
def local(request, folder, loaded):
    """An engine whose steps are settled at once, or while the next one is computed."""

    def make(**config):
        made = Local(folder, loaded, **config)
        if request.param == "beside" and made.engine._gate is not None:
            made.engine._gate._beside = ThreadPoolExecutor(1)
        return made

    return make


def prompt(length, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, VOCAB, (length,), generator=generator).tolist()


SAMPLED = {"temperature": 1.0, "seed": 11, "max_new_tokens": 12}


@pytest.mark.parametrize("mode", ["audit", "full"])
def test_ids_are_those_of_an_unverified_engine(local, mode):
    def ids(verification):
        engine = local(verification=verification)
        slots = [engine.submit(prompt(20 + 40 * i, i), **SAMPLED) for i in range(3)]
        engine.run()
        assert [slot.released for slot in slots] == [12] * 3
        return [slot.ids(0, 12) for slot in slots]

    assert ids(mode) == ids("none")


def test_every_way_through_the_scheduler_is_verified(local):
    engine = local(max_batch_tokens=33, kv_blocks=8, max_sequences=4)
    group = [engine.submit(prompt(50), group=99, **SAMPLED) for _ in range(2)]
    scored = engine.submit(prompt(40, 2), prompt_logprobs=1, logprobs=2, **SAMPLED)
    crowded = [engine.submit(prompt(60, i), max_new_tokens=40) for i in range(3, 6)]
    engine.run()  # chunks, a shared prompt, preemption
    for slot in (*group, scored, *crowded):
        assert slot.state is EngineState.FINISHED, slot.error
        assert slot.counts().checks > 0


def test_what_was_verified_is_verified_on_when_it_comes_back_from_outside(local):
    def submitted(engine):
        slots = [engine.submit(prompt(60, i), max_new_tokens=40, temperature=0.0) for i in range(4)]
        engine.run()
        return slots

    tight = local(kv_blocks=8, max_sequences=4)
    device = DeviceMemory(tight.engine._device._pool, kind="sealed", secret=bytes(32))
    offload = Offload(device, SealedStore(1 << 24), kind="sealed", secret=bytes(32))
    tight.engine._scheduler._outside = offload
    slots = submitted(tight)
    assert offload.counts.returned > 0
    for slot, other in zip(slots, submitted(local(max_sequences=4)), strict=True):
        assert slot.state is EngineState.FINISHED, slot.error
        assert slot.released == other.released == 40
        assert slot.counts().checks > 0
    offload.close()


def test_a_late_member_of_a_group_computes_its_own_prompt(local):
    engine = local(max_sequences=2)
    first = engine.submit(prompt(50), group=7, **{**SAMPLED, "max_new_tokens": 100})
    engine.submit(prompt(20), max_new_tokens=90)
    late = engine.submit(prompt(50), group=7, **SAMPLED)  # until the second has ended
    engine.run()
    assert (first.released, late.released) == (100, 12)
    assert late.ids(0, 12) == first.ids(0, 12)


def test_speculation_is_verified_and_changes_nothing(local):
    text = prompt(12) * 5
    plain = local(verification="none").generate(text, temperature=0.0, max_new_tokens=30)
    engine = local(speculation="ngram")
    assert engine.generate(text, temperature=0.0, max_new_tokens=30) == plain
    counts = engine.slots[0].counts()
    assert counts.checks > 0


def test_the_chain_of_decisions_is_as_documented(local, loaded):
    engine = local()
    slot = engine.submit(prompt(20), max_new_tokens=5)
    chain = hashlib.sha256(b"sottovoce decisions v1" + loaded.digest + b"audit").digest()
    released = before = decoded_checks = 0
    while engine.engine.busy and engine.engine.step():
        counts = slot.counts()
        for i in range(released, slot.released):
            # Where steps wait, the last brings two: the one before has a step's checks less.
            checks = counts.checks - (slot.released - 1 - i) * decoded_checks
            link = struct.pack("<IIQB", 20 + i, slot.ids(i, i + 1)[0], checks, 1)
            chain = hashlib.sha256(chain + link).digest()
        if released and slot.released == released + 1:
            decoded_checks = counts.checks - before
        assert counts.decisions == chain
        released, before = slot.released, counts.checks
    assert released == 5


def nudge(output):
    output.logits[0, 5] += 3.0


def nothing_told(output):
    return dataclasses.replace(output, transcript=None)


def test_a_lie_ends_the_request_and_nothing_of_it_is_released(local):
    engine = local()
    honest = engine.submit(prompt(20, 1), max_new_tokens=4)
    engine.engine.step()
    engine.lie(nudge, after=2)
    slot = engine.submit(prompt(30), max_new_tokens=20)
    engine.run()
    assert (slot.state, slot.finish) == (EngineState.FAILED, FinishReason.FAILED)
    assert slot.error is ErrorCode.VERIFICATION_FAILED
    assert slot.released < 4
    assert slot.sampled - slot.released <= 2  # provisional: in the engine, and nobody's answer
    assert honest.state in {EngineState.FINISHED, EngineState.FAILED}
    assert not any(bool(part.any()) for part in engine.engine._device._pool.keys)


def test_ids_wait_for_one_step_where_checking_has_a_thread(local, request):
    engine = local()
    slot = engine.submit(prompt(30), max_new_tokens=9)
    waiting = []
    while engine.engine.busy and engine.engine.step():
        waiting.append(slot.sampled - slot.released)
    beside = "beside" in request.node.name
    assert waiting == [0, *[int(beside)] * 7, 0]  # a prompt, and what ends, are settled at once


def test_what_waits_is_settled_before_its_sequence_is_cancelled(local):
    engine = local()
    slots = [engine.submit(prompt(20, i), max_new_tokens=9) for i in range(2)]
    for _ in range(3):
        engine.engine.step()
    slots[0].cancel()
    engine.engine.look(0, "scope")
    assert slots[0].state is EngineState.ERASED
    assert slots[1].released == slots[1].sampled == 3
    engine.run()
    assert slots[1].released == 9
    assert not engine.engine._gate._accounts


def test_a_check_that_breaks_ends_its_step_and_the_one_after(local):
    engine = local()
    slots = [engine.submit(prompt(20, i), max_new_tokens=9) for i in range(2)]
    for _ in range(3):
        engine.engine.step()

    def broken(*_):
        raise MemoryError

    engine.engine._gate._verifier.check = broken
    engine.run()
    assert {slot.error for slot in slots} == {ErrorCode.STEP_FAILED}
    assert not engine.engine._gate.holding


def test_a_suspect_device_is_given_nothing_new(local):
    engine = local()
    engine.lie(nudge)
    engine.submit(prompt(30))
    engine.run()
    assert engine.engine.suspect
    later = engine.submit(prompt(5))
    assert (later.state, later.error) == (EngineState.FAILED, ErrorCode.VERIFICATION_FAILED)
    assert not engine.engine.busy


def test_the_others_of_a_step_go_on(local):
    engine = local()
    slots = [engine.submit(prompt(20, i), max_new_tokens=6) for i in range(3)]
    engine.engine.step()
    once = iter([True])
    engine.lie(lambda output: output.logits[1, 7].add_(4.0) and None if next(once, False) else None)
    engine.engine.step()
    engine.engine.step()  # where steps wait, the lie is found while this one is computed
    states = [slot.state for slot in slots]
    assert sorted(states) == [EngineState.RUNNING, EngineState.RUNNING, EngineState.FAILED]


def test_a_lie_about_a_prompts_last_row_is_caught(local):
    engine = local()

    def lie(output):
        output.transcript.values[1, -1] *= 1.5

    engine.lie(lie)
    slot = engine.submit(prompt(90))
    engine.run()
    assert slot.error is ErrorCode.VERIFICATION_FAILED


def test_a_device_that_tells_nothing_computes_nothing(local):
    engine = local()
    engine.lie(nothing_told)
    slot = engine.submit(prompt(20))
    engine.run()
    assert (slot.state, slot.error) == (EngineState.FAILED, ErrorCode.VERIFICATION_FAILED)
    assert slot.released == 0


def test_what_is_kept_of_a_sequence_is_forgotten_with_it(local):
    engine = local()
    engine.generate(prompt(40))
    gate = engine.engine._gate
    assert not gate._accounts
    assert not gate._verifier._lengths


def test_a_model_that_cannot_tell_is_refused_in_a_sentence(folder, loaded):
    computation = object()
    other = dataclasses.replace(loaded, computation=computation)
    with pytest.raises(EngineError, match="cannot be verified"):
        Local(folder, other)


@pytest.mark.parametrize(
    "fields",
    [{"verification": "sometimes"}, {"audit_rows": 0}, {"dtype": "float32"}, {"device": "cuda"}],
)
def test_contradictions_are_said_at_once(folder, loaded, fields):
    with pytest.raises(EngineError):
        Local(folder, loaded, **fields)
