"""Co-scheduling: what an attacker's request gets, and when, beside a victim's in the same steps.

Two victims of one shape (length, number of ids) and different contents must make no difference at
all: not in the attacker's ids, nor in a bit of its log-probabilities, nor in the rows and steps up
to each id. That somebody is there shows: load is no secret. The unsafe engines of these tests have
one scale for all rows of a step, or let neighbours compete for proposed rows.
"""

import time

import pytest
from chances import mann_whitney_p

LENGTH = 48
IDS = 12
TRIALS = 10


class Shared:
    """One engine with the victims' requests in it, and an attacker's beside them."""

    def __init__(self, local):
        self.local, self.rows, self.seconds = local, 0, 0.0
        step = local.engine._device.step

        def counted(batch):
            self.rows += len(batch.rows)
            return step(batch)

        local.engine._device.step = counted

    def beside(self, victims, prompt, **fields):
        """The attacker's (ids, log-probabilities, (rows, steps) up to each id)."""
        slots = [
            self.local.submit(each, max_new_tokens=200, **victim_fields)
            for each, victim_fields in victims
        ]
        while any(not slot.sampled for slot in slots):
            assert self.local.engine.step()
        before, began = self.rows, time.thread_time()
        attacker = self.local.submit(prompt, max_new_tokens=IDS, logprobs=3, **fields)
        seen, steps = [], 0
        while attacker.sampled < IDS:
            had = attacker.sampled
            assert self.local.engine.step()
            steps += 1
            seen += [(self.rows - before, steps)] * (attacker.sampled - had)
        self.seconds = time.thread_time() - began
        result = attacker.ids(0, IDS), [attacker.logprobs(i) for i in range(IDS)], seen
        self.local.done(attacker)
        for slot in slots:
            self.local.cancel(slot)
        return result


@pytest.fixture
def shared(local_engine):
    def make(dtype="float32", **config):
        return Shared(local_engine(dtype=dtype, **config))

    return make


@pytest.fixture
def victims(prompt_ids):
    """A function of a seed: three requests of one shape, whose contents the seed decides."""
    return lambda seed: [(prompt_ids(LENGTH, 3 * seed + i), {}) for i in range(3)]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_neighbours_contents_change_no_bit_and_no_step(shared, victims, prompt_ids, dtype):
    engine = shared(dtype)
    results = [engine.beside(victims(seed), prompt_ids(20, 900)) for seed in range(TRIALS)]
    assert all(result == results[0] for result in results)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_neighbour_changes_no_id(shared, victims, prompt_ids, dtype):
    """Alone or in company: the last bits of log-probabilities may tell which, the ids do not."""
    engine = shared(dtype)
    alone, beside = (engine.beside(each, prompt_ids(20, 900)) for each in ([], victims(1)))
    assert alone[0] == beside[0]


def with_one_scale(local):
    """Unsafe: logits in 8 bits under one scale for all rows of a step, as some kernels have it."""
    step = local.engine._device.step

    def rounded(batch):
        output = step(batch)
        scale = output.logits.abs().max() / 127
        output.logits.copy_((output.logits / scale).round() * scale)
        return output

    local.engine._device.step = rounded


def test_contents_show_where_rows_share_a_scale(shared, victims, prompt_ids):
    engine = shared()
    with_one_scale(engine.local)
    results = [engine.beside(victims(seed), prompt_ids(20, 900)) for seed in range(TRIALS)]
    assert any(result[1] != results[0][1] for result in results)


# ---- time beyond load ----


def biased(token, by):
    """Fields of a request whose answer is `token` again and again, or, by 0, is left alone."""
    return {"logit_bias": ((token, by),)}


def pace_p(engine, prompt_ids, report, name):
    """p that the attacker's steps tell victims whose text repeats itself from others."""
    repeating, other, times = [], [], {True: [], False: []}
    prompt = [9] * 24
    for seed in range(TRIALS):
        for repeats, by in ((True, 100.0), (False, 0.0)):
            victims = [
                ([11 + i] * LENGTH if repeats else prompt_ids(LENGTH, seed), biased(11 + i, by))
                for i in range(3)
            ]
            steps = engine.beside(victims, prompt, **biased(9, 100.0))[2][-1][1]
            (repeating if repeats else other).append(steps)
            times[repeats].append(engine.seconds)
    p = mann_whitney_p(repeating, other)
    seconds = mann_whitney_p(times[True], times[False])
    report(
        f"co-scheduling, {name}: a neighbour's text by steps p = {p:.2g}, CPU time {seconds:.2g}"
    )
    return p, seconds


def test_an_attackers_pace_does_not_tell_a_neighbours_text(shared, prompt_ids, report):
    p, seconds = pace_p(shared(max_model_len=512), prompt_ids, report, "ours")
    assert p > 0.01
    assert seconds > 1e-6


def test_it_does_where_neighbours_compete_for_proposed_rows(shared, prompt_ids, report):
    """`--speculation` does this, which is off by default: its rows are bounded all together."""
    engine = shared(max_model_len=512, speculation="ngram")
    p, _ = pace_p(engine, prompt_ids, report, "with speculation")
    assert p < 1e-3
