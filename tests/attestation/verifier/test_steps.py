"""The run of steps keeps its order, and ends at the first that fails."""

import pytest

from attestation.errors import Code, ReceiptError, Refused
from attestation.verdict import Outcome
from attestation.verifier.steps import Finding, Progress

NAMES = ("first", "second", "third")


def holds(value):
    return Finding(value, f"found {value}")


def fails():
    raise Refused(Code.USAGE_MISMATCH, "it did not hold")


def test_steps_not_yet_made_are_skips():
    progress = Progress(NAMES, ReceiptError)
    assert [step.outcome for step in progress.verdict.steps] == [Outcome.SKIP] * 3
    assert progress.check("first", holds, 7) == 7
    assert [step.reason for step in progress.verdict.steps] == ["found 7"] + ["not reached"] * 2
    assert progress.verdict.outcome is Outcome.SKIP


def test_a_failing_step_ends_the_run_with_the_verdict_so_far():
    progress = Progress(NAMES, ReceiptError)
    progress.check("first", holds, 7)
    with pytest.raises(ReceiptError) as caught:
        progress.check("second", fails)
    error = caught.value
    assert (error.step, error.code, error.reason) == (
        "second",
        Code.USAGE_MISMATCH,
        "it did not hold",
    )
    assert str(error) == "second: it did not hold (usage-mismatch)"
    assert [s.outcome.value for s in error.verdict.steps] == ["pass", "fail", "skip"]


def test_a_step_out_of_order_is_a_mistake_of_the_programmer():
    progress = Progress(NAMES, ReceiptError)
    with pytest.raises(ValueError, match="out of order"):
        progress.check("second", holds, 7)


def test_a_step_may_be_skipped_with_its_reason_and_the_whole_is_then_no_pass():
    progress = Progress(NAMES, ReceiptError)
    progress.check("first", holds, 7)
    progress.skip("second", "nothing to look at")
    progress.check("third", holds, 8)
    assert [step.outcome.value for step in progress.verdict.steps] == ["pass", "skip", "pass"]
    assert progress.verdict.steps[1].reason == "nothing to look at"
    assert progress.verdict.outcome is Outcome.SKIP


def test_no_other_step_than_the_next_is_skipped():
    with pytest.raises(ValueError, match="out of order"):
        Progress(NAMES, ReceiptError).skip("second", "too early")
