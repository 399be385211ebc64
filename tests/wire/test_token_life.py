"""A key's life: signing, redeeming, exchanging, over; and never three keys live."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.token_life import EXCHANGE_S, KeyPeriod, most_live

PERIOD = KeyPeriod(1000, 2000)


@pytest.mark.parametrize(
    ("at", "signs", "redeems", "exchanges", "over"),
    [
        (999, False, True, False, False),
        (1000, True, True, True, False),
        (1999, True, True, True, False),
        (2000, False, False, True, False),
        (2000 + EXCHANGE_S - 1, False, False, True, False),
        (2000 + EXCHANGE_S, False, False, False, True),
    ],
)
def test_the_life_of_a_key(at, signs, redeems, exchanges, over):
    found = (PERIOD.signs(at), PERIOD.redeems(at), PERIOD.exchanges(at), PERIOD.over(at))
    assert found == (signs, redeems, exchanges, over)


@pytest.mark.parametrize("bounds", [(5, 5), (6, 5), (-1, 5)])
def test_a_period_ends_after_it_begins(bounds):
    with pytest.raises(ValueError, match="ends after"):
        KeyPeriod(*bounds)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 30)), max_size=6))
def test_the_worst_moment_is_found(spans):
    step = EXCHANGE_S
    periods = [KeyPeriod(start * step, (start + length) * step) for start, length in spans]
    counts = [sum(p.exchanges(day * step) for p in periods) for day in range(63)]
    assert most_live(periods) == max(counts)
