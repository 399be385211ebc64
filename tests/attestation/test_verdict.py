"""A verdict passes only if every step was made and passed."""

import itertools

import pytest

from attestation.verdict import Outcome, Step, Verdict

PASS, FAIL, SKIP = Outcome.PASS, Outcome.FAIL, Outcome.SKIP


def verdict(*outcomes):
    return Verdict(tuple(Step(f"step-{i}", o, "because") for i, o in enumerate(outcomes)))


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ((), SKIP),
        ((PASS,), PASS),
        ((PASS, PASS), PASS),
        ((SKIP,), SKIP),
        ((PASS, SKIP), SKIP),
        ((SKIP, FAIL), FAIL),
        ((FAIL, PASS), FAIL),
        ((PASS, SKIP, FAIL), FAIL),
    ],
)
def test_the_outcome_over_all_steps(outcomes, expected):
    assert verdict(*outcomes).outcome is expected


def test_a_skip_is_never_a_pass():
    for outcomes in itertools.product(Outcome, repeat=3):
        if SKIP in outcomes or FAIL in outcomes:
            assert verdict(*outcomes).outcome is not PASS


def test_the_json_form_is_plain_text():
    assert verdict(PASS, SKIP).to_json() == {
        "outcome": "skip",
        "steps": [
            {"step": "step-0", "outcome": "pass", "reason": "because"},
            {"step": "step-1", "outcome": "skip", "reason": "because"},
        ],
    }
    assert type(verdict(PASS).to_json()["outcome"]) is str
