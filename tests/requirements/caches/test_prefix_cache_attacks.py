"""The prefix cache, attacked: what one request computed must not show in, or reach, another.

The unsafe engine of these tests lets groups of two capsules meet: all requests have one scope. The
time that an attacker measures is counted in rows of the model, which no other load disturbs.
"""

import random

import pytest
import torch
from chances import mann_whitney_p

TRIALS = 24
LENGTH = 48


class Attack:
    """One engine with a victim's request in it, and an attacker's beside it."""

    def __init__(self, local, *, safe):
        self.local, self.safe = local, safe
        self.rows = 0
        step = local.engine._device.step

        def counted(batch):
            self.rows += len(batch.rows)
            return step(batch)

        local.engine._device.step = counted

    def submit(self, prompt, scope, **fields):
        """Put a request in under a capsule's scope, or, where it is unsafe, under everybody's."""
        look = self.local.engine.look
        self.local.engine.look = lambda key, _: look(key, scope if self.safe else "all")
        try:
            return self.local.submit(prompt, group=7, **fields)
        finally:
            self.local.engine.look = look

    def alongside(self, prompt, guess):
        """Rows that the attacker's guess takes up to its first id, beside the victim's prompt."""
        victim = self.submit(prompt, "victim", max_new_tokens=400)
        for _ in range(3):
            assert self.local.engine.step()
        before = self.rows
        attacker = self.submit(guess, "attacker", max_new_tokens=1)
        while not attacker.sampled:
            assert self.local.engine.step()
        taken, ids = self.rows - before, attacker.ids(0, 1)
        self.local.done(attacker)
        self.local.cancel(victim)
        return taken, ids


@pytest.fixture
def attack(local_engine):
    def make(*, safe):
        return Attack(local_engine(kv_blocks=128), safe=safe)

    return make


def inference_p(attack, prompt_ids):
    """p that rows tell a right guess of the victim's length and group from a wrong one."""
    generator = random.Random(5)
    hits, misses = [], []
    for trial in range(TRIALS):
        length = generator.choice((LENGTH, LENGTH - 1))
        victim, guess = prompt_ids(length, trial), prompt_ids(LENGTH, trial + 1000)
        taken, _ = attack.alongside(victim, guess)
        (hits if length == LENGTH else misses).append(taken)
    return mann_whitney_p(hits, misses)


def test_inference_by_time_tells_nothing(attack, prompt_ids, report):
    p = inference_p(attack(safe=True), prompt_ids)
    report(f"prefix cache, hit or miss by time: p = {p:.3g}")
    assert p > 0.01


def test_inference_by_time_succeeds_where_requests_share(attack, prompt_ids, report):
    p = inference_p(attack(safe=False), prompt_ids)
    report(f"prefix cache shared (unsafe), hit or miss by time: p = {p:.3g}")
    assert p < 1e-4


def extracted(attack, prompt_ids):
    """Of 16 victims, how many first ids an attacker gets who asks for their K and V by group."""
    right = 0
    for seed in range(16):
        victim, own = prompt_ids(LENGTH, seed), prompt_ids(LENGTH, 500 + seed)
        # The same last id: an attacker needs the victim's context, and brings the last row.
        own[-1] = victim[-1]
        alone = attack.local.generate(victim, max_new_tokens=1)
        _, ids = attack.alongside(victim, own)
        right += ids == alone
    return right


def test_extraction_of_a_neighbours_context_fails(attack, prompt_ids):
    assert extracted(attack(safe=True), prompt_ids) <= 2


def test_extraction_of_a_neighbours_context_succeeds_where_requests_share(attack, prompt_ids):
    assert extracted(attack(safe=False), prompt_ids) == 16


def replayed(attack, prompt, *, keep):
    """Rows of a prompt, and of the same prompt again once its first request has ended."""
    rows = []
    for _ in range(2):
        before = attack.rows
        slot = attack.submit(prompt, "one", max_new_tokens=4)
        attack.local.run()
        rows.append(attack.rows - before)
        if not keep:
            attack.local.done(slot)
    return rows


def test_replay_of_a_prompt_costs_as_much_as_the_first_time(attack, prompt_ids):
    first, again = replayed(attack(safe=True), prompt_ids(LENGTH), keep=False)
    assert first == again


def test_replay_is_cheaper_while_an_unsafe_neighbour_holds_it(attack, prompt_ids):
    attack = attack(safe=False)
    prompt = prompt_ids(LENGTH)
    fresh, _ = replayed(attack, prompt, keep=False)
    taken, _ = attack.alongside(prompt, prompt)
    assert taken < fresh / 4


def blocks_of(local, prompts):
    """The block numbers that a strong attacker sees in use, step by step."""
    seen = []
    for prompt in prompts:
        slot = local.submit(prompt, max_new_tokens=4)
        while local.engine.busy and local.engine.step():
            seen.append([tuple(each.blocks) for each in local.engine._scheduler.running])
        local.done(slot)
    return seen


def test_access_pattern_depends_on_lengths_alone(local_engine, prompt_ids):
    patterns = [
        blocks_of(local_engine(), [prompt_ids(60, seed), prompt_ids(20, seed)]) for seed in range(4)
    ]
    assert all(pattern == patterns[0] for pattern in patterns)


def test_access_pattern_tells_equal_prompts_where_blocks_are_found_by_content(
    local_engine, prompt_ids
):
    """Unsafe: a pool that places a block by what the prompt says."""
    patterns = []
    for seed in range(4):
        local, prompt = local_engine(), prompt_ids(60, seed)
        allocator = local.engine._scheduler._allocator
        allocator._runs = [(sum(prompt) % 16, allocator.count)]
        patterns.append(blocks_of(local, [prompt]))
    assert len({str(pattern) for pattern in patterns}) > 1


def pool_bytes(local):
    parts = (*local.pool.keys, *local.pool.values)
    return b"".join(part.contiguous().view(torch.uint8).numpy().tobytes() for part in parts)


def kv_rows(local, sequence):
    """One row of keys of each block: what an attacker who knows the prompt can compute."""
    return [
        local.pool.parts(0, block)[0].contiguous().view(torch.uint8).numpy().tobytes()
        for block in sequence.blocks[:2]
    ]


def mapped(local, prompt, *, erase):
    """Whether a pool that was stolen after the answer tells that this prompt was there."""
    slot = local.submit(prompt, max_new_tokens=40)
    local.engine.step()
    rows = kv_rows(local, local.engine._scheduler.running[0])
    if not erase:
        local.engine._scheduler._zero = lambda _: None
    local.done(slot)
    return [row in pool_bytes(local) for row in rows]


def test_mapping_a_stolen_pool_to_a_prompt_fails(local_engine, prompt_ids):
    local = local_engine()
    assert not any(mapped(local, prompt_ids(60), erase=True))
    local.assert_clean()


def test_mapping_a_stolen_pool_succeeds_where_blocks_are_kept(local_engine, prompt_ids):
    assert all(mapped(local_engine(), prompt_ids(60), erase=False))
