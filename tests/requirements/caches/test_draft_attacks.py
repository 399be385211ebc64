"""A draft model's acceptance, timed: what it proposes must not know what others asked before.

The unsafe engines of these tests have a draft that remembers, or one estimate of its luck for all.
"""

import pytest
import torch
from acceptance import inference_p

from engine import scheduler
from engine.speculative import Pace
from engine.speculative_draft import Draft


@pytest.fixture
def drafted(local_engine, model_folder):
    """An engine of the tiny llama whose draft is another tiny model, mostly wrong."""

    def make(**config):
        folders = {"model": model_folder("llama"), "draft": model_folder("qwen2")}
        return local_engine(speculation="draft", **folders, max_model_len=256, **config)

    return make


@pytest.fixture
def remembering(monkeypatch):
    """Unsafe: the draft learns from what was answered, and proposes it where it fits."""
    learnt, drawn = {}, Draft._draw

    def draw(self, sequence, ahead, logits):
        known = self._trusted.known(sequence).tolist()
        ids = [*known, *self._trusted.table(sequence)[:ahead].tolist()]
        for end in range(4, len(known)):
            learnt[tuple(known[end - 4 : end])] = known[end]
        drawn(self, sequence, ahead, logits)
        if (token := learnt.get(tuple(ids[-4:]))) is not None:
            self._trusted.table(sequence)[ahead] = token
            if sequence in self._beliefs:
                self._beliefs[sequence][ahead] = torch.eye(len(logits))[token]

    monkeypatch.setattr(Draft, "_draw", draw)
    return learnt


def test_acceptance_does_not_tell_what_others_asked(drafted, prompt_ids, report):
    p = inference_p(drafted(), prompt_ids)
    report(f"draft model, asked before or not by accepted proposals: p = {p:.3g}")
    assert p > 0.01


def test_acceptance_tells_it_where_the_draft_learns(drafted, prompt_ids, report, remembering):
    p = inference_p(drafted(), prompt_ids)
    report(f"draft model that learns (unsafe), asked before or not: p = {p:.3g}")
    assert remembering
    assert p < 1e-3


# ---- how a neighbour's proposals fared ----


def proposals_after(local, prompt, lucky, prompt_ids):
    """Proposals that an attacker gets first, after a request whose draft was right or wrong."""
    seen = []
    settle = local.engine._speculation.settle

    def noting(works):
        seen.append(max(work.proposed for work in works))
        settle(works)

    bias = {"logit_bias": ((9, 100.0),)} if lucky else {}  # both models then say the same
    victim = local.submit(prompt_ids(20, 3), max_new_tokens=24, **bias)
    local.run()
    local.done(victim)
    local.engine._speculation.settle = noting
    attacker = local.submit(prompt, max_new_tokens=24)
    local.run()
    local.engine._speculation.settle = settle
    local.done(attacker)
    return seen


def test_the_pace_of_one_request_does_not_show_in_the_next(drafted, prompt_ids):
    local = drafted()
    lucky, unlucky = (
        proposals_after(local, prompt_ids(20, 8), each, prompt_ids) for each in (True, False)
    )
    assert lucky == unlucky


def test_it_shows_where_one_estimate_serves_all(drafted, prompt_ids, monkeypatch):
    """Unsafe: what was learnt of one request's proposals decides about the next one's."""
    local, shared = drafted(), Pace()
    add = scheduler.Scheduler.add

    def sharing(self, sequence):
        sequence.pace = shared
        add(self, sequence)

    monkeypatch.setattr(scheduler.Scheduler, "add", sharing)
    lucky, unlucky = (
        proposals_after(local, prompt_ids(20, 8), each, prompt_ids) for each in (True, False)
    )
    assert lucky != unlucky
