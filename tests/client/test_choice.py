import random
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.choice import MAX_SHARE, draw, shares, steering_bound

CAPACITIES = st.lists(st.sampled_from([1, 2, 4, 8, 1000]), min_size=1, max_size=40)


@given(CAPACITIES)
def test_shares_sum_to_one_and_no_node_exceeds_the_clamp(capacities):
    result = shares(capacities)
    assert sum(result) == pytest.approx(1)
    assert max(result) <= max(MAX_SHARE, 2 / len(capacities)) + 1e-9
    assert min(result) > 0


@given(CAPACITIES)
def test_more_capacity_never_means_a_smaller_share(capacities):
    ranked = sorted(zip(capacities, shares(capacities), strict=True))
    assert all(a[1] <= b[1] + 1e-12 for a, b in pairwise(ranked))


def test_unclamped_shares_follow_capacity():
    assert shares([1] * 10 + [2] * 5) == pytest.approx([1 / 20] * 10 + [2 / 20] * 5)


def test_draws_follow_the_shares():
    generator = random.Random(7)
    capacities = [1, 1, 2, 4, 8, 8, 8, 8]
    drawn = Counter(draw(capacities, generator.random) for _ in range(40_000))
    for index, share in enumerate(shares(capacities)):
        assert drawn[index] / 40_000 == pytest.approx(share, abs=0.01)


def test_a_generator_at_its_edges_still_names_a_node():
    assert draw([1, 1, 1], lambda: 0.0) == 0
    assert draw([1, 1, 1], lambda: 1 - 2**-53) == 2


@pytest.mark.parametrize("capacities", [[], [0], [1, -1]])
def test_capacities_that_are_none_are_refused(capacities):
    with pytest.raises(ValueError, match="capacity"):
        shares(capacities)


def test_the_documented_bound_on_steering():
    assert steering_bound(0.1) == pytest.approx(1 - 0.9**3)
    assert steering_bound(0.1, redraws=0) == pytest.approx(0.1)
