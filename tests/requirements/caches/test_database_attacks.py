"""Proposals from a database of past requests, attacked: leak and extraction. Ours has none.

What proposals a request gets shows in the rows of its steps, and so in time. The unsafe engine of
these tests keeps every request's ids, and looks the attacker's last ids up among them.
"""

import numpy as np
import pytest

from engine import speculative_ngram

SECRET = [23, 71, 5, 190, 44, 101, 62]
"""Ids of the victim's text behind the first one, which the attacker knows."""
FIRST = 17
CANDIDATES = 12
"""How many ids the attacker tries at each place, the right one among them."""


@pytest.fixture
def database(monkeypatch):
    """Unsafe: every request's ids are remembered, and looked through for the next one's."""
    remembered, lookup = [], speculative_ngram.lookup

    def remembering(ids, most):
        found = lookup(np.concatenate([*remembered, ids]), most)
        if not any(len(each) and each[0] == ids[0] for each in remembered):
            remembered.append(ids.copy())
        return found

    monkeypatch.setattr(speculative_ngram, "lookup", remembering)
    return remembered


class Watched:
    """An engine with n-grams, whose proposals (strong attacker) and rows (weak one) are seen."""

    def __init__(self, local):
        self.local, self.proposed, self.rows = local, [], []
        proposer, step = local.engine._speculation.proposer, local.engine._device.step
        propose = proposer.propose

        def noting(works, rooms, budget):
            counts = propose(works, rooms, budget)
            for sequence, count in counts.items():
                self.proposed += local.engine._trusted.table(sequence)[:count].tolist()
            return counts

        def counted(batch):
            self.rows.append(len(batch.rows))
            return step(batch)

        proposer.propose, local.engine._device.step = noting, counted

    def ask(self, prompt, count, **fields):
        """Ask, and forget; return the rows of each step."""
        self.rows.clear()
        slot = self.local.submit(prompt, max_new_tokens=count, **fields)
        self.local.run()
        self.local.done(slot)
        return list(self.rows)


@pytest.fixture
def watched(local_engine, prompt_ids):
    """An engine that a victim has just used."""

    def make():
        engine = Watched(local_engine(speculation="ngram", max_model_len=256))
        engine.ask([*prompt_ids(10, 1), FIRST, *SECRET, *prompt_ids(10, 2)], 3)
        engine.proposed.clear()
        return engine

    return make


def leaked(engine):
    """Ids of the victim's that stand among the proposals for an attacker who quotes its start."""
    bias = {"logit_bias": ((SECRET[0], 100.0),)}  # the answer begins as the secret does
    engine.ask([3, 4, 6, FIRST], 16, **bias)
    return set(engine.proposed) & set(SECRET[1:])


def test_leak_of_a_past_request_fails(watched):
    assert not leaked(watched())


def test_leak_of_a_past_request_succeeds_from_a_database(watched, database):
    assert leaked(watched()) == set(SECRET[1:])
    assert database


def extracted(engine, prompt_ids):
    """Follow the victim's text id by id: the guess for which a step has more rows is the next."""
    known = FIRST
    found = []
    for place, right in enumerate(SECRET):
        others = [each for each in prompt_ids(40, 70 + place) if each not in (right, known)]
        guesses = sorted({right, *others[: CANDIDATES - 1]})
        # The answer's first id is the guess; whether it follows `known` anywhere shows next.
        rows = {
            guess: engine.ask([3, 4, 6, known], 3, logit_bias=((guess, 100.0),))[1]
            for guess in guesses
        }
        most = [guess for guess in guesses if rows[guess] == max(rows.values())]
        if len(most) != 1:  # nothing stands out
            return found
        found += most
        known = most[0]
    return found


def test_extraction_of_a_past_request_fails(watched, prompt_ids):
    assert extracted(watched(), prompt_ids) == []


def test_extraction_of_a_past_request_succeeds_from_a_database(watched, database, prompt_ids):
    assert extracted(watched(), prompt_ids) == SECRET
    assert database
