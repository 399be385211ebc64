"""Speculation, attacked: what is proposed for one request must come from that request alone.

The unsafe engine of these tests looks proposals up in a database of past requests.
"""

import numpy as np
import pytest
from acceptance import inference_p

from engine import speculative_ngram


@pytest.fixture
def database(monkeypatch):
    """Unsafe: every request's ids are remembered, and looked through for the next one's."""
    remembered, lookup = [], speculative_ngram.lookup

    def remembering(ids, most):
        found = lookup(np.concatenate([*remembered, ids]), most)
        remembered.append(ids.copy())
        return found

    monkeypatch.setattr(speculative_ngram, "lookup", remembering)
    return remembered


def test_acceptance_does_not_tell_what_others_asked(local_engine, prompt_ids, report):
    p = inference_p(local_engine(speculation="ngram", max_model_len=256), prompt_ids)
    report(f"speculation, asked before or not by accepted proposals: p = {p:.3g}")
    assert p > 0.01


def test_acceptance_tells_it_where_past_requests_are_kept(
    local_engine, prompt_ids, report, database
):
    p = inference_p(local_engine(speculation="ngram", max_model_len=256), prompt_ids)
    report(f"speculation from a database (unsafe), asked before or not: p = {p:.3g}")
    assert database
    assert p < 0.01
