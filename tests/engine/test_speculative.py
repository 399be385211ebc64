import pytest

from engine.speculative import MAX_EXTRA, MAX_PROPOSED, Budget, Costs, Pace

FLAT = Costs([1, 32], [1.0, 1.0])
DEAR = Costs([1, 2], [1.0, 2.0])


def budget(costs=FLAT, draft=None, *, rows=1, sequences=1):
    return Budget(costs, draft, rows=rows, sequences=sequences)


def test_costs_are_points_joined_by_lines_and_never_fall():
    costs = Costs([1, 2, 4, 8], [1.0, 1.5, 1.4, 3.5])
    assert [costs.of(rows) for rows in (1, 2, 3, 4, 6, 8)] == [1.0, 1.4, 1.4, 1.4, 2.45, 3.5]
    assert costs.of(12) == pytest.approx(5.6)  # the last slope goes on
    assert Costs([1], [2.0]).of(9) == 2.0


def test_free_rows_are_all_used_and_dear_ones_not_at_all():
    assert budget(FLAT).choose(Pace(), 99) == MAX_PROPOSED
    assert budget(DEAR).choose(Pace(hits=100.0, misses=1.0), 99) == 0
    assert budget(FLAT).choose(Pace(), 3) == 3
    assert budget(FLAT).choose(Pace(), 0) == 0


def test_acceptance_decides_how_many_are_worth_their_rows():
    slope = Costs([1, 32], [1.0, 1.0 + 31 * 0.2])  # a row costs a fifth of a step
    chosen = [budget(slope).choose(Pace(hits, 1.0), 99) for hits in (0.1, 0.5, 1.0, 3.0, 30.0)]
    assert chosen == sorted(chosen)
    assert (chosen[0], chosen[-1]) == (0, MAX_PROPOSED)
    assert chosen[2] == 2  # a half, a quarter; an eighth of an id is not worth a fifth of a step


def test_the_pace_grows_shrinks_and_recovers():
    slope = Costs([1, 32], [1.0, 1.0 + 31 * 0.2])
    pace = Pace()
    before = budget(slope).choose(pace, 99)
    pace.note(before, before)
    grown = budget(slope).choose(pace, 99)
    assert grown > before
    steps = 0
    while budget(slope).choose(pace, 99):
        pace.note(4, 0)
        steps += 1
        assert steps < 20
    for _ in range(3):
        pace.note(4, 0)
    waited = 0
    while not budget(slope).choose(pace, 99):
        pace.rest()
        waited += 1
        assert waited < 200
    assert waited > 10


def test_a_larger_batch_proposes_less():
    """Where many sequences share a step an id is cheap already, and rows stop being free."""
    costs = Costs([1, 8, 32], [1.0, 1.1, 4.0])
    alone = budget(costs).choose(Pace(), 99)
    crowded = budget(costs, rows=16, sequences=16).choose(Pace(), 99)
    assert alone >= 5
    assert crowded <= 1


def test_a_prompt_in_the_step_does_not_make_rows_cheaper():
    costs = Costs([1, 32], [1.0, 1.0 + 31 * 0.9])
    assert budget(costs, rows=257, sequences=1).choose(Pace(), 99) == 0


def test_a_step_spends_only_so_many_rows():
    own = budget(FLAT)
    taken = []
    while count := own.choose(Pace(), 99):
        own.spend(count)
        taken.append(count)
    assert sum(taken) == MAX_EXTRA


def test_a_dear_draft_proposes_less():
    cheap, dear = Costs([1], [0.05]), Costs([1], [0.9])
    assert budget(FLAT, cheap).choose(Pace(), 99) > 3
    assert budget(FLAT, dear).choose(Pace(), 99) == 0
