"""Proposals from the request itself change no id, and leave nothing behind."""

import numpy as np
import pytest
import torch

from engine.errors import EngineError
from engine.speculative_ngram import lookup
from engine.types import EngineState, ErrorCode, FinishReason


def found(ids, most):
    result = lookup(np.array(ids), most)
    return None if result is None else result.tolist()


def test_what_followed_the_last_ids_is_proposed():
    assert found([7, 1, 2, 3, 4, 9, 1, 2], 3) == [3, 4, 9]
    assert found([1, 2, 3, 4, 9, 1, 2], 1) == [3]


def test_one_equal_id_is_not_enough_and_nothing_before_is_nothing():
    assert found([1, 2, 3, 9, 3], 4) is None
    assert found([1, 2, 3, 4], 4) is None
    assert found([1], 4) is None
    assert found([1, 1], 4) is None


def test_the_longest_match_wins_then_the_latest():
    assert found([1, 2, 3, 40, 2, 3, 50, 1, 2, 3], 1) == [40]
    assert found([2, 3, 40, 2, 3, 50, 9, 2, 3], 1) == [50]


def test_a_short_circle_goes_on():
    assert found([9, 5, 5, 5], 4) == [5, 5, 5, 5]
    assert found([1, 2, 3, 1, 2, 3, 1, 2], 7) == [3, 1, 2, 3, 1, 2, 3]


def test_only_late_occurrences_of_a_frequent_id_are_compared():
    ids = [8, 8] + [1, 9] * 100 + [8, 8]
    assert found(ids, 2) == [1, 9]
    many = [7, 8, 3] + [8, 5] * 100 + [7, 8]  # the first is more than 64 occurrences away
    assert found(many, 1) is None


def repetitive(lab, times=6):
    return lab.prompt(9) * times


def count_rows(local):
    rows = []
    step = local.engine._device.step
    local.engine._device.step = lambda batch: (rows.append(len(batch.rows)), step(batch))[1]
    return rows


