"""Prompt rows of a step: bounded, and fewer where a long context makes them dear."""

from types import SimpleNamespace

import pytest

from engine.scheduler import _FEWEST, _Budget


def prompt(computed, rows=10_000):
    return SimpleNamespace(computable=rows, computed=computed, scoring=False)


def chunks(horizon, tokens=256, length=4096):
    """Cut a prompt into steps; returns the rows of each and what they cost."""
    start, found = 0, []
    while start < length:
        count = _Budget(tokens, 64, horizon).take(prompt(start, length - start))
        found.append((count, count * (1 + (start + count / 2) / horizon)))
        start += count
    return found


def test_without_a_horizon_all_steps_are_alike():
    assert [count for count, _ in chunks(float("inf"))] == [256] * 16


@pytest.mark.parametrize("horizon", [1000, 4000])
def test_no_step_costs_more_than_the_first(horizon):
    cut = chunks(horizon)
    assert sum(count for count, _ in cut) == 4096
    first = cut[0][1]
    assert all(cost <= 1.1 * first for _, cost in cut)
    assert [count for count, _ in cut] == sorted((count for count, _ in cut), reverse=True)


def test_some_rows_always_join():
    assert min(count for count, _ in chunks(10)[:-1]) == _FEWEST


def test_prompts_of_one_step_share_what_it_may_cost():
    budget = _Budget(256, 64, 1000)
    rows = [budget.take(prompt(3000, 40)), budget.take(prompt(3000)), budget.take(prompt(0))]
    assert rows[0] == 40
    assert rows[1] < 60
    assert rows[2] == 0


def test_prompts_whose_logprobs_are_wanted_have_a_bound_of_their_own():
    scored = SimpleNamespace(computable=500, computed=0, scoring=True)
    assert _Budget(256, 64).take(scored) == 64
