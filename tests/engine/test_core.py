"""An engine whose capsules are in this process: what they read, and what is left behind."""

import pytest
import torch

from engine.types import EngineState, ErrorCode, FinishReason, SamplingParams

GREEDY = {"temperature": 0.0}


def reference_ids(lab, prompt, count, name="llama"):
    """Greedy continuation by the stock model, recomputed whole for each id."""
    ids = list(prompt)
    for _ in range(count):
        ids.append(lab.stock(name, ids)[-1].argmax().item())
    return ids[len(prompt) :]


def test_greedy_ids_are_those_of_the_stock_model(lab, local_engine):
    local = local_engine()
    prompt = lab.prompt(40)
    assert local.generate(prompt, max_new_tokens=12) == reference_ids(lab, prompt, 12)


@pytest.mark.parametrize("name", ["gemma2", "mixtral", "gpt_oss"])
def test_other_families_generate_too(lab, local_engine, name):
    local = local_engine(name)
    prompt = lab.prompt(30)
    assert local.generate(prompt, max_new_tokens=5) == reference_ids(lab, prompt, 5, name)


def test_states_and_outcome_of_a_whole_life(lab, local_engine):
    local = local_engine()
    slot = local.submit(lab.prompt(5), max_new_tokens=3)
    assert slot.state is EngineState.QUEUED
    local.engine.step()
    assert (slot.state, slot.sampled, slot.released) == (EngineState.RUNNING, 1, 1)
    local.run()
    assert (slot.state, slot.finish) == (EngineState.FINISHED, FinishReason.LENGTH)
    assert slot.sampled == slot.released == 3
    assert len(slot.ids(0, 3)) == 3
    local.assert_clean()  # KV and tables are erased at the end already, the slot is not
    local.done(slot)
    assert (slot.state, slot.finish) == (EngineState.ERASED, FinishReason.LENGTH)
    assert slot.sampled == 3
    assert not any(bytes(slot._views.bytes)[8192:])
    assert slot.counts().checks == 0
    assert slot.counts().decisions == bytes(32)


