"""A draw of tokens says little of the request that made it necessary: a fake clock, many users."""

import math
import random
from statistics import mean, stdev

import pytest

from client.refill import LOW_WATER, NEARLY_EMPTY, TICK_S, RefillClock, exponential
from client.wallet import BATCH, IDLE_PAUSE_S

AMPLE = LOW_WATER - 1


class Clock:
    """Seconds that pass when told to."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def refills(pauses):
    clock, left = Clock(), iter(pauses)
    return clock, RefillClock(clock, lambda _: next(left))


def test_a_stock_that_is_low_but_ample_waits_for_a_tick():
    clock, asked = refills([600, 600])
    for clock.now in range(600):
        assert not asked.due(AMPLE)
    clock.now = 600
    assert asked.due(AMPLE)


def test_falling_below_the_mark_moves_no_tick():
    """The clock runs on whatever is asked: when a draw comes does not depend on when it was due."""
    drawn = []
    for fallen_at in (1, 250, 599):
        clock, asked = refills([600, 600])
        for clock.now in range(1200):
            if asked.due(AMPLE if clock.now >= fallen_at else LOW_WATER):
                drawn.append(clock.now)
                break
    assert drawn == [600, 600, 600]


def test_a_tick_that_finds_enough_passes():
    clock, asked = refills([600, 600, 600])
    clock.now = 601
    assert not asked.due(LOW_WATER)
    clock.now = 1200
    assert not asked.due(AMPLE)  # the next is 600 after the last look
    clock.now = 1201
    assert asked.due(AMPLE)


def test_a_stock_near_its_end_is_filled_at_once_and_all_the_way():
    _, asked = refills([math.inf])
    assert not asked.due(NEARLY_EMPTY)
    stock, draws = NEARLY_EMPTY - 1, 0
    while asked.due(stock):
        stock, draws = stock + BATCH, draws + 1
    assert stock >= LOW_WATER
    assert draws == -(-(LOW_WATER - NEARLY_EMPTY + 1) // BATCH)
    assert not asked.due(AMPLE), "and then ticks count again"


def test_a_wallet_that_starts_low_but_ample_does_not_draw_at_its_start():
    assert not RefillClock().due(AMPLE)


def test_pauses_have_no_memory():
    """Exponential: as spread as they are long, and in e^-1 of the cases longer than the mean."""
    pauses = [exponential(TICK_S) for _ in range(20_000)]
    assert mean(pauses) == pytest.approx(TICK_S, rel=0.05)
    assert stdev(pauses) == pytest.approx(TICK_S, rel=0.05)
    assert sum(pause > TICK_S for pause in pauses) / 20_000 == pytest.approx(1 / math.e, abs=0.02)


class AsBefore:
    """What this clock replaced: each look draws what is missing."""

    def __init__(self, *_):
        pass

    def due(self, stock):
        return stock < LOW_WATER


def named(kind, look_s, *, users=20, hours=30, each_s=600):
    """Return how often issuer and worker name the account of a request, and of how many draws.

    They see every request and every draw. When an account begins to draw they say that the latest
    request of all was its: no other is likelier, under either clock.
    """
    source, clock = random.Random(4), Clock()
    wallets = [kind(clock, lambda mean_s: source.expovariate(1 / mean_s)) for _ in range(users)]
    stocks, looks = [LOW_WATER + BATCH // 2] * users, [source.uniform(*look_s) for _ in wallets]
    drawing, latest, right, draws = [False] * users, 0, 0, 0
    for clock.now in range(hours * 3600):
        for user in range(users):
            if source.random() < 1 / each_s:
                stocks[user], latest = stocks[user] - 1, user
            if clock.now >= looks[user]:
                looks[user] += source.uniform(*look_s)
                due, began = wallets[user].due(stocks[user]), not drawing[user]
                drawing[user] = due
                stocks[user] += BATCH * due
                if due and began:
                    draws, right = draws + 1, right + (latest == user)
    return right / draws, draws


def test_few_users_can_no_longer_be_named_by_their_draws():
    """Twenty users, each asking every ten minutes. By chance one of 20 is named."""
    before, seen = named(AsBefore, (5.0, 30.0))
    assert before > 0.5, "the attack does not work where it must"
    now, draws = named(RefillClock, IDLE_PAUSE_S)
    assert min(seen, draws) > 150
    assert now < 0.15