# A penalised, tempered, truncated draw over few ids: proposals are sometimes right.
FEW = tuple((token, 100.0) for token in range(5, 10))
CASES = {
    "greedy": {"temperature": 0.0},
    "greedy, penalised": {
        "temperature": 0.0, "repetition_penalty": 1.2, "presence_penalty": 0.5, "logit_bias": FEW,
    },
    "sampled": {"temperature": 1.0, "logit_bias": FEW, "seed": 3},
    "top_p": {"temperature": 3.0, "top_p": 0.8, "logit_bias": FEW, "seed": 4},
    "penalised": {
        "temperature": 2.0, "frequency_penalty": 0.3, "repetition_penalty": 1.05,
        "logit_bias": FEW, "seed": 5, "min_tokens": 30, "eos_ids": (6, 7),
    },
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_ids_and_logprobs_are_those_of_a_run_without(lab, local_engine, case):
    fields = {"max_new_tokens": 70, "logprobs": 3, **CASES[case]}
    results = []
    for speculation in ("none", "ngram"):
        local = local_engine(speculation=speculation)
        slot = local.submit(repetitive(lab), **fields)
        steps = local.run()
        count = slot.sampled
        logprobs = [slot.logprobs(i) for i in range(count)]
        results.append((steps, slot.finish, slot.ids(0, count), logprobs))
        local.assert_clean()
    (slow, *expected, reference), (fast, *got, logprobs) = results
    assert got == expected
    assert fast < slow
    for one, other in zip(logprobs, reference, strict=True):
        assert one.chosen == pytest.approx(other.chosen, abs=1e-3)
        assert [token for token, _ in one.top] == [token for token, _ in other.top]


def test_a_text_in_circles_takes_a_fraction_of_the_steps(lab, local_engine):
    """A bias leaves two ids, of which a greedy model soon makes a circle."""
    steps = {}
    for speculation in ("none", "ngram"):
        local = local_engine(speculation=speculation)
        local.submit(lab.prompt(20), max_new_tokens=200, logit_bias=FEW[:2])
        steps[speculation] = local.run()
    assert steps["none"] == 200
    assert steps["ngram"] < 60


def test_in_a_batch_with_arrivals_groups_and_preemption_ids_are_the_same(lab, local_engine):
    fields = {"max_new_tokens": 60, "temperature": 1.0, "logit_bias": FEW}
    prompts = [repetitive(lab, 2 + i % 3) for i in range(6)]
    seeds = range(6)
    plain = local_engine()
    expected = [
        plain.generate(prompt, seed=seed, **fields)
        for prompt, seed in zip(prompts, seeds, strict=True)
    ]
    local = local_engine(
        speculation="ngram", kv_blocks=14, max_batch_tokens=40, max_mixed_tokens=20
    )
    preempted = []
    preempt = local.engine._scheduler._preempt
    local.engine._scheduler._preempt = lambda each: (preempted.append(each), preempt(each))
    rows = count_rows(local)
    slots = []
    for prompt, seed in zip(prompts, seeds, strict=True):
        slots.append(local.submit(prompt, seed=seed, group=len(prompt), **fields))
        local.engine.step()
    local.run()
    assert [slot.ids(0, 60) for slot in slots] == expected
    assert preempted
    assert max(rows[-20:]) > 6
    local.assert_clean()


def test_sharing_a_prompt_and_speculating_go_together(lab, local_engine):
    fields = {"max_new_tokens": 40, "temperature": 1.0, "logit_bias": FEW}
    expected = [local_engine().generate(repetitive(lab), seed=i, **fields) for i in range(4)]
    local = local_engine(speculation="ngram")
    slots = [local.submit(repetitive(lab), seed=i, group=1, index=i, **fields) for i in range(4)]
    steps = local.run()
    assert [slot.ids(0, 40) for slot in slots] == expected
    assert steps < 41
    local.assert_clean()


def test_rejected_keys_and_values_are_never_seen(lab, local_engine):
    """Whatever lies behind the context may be anything: it is spoiled after every step."""
    prompts = [repetitive(lab, 3), repetitive(lab, 4)]
    fields = {"max_new_tokens": 50, "temperature": 1.0, "logit_bias": FEW, "seed": 8}
    expected = [local_engine().generate(prompt, **fields) for prompt in prompts]
    local = local_engine(speculation="ngram")
    slots = [local.submit(prompt, **fields) for prompt in prompts]
    spoiled = 0
    while local.engine.busy and local.engine.step():
        for sequence in local.engine._scheduler.running:
            for position in range(sequence.computed, sequence.touched):
                block, at = sequence.blocks[position // 16], position % 16
                for part in (*local.pool.keys, *local.pool.values):
                    spoiled += bool(part[block * 16 + at].any())
                    part[block * 16 + at] = 1e4
    assert spoiled, "no proposal was rejected"
    assert [slot.ids(0, 50) for slot in slots] == expected
    local.assert_clean()


def test_nothing_is_published_behind_a_stop_and_the_table_forgets(lab, local_engine):
    free = local_engine().generate(repetitive(lab), max_new_tokens=80)
    eos = free[-1]  # it is in the circle, so it comes among accepted ids
    local = local_engine(speculation="ngram")
    slot = local.submit(repetitive(lab), max_new_tokens=80, ignore_eos=True, eos_ids=(eos,))
    while slot.sampled < 40:
        local.engine.step()
    sequence = local.engine._entries[0].sequence
    assert not local.engine._trusted.table(sequence).any()
    local.cancel(slot)
    stopping = local.submit(repetitive(lab), max_new_tokens=80, eos_ids=(eos,), min_tokens=60)
    local.run()
    assert stopping.finish is FinishReason.STOP
    ids = stopping.ids(0, stopping.sampled)
    assert ids.index(eos) == len(ids) - 1 >= 60
    output = torch.frombuffer(stopping.output_buffer(), dtype=torch.int32)
    assert not output[stopping.sampled :].any()
    del output
    local.assert_clean()


@pytest.mark.parametrize("most", [1, 2, 3, 17, 33])
def test_the_limit_is_met_exactly(lab, local_engine, most):
    local = local_engine(speculation="ngram")
    slot = local.submit(repetitive(lab), max_new_tokens=most)
    local.run()
    assert (slot.sampled, slot.finish) == (most, FinishReason.LENGTH)
    full = local.submit(lab.prompt(4) * 250, max_new_tokens=99)  # the context holds 24 more
    local.run()
    assert (full.sampled, full.finish) == (24, FinishReason.LENGTH)
    local.assert_clean()


def test_constrained_sequences_get_one_row(lab, local_engine):
    local = local_engine(speculation="ngram")
    rows = count_rows(local)
    slot = local.submit(repetitive(lab), max_new_tokens=20, constrained=True)
    for position in range(1, 21):
        slot.set_mask(position, b"\xff" * 25)
        local.look(slot)
        local.run()
    assert rows[1:] == [1] * 19
    assert slot.state is EngineState.FINISHED


def test_a_step_that_fails_with_proposals_leaves_nothing(lab, local_engine):
    local = local_engine(speculation="ngram")
    slot = local.submit(repetitive(lab), max_new_tokens=200, logprobs=2)
    while slot.sampled < 40:
        local.engine.step()
    accept = local.engine._trusted._publish

    def broken(_, ids):
        assert len(ids)
        slot.output_buffer()[4 * slot.sampled : 4 * slot.sampled + 64] = b"\1" * 64
        raise RuntimeError

    local.engine._trusted._publish = broken
    local.engine.step()
    local.engine._trusted._publish = accept
    assert (slot.state, slot.error) == (EngineState.FAILED, ErrorCode.STEP_FAILED)
    assert not any(bytes(slot._views.bytes)[8192:])
    local.assert_clean()


def test_nan_at_a_proposal_is_no_business_of_the_ids_before(lab, local_engine):
    """A row without candidates ends the sequence only if it is reached."""
    expected = local_engine().generate(repetitive(lab), max_new_tokens=40)
    local = local_engine(speculation="ngram")
    propose = local.engine._speculation.proposer.propose
    spoil = []

    def wrong(works, rooms, budget):
        counts = propose(works, rooms, budget)
        for sequence, count in counts.items():
            table = local.engine._trusted.table(sequence)
            table[0] = (table[0] + 1) % 199  # so that no row behind the first is reached
            spoil.append((sequence, count))
        return counts

    step = local.engine._device.step

    def poisoned(batch):
        output = step(batch)
        if spoil and len(output.logits) > 1:
            output.logits[1:] = float("nan")
        return output

    local.engine._speculation.proposer.propose = wrong
    local.engine._device.step = poisoned
    got = local.generate(repetitive(lab), max_new_tokens=40)
    assert spoil
    assert got == expected


def test_proposals_take_no_block_from_anyone(lab, local_engine):
    """Promised blocks that proposals touched are zeroed and given up like any other."""
    local = local_engine(speculation="ngram", kv_blocks=12, block_size=16)
    first = local.submit(repetitive(lab, 3), max_new_tokens=150)
    while first.sampled < 20:
        local.engine.step()
    second = local.submit(lab.prompt(64, 5), max_new_tokens=3)
    while second.state is not EngineState.FINISHED:
        local.engine.step()
    owned = local.engine._entries[0].sequence.blocks
    free = [block for block in range(12) if block not in owned]
    for part in (*local.pool.keys, *local.pool.values):
        assert not any(part[block * 16 : (block + 1) * 16].any() for block in free)
    local.cancel(first)
    local.assert_clean()


@pytest.mark.parametrize(
    "fields", [{"speculation": "oracle"}, {"speculation": "ngram", "draft": "folder"}]
)
def test_a_configuration_that_says_two_things_is_refused(local_engine, fields):
    with pytest.raises(EngineError):
        local_engine(**fields)