def test_chunked_prefill_equals_whole_prefill(lab, local_engine):
    prompt = lab.prompt(200)
    whole = local_engine(max_batch_tokens=512)
    chunked = local_engine(max_batch_tokens=37)
    steps = [engine.generate(prompt, max_new_tokens=10) for engine in (whole, chunked)]
    assert steps[0] == steps[1]
    assert chunked.submit(prompt, max_new_tokens=1)
    assert chunked.run() == -(-200 // 37)


def test_alone_or_in_a_batch_the_ids_are_the_same(lab, local_engine):
    prompts = [lab.prompt(10 + 23 * i, i) for i in range(7)]
    params = [
        {"temperature": 0.9, "seed": 10 + i, "top_p": 0.95 if i % 2 else 1.0, "max_new_tokens": 9}
        for i in range(7)
    ]
    alone = [
        local_engine().generate(prompt, **each)
        for prompt, each in zip(prompts, params, strict=True)
    ]
    local = local_engine(max_batch_tokens=64, max_mixed_tokens=20)
    slots = []
    for prompt, each in zip(prompts, params, strict=True):
        slots.append(local.submit(prompt, **each))
        local.engine.step()  # they arrive while others run
    local.run()
    assert [slot.ids(0, 9) for slot in slots] == alone
    assert len({tuple(ids) for ids in alone}) == 7
    local.assert_clean()


def test_the_same_seed_repeats_and_another_differs(lab, local_engine):
    local = local_engine()
    prompt = lab.prompt(6)
    one, two, three = (
        local.generate(prompt, temperature=2.0, seed=seed, max_new_tokens=20) for seed in (5, 5, 6)
    )
    assert one == two != three


def test_a_stream_is_served_while_a_long_prompt_arrives(lab, local_engine):
    local = local_engine(max_mixed_tokens=16)
    stream = local.submit(lab.prompt(4), max_new_tokens=50)
    local.engine.step()
    long = local.submit(lab.prompt(160, 1), max_new_tokens=2)
    before = stream.sampled
    for _ in range(9):
        local.engine.step()
    assert stream.sampled == before + 9
    assert long.sampled == 0
    local.engine.step()
    assert long.sampled == 1


def test_small_steps_stay_small_while_others_decode(lab, local_engine):
    """`max_mixed_tokens` may be left at its default: the smaller of the two bounds a step."""
    local = local_engine(max_batch_tokens=30)
    slots = [local.submit(lab.prompt(20 + 30 * i, i), max_new_tokens=4) for i in range(3)]
    local.run()
    assert [slot.finish for slot in slots] == [FinishReason.LENGTH] * 3


def test_preemption_gives_the_same_ids(lab, local_engine):
    prompts = [lab.prompt(30, i) for i in range(4)]
    fields = {"max_new_tokens": 60, "temperature": 1.0, "seed": 3}
    roomy = local_engine()
    expected = [roomy.generate(prompt, **fields) for prompt in prompts]
    tight = local_engine(kv_blocks=12)  # two sequences of 90 need all of it
    preempted = []
    original = tight.engine._scheduler._preempt
    tight.engine._scheduler._preempt = lambda each: (preempted.append(each), original(each))
    slots = [tight.submit(prompt, **fields) for prompt in prompts]
    tight.run()
    assert preempted
    assert [slot.ids(0, 60) for slot in slots] == expected
    tight.assert_clean()


def test_first_come_is_first_served(lab, local_engine):
    local = local_engine(max_sequences=1)
    slots = [local.submit(lab.prompt(5, i), max_new_tokens=3) for i in range(3)]
    finished = []
    while local.engine.busy:
        local.engine.step()
        finished += [s for s in slots if s.state is EngineState.FINISHED and s not in finished]
    assert finished == slots


@pytest.mark.parametrize("steps", [0, 1, 2, 6])
def test_cancel_erases_at_once_wherever_it_strikes(lab, local_engine, steps):
    """Queued, in the middle of its prompt, or while it is being decoded."""
    local = local_engine(max_batch_tokens=30)
    slot = local.submit(lab.prompt(70), max_new_tokens=50)
    for _ in range(steps):
        local.engine.step()
    local.cancel(slot)
    assert (slot.state, slot.finish) == (EngineState.ERASED, FinishReason.ABORTED)
    assert not any(bytes(slot._views.bytes)[:4096])
    assert not any(bytes(slot._views.bytes)[8192:])
    assert not local.engine.busy
    local.assert_clean()


def test_cancel_leaves_the_others_alone(lab, local_engine):
    prompts = [lab.prompt(20, i) for i in range(3)]
    alone = [local_engine().generate(prompt, max_new_tokens=10) for prompt in prompts]
    local = local_engine()
    slots = [local.submit(prompt, max_new_tokens=10) for prompt in prompts]
    for _ in range(4):
        local.engine.step()
    local.cancel(slots[1])
    local.run()
    assert [slots[0].ids(0, 10), slots[2].ids(0, 10)] == [alone[0], alone[2]]
    local.assert_clean()


def test_done_ends_a_running_sequence_as_a_stop(lab, local_engine):
    local = local_engine()
    slot = local.submit(lab.prompt(5), max_new_tokens=50)
    for _ in range(3):
        local.engine.step()
    local.done(slot)
    assert (slot.state, slot.finish) == (EngineState.ERASED, FinishReason.STOP)
    local.assert_clean()


def test_a_capsule_that_goes_takes_everything_along(lab, local_engine):
    local = local_engine()
    local.submit(lab.prompt(50), max_new_tokens=50)
    local.engine.step()
    assert any(bool(tensor.any()) for tensor in local.pool.keys)
    local.engine.drop(0)
    assert not local.engine.busy
    local.assert_clean()


def test_eos_ends_and_can_be_ignored_or_postponed(lab, local_engine):
    local = local_engine()
    prompt = lab.prompt(20)
    free = local.generate(prompt, max_new_tokens=8)
    eos = free[3]
    slot = local.submit(prompt, max_new_tokens=8, eos_ids=(0, eos))
    local.run()
    first = free.index(eos)
    assert slot.finish is FinishReason.STOP
    assert slot.ids(0, slot.sampled) == free[: first + 1]
    ignoring = local.generate(prompt, max_new_tokens=8, eos_ids=(eos,), ignore_eos=True)
    assert ignoring == free
    late = local.generate(prompt, max_new_tokens=8, eos_ids=(eos,), min_tokens=8)
    assert eos not in late
    assert len(late) == 8


def test_logprobs_are_the_stock_models(lab, local_engine):
    local = local_engine(prompt_logit_rows=7)
    prompt = lab.prompt(25)
    slot = local.submit(
        prompt,
        max_new_tokens=4,
        logprobs=3,
        prompt_logprobs=2,
        temperature=0.7,
        logit_bias=((9, 5.0),),
    )
    local.run()
    ids = prompt + slot.ids(0, 4)
    expected = lab.stock("llama", ids).log_softmax(-1)
    for index in range(1, 25):
        got = slot.prompt_logprobs(index)
        row = expected[index - 1]
        assert got.chosen == pytest.approx(row[ids[index]].item(), abs=1e-3)
        assert [token for token, _ in got.top] == row.topk(2).indices.tolist()
    for index in range(4):
        got = slot.logprobs(index)
        row = expected[24 + index]
        assert got.chosen == pytest.approx(row[ids[25 + index]].item(), abs=1e-3)
        assert [value for _, value in got.top] == pytest.approx(
            row.topk(3).values.tolist(), abs=1e-3
        )
    local.assert_clean()


def test_nothing_new_may_be_asked_for(lab, local_engine):
    """max_new_tokens 0 with prompt logprobs is how harnesses score a text."""
    local = local_engine()
    slot = local.submit(lab.prompt(25), max_new_tokens=0, prompt_logprobs=0)
    local.run()
    assert (slot.finish, slot.sampled) == (FinishReason.LENGTH, 0)
    assert slot.prompt_logprobs(24).chosen < 0
    full = local.submit(lab.prompt(64 * 16), max_new_tokens=5)  # the context holds no more
    local.run()
    assert (full.finish, full.sampled) == (FinishReason.LENGTH, 0)


def test_a_group_shares_its_prompt(lab, local_engine):
    prompt = lab.prompt(90)
    fields = {"max_new_tokens": 6, "temperature": 1.0}
    alone = [local_engine().generate(prompt, seed=seed, **fields) for seed in range(4)]
    local = local_engine(max_batch_tokens=40)
    slots = [local.submit(prompt, seed=seed, group=1, index=seed, **fields) for seed in range(4)]
    rows = []
    original = local.engine._device.step
    local.engine._device.step = lambda batch: (rows.append(len(batch.rows)), original(batch))[1]
    local.run()
    assert [slot.ids(0, 6) for slot in slots] == alone
    assert sum(rows) <= 90 + 3 + 4 * 5  # the prompt once, its last row for each of the others
    local.assert_clean()


def test_a_group_survives_the_loss_of_its_first(lab, local_engine):
    prompt = lab.prompt(60)
    local = local_engine(max_batch_tokens=20)
    slots = [local.submit(prompt, group=1, index=i, max_new_tokens=4) for i in range(3)]
    local.engine.step()
    local.cancel(slots[0])
    local.run()
    expected = reference_ids(lab, prompt, 4)
    assert [slot.ids(0, 4) for slot in slots[1:]] == [expected, expected]
    local.assert_clean()


def test_a_constrained_sequence_waits_for_its_mask(lab, local_engine):
    local = local_engine()
    prompt = lab.prompt(20)
    other = local.submit(lab.prompt(5, 9), max_new_tokens=3)
    slot = local.submit(prompt, max_new_tokens=3, constrained=True)
    local.run()
    assert (slot.sampled, slot.state) == (0, EngineState.RUNNING)
    assert other.state is EngineState.FINISHED
    allowed = [7, 80, 191]
    for position, token in enumerate(allowed, 1):
        mask = bytearray(25)
        mask[token // 8] |= 1 << token % 8
        slot.set_mask(position, bytes(mask))
        local.look(slot)
        local.run()
        assert slot.sampled == position
    assert slot.ids(0, 3) == allowed
    local.assert_clean()


def test_a_mask_that_allows_nothing_fails_that_sequence_only(lab, local_engine):
    local = local_engine()
    good = local.submit(lab.prompt(5), max_new_tokens=5)
    slot = local.submit(lab.prompt(6), max_new_tokens=5, constrained=True)
    slot.set_mask(1, bytes(25))
    local.run()
    assert (slot.state, slot.finish) == (EngineState.FAILED, FinishReason.FAILED)
    assert slot.error is ErrorCode.NO_CANDIDATE
    assert not any(bytes(slot._views.bytes)[8192:])
    assert good.finish is FinishReason.LENGTH
    local.done(slot)
    assert (slot.state, slot.error) == (EngineState.ERASED, ErrorCode.NO_CANDIDATE)
    local.assert_clean()


def test_a_lying_slot_fails_itself_only(lab, local_engine):
    local = local_engine()
    good = local.submit(lab.prompt(5), max_new_tokens=5)
    # Ids beyond the vocabulary, written behind the back of `submit`.
    bad = local.submit(lab.prompt(5), max_new_tokens=5)
    bad._views.words[local.geometry.prompt_offset // 4 + 2] = 2**31 - 1
    worse = local.submit(lab.prompt(5), max_new_tokens=5)
    worse._views.words[local.geometry.prompt_offset // 4] = 2**32 - 1
    local.run()
    assert good.finish is FinishReason.LENGTH
    for slot in (bad, worse):
        assert (slot.state, slot.error) == (EngineState.FAILED, ErrorCode.INVALID_REQUEST)
    local.assert_clean()


def test_a_failing_step_ends_its_sequences_and_no_others(lab, local_engine):
    local = local_engine()
    slots = [local.submit(lab.prompt(20, i), max_new_tokens=20) for i in range(2)]
    local.engine.step()
    original = local.engine._device.step

    def broken(batch):
        original(batch)  # K and V of the step are written when it fails
        raise RuntimeError

    local.engine._device.step = broken
    local.engine.step()
    local.engine._device.step = original
    for slot in slots:
        assert (slot.state, slot.error) == (EngineState.FAILED, ErrorCode.STEP_FAILED)
        assert not any(bytes(slot._views.bytes)[8192:])
    local.assert_clean()
    assert len(local.generate(lab.prompt(20), max_new_tokens=3)) == 3


def test_nan_in_one_sequence_ends_that_one(lab, local_engine):
    local = local_engine()
    slots = [local.submit(lab.prompt(20, i), max_new_tokens=20) for i in range(3)]
    local.engine.step()
    block = local.engine._entries[1].sequence.blocks[0]
    local.pool.values[0][block * 16] = float("nan")
    local.run()
    assert [slot.finish for slot in slots] == [
        FinishReason.LENGTH,
        FinishReason.FAILED,
        FinishReason.LENGTH,
    ]
    assert slots[1].error is ErrorCode.NO_CANDIDATE
    local.assert_clean()


def test_random_traffic_loses_and_leaves_nothing(lab, local_engine):
    """Everything at once: arrivals, cancels, groups, preemption; then the books are balanced."""
    generator = torch.Generator().manual_seed(4)

    def rand(n):
        return int(torch.randint(n, (1,), generator=generator))

    local = local_engine(kv_blocks=14, max_sequences=5, max_batch_tokens=33, max_mixed_tokens=17)
    live = []
    for turn in range(120):
        if len(live) < 10:
            params = SamplingParams(
                max_new_tokens=rand(40), temperature=float(rand(2)), seed=turn, logprobs=rand(3) - 1
            )
            prompt = lab.prompt(1 + rand(60), turn // 3)
            live.append(local.submit(prompt, params, group=turn // 3))
        local.engine.step()
        if live and rand(6) == 0:
            local.cancel(live.pop(rand(len(live))))
        for slot in [each for each in live if each.state is EngineState.FINISHED]:
            live.remove(slot)
            local.done(slot)
        owned = [b for each in local.engine._scheduler.running for b in each.blocks]
        assert len(owned) == len(set(owned)) == 14 - local.engine._scheduler._allocator.free
    local.run()
    assert all(slot.state in (EngineState.FINISHED, EngineState.ERASED) for slot in local.slots)
    local.assert_clean()
