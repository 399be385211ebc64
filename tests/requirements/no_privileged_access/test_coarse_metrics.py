"""Who scrapes a worker's metrics as often as it likes cannot tell one more request from none.

The adversary here knows every other request exactly, when it came and how it ended, as if it had
sent all of them itself. With exact counters it reads the one more request off.
"""

import asyncio
import itertools
import random
import re
import time
from collections import Counter
from fractions import Fraction

import httpx
import pytest
from chances import interval, mann_whitney_p

from server.coarse import LEAST, LEVEL_STEP, STEP, Pending, rounded
from server.metrics import Metrics

EXACT = {"least": 1, "step": 1, "level_step": 1}
SEEDS = 1500
PERIODS = 90
BOUND = Fraction(2, STEP)
TRAFFIC = {
    "one a period": lambda _: 1,
    "few": lambda period: period % 3,
    "many": lambda period: 40 + period % 7,
    "a burst, then nothing": lambda period: 79 * (period == 0),
}


def requests_shown(metrics):
    return metrics._registry.get_sample_value("sottovoce_requests_total", {"status": "200"})


def watched(metrics, traffic, more_at=None):
    """Return what is seen, period by period, of known traffic and perhaps one more request."""
    seen = []
    for period in range(PERIODS):
        for _ in range(traffic(period) + (period == more_at)):
            metrics.answered(200)
        metrics.publish()
        seen.append(requests_shown(metrics))
    return seen


def features(seen):
    """Return when it moved first, how far then, and how far it has come."""
    moved = [period for period, value in enumerate(seen) if value]
    return (moved[0], seen[moved[0]], seen[-1]) if moved else (len(seen), 0, 0)


def p_values(settings, traffic, seeds):
    """Return how likely each feature's ranks are if one more request changed nothing."""
    without, within = (
        [
            features(watched(Metrics(random.Random(2 * seed + side), **settings), traffic, more))
            for seed in range(seeds)
        ]
        for side, more in enumerate((None, 3))
    )
    sides = (zip(*side, strict=True) for side in (without, within))
    return [mann_whitney_p(*pair) for pair in zip(*sides, strict=True)]


@pytest.mark.parametrize("kind", TRAFFIC)
def test_exact_counters_tell_and_ours_do_not(kind, report):
    traffic = TRAFFIC[kind]
    unsafe = min(p_values(EXACT, traffic, seeds=20))
    ours = p_values({}, traffic, seeds=SEEDS // 10)
    report(f"{kind}: exact p = {unsafe:.1e}, ours p = {', '.join(f'{p:.2f}' for p in ours)}")
    assert unsafe < 1e-6
    assert min(ours) > 0.01


def outcomes(pending, more):
    """The exact chances of (period of the first move, amount), of one event a period.

    Args:
        pending: events at the end of each period, without the one more.
        more: from which period on there is one more; None for never.
    """
    chances = Counter()
    for threshold in range(LEAST, LEAST + STEP):
        for period, count in enumerate(pending):
            events = count + (more is not None and period >= more)
            if events >= threshold:
                below, rest = divmod(events, STEP)
                up = Fraction(rest, STEP)
                chances[period, STEP * below] += (1 - up) / STEP
                chances[period, STEP * (below + 1)] += up / STEP
                break
        else:
            chances[None] += Fraction(1, STEP)
    return chances


@pytest.mark.parametrize("step", [1, 2, 5, 16, 64, 100])
def test_no_guess_is_better_than_the_bound_that_is_documented(step):
    """The distance of two distributions is the advantage of the best guess there is."""
    pending = list(itertools.accumulate(itertools.repeat(step, 100 // step + 80)))
    without = outcomes(pending, None)
    distances = []
    for more in (0, 1, len(pending) // 2):
        within = outcomes(pending, more)
        distances.append(sum(abs(without[each] - within[each]) for each in without | within) / 2)
    assert 0 < max(distances) <= BOUND


def test_what_pending_does_is_what_the_arithmetic_says():
    """The chances computed above, against the code, for one event a period."""
    chances, seen = outcomes(range(1, 91), None), Counter()
    for seed in range(SEEDS):
        pending = Pending(random.Random(seed))
        for period in range(90):
            pending.add()
            if amount := pending.take():
                seen[period, amount] += 1
                break
            if pending._events == 0:
                seen[period, 0] += 1
                break
    early = {each for each in chances if each and each[0] < 40}
    low, high = interval(sum(seen[each] for each in early), SEEDS)
    assert low < sum(chances[each] for each in early) < high
    down = {each for each in chances if each and each[1] == 0}
    low, high = interval(sum(seen[each] for each in down), SEEDS)
    assert low < sum(chances[each] for each in down) < high


def test_a_count_never_moves_before_there_are_enough_and_by_whole_steps_only():
    for seed in range(300):
        pending = Pending(random.Random(seed))
        for _ in range(LEAST - 1):
            pending.add()
            assert pending.take() == 0
    chance, moved = random.Random(1), Counter()
    for _ in range(4000):
        moved[rounded(100, STEP, chance)] += 1
    assert moved.keys() == {64, 128}
    low, high = interval(moved[128], 4000)
    assert low < (100 - 64) / 64 < high, "the mean is the number"


def test_in_the_long_run_the_counts_are_right():
    metrics, many = Metrics(random.Random(5)), 20_000
    for number in range(many):
        metrics.answered(200)
        if number % 50 == 0:
            metrics.publish()
    metrics.publish()
    assert abs(requests_shown(metrics) - many) < 0.05 * many


def test_a_level_is_looked_at_at_a_moment_of_its_own_and_rounded():
    """One request that runs for a tenth of a period shows in less than one of a hundred."""
    metrics, chance, shown = Metrics(random.Random(6)), random.Random(7), 0
    for _ in range(SEEDS):
        present = int(chance.random() < 0.1)
        metrics.look(present, present)
        metrics.publish()
        shown += b"sottovoce_requests_admitted 16.0" in metrics.encode()
    low, _ = interval(shown, SEEDS)
    assert low < 0.1 / LEVEL_STEP
    assert shown < 0.02 * SEEDS


def test_the_grid_of_periods_is_not_moved_by_who_looks():
    """A period ends when it ends, however often one scrapes meanwhile."""
    published = []

    class Noting(Metrics):
        def publish(self):
            super().publish()
            published.append(time.monotonic())

    async def main():
        metrics = Noting()
        publishing = asyncio.ensure_future(metrics.publish_every(0.1, lambda: (0, 0)))
        began = time.monotonic()
        while time.monotonic() < began + 0.75:
            metrics.encode()
            await asyncio.sleep(0)
        publishing.cancel()
        return began

    began = asyncio.run(main())
    assert 6 <= len(published) <= 7
    for number, moment in enumerate(published, 1):
        assert -0.01 < moment - began - 0.1 * number < 0.1


def test_a_real_worker_shows_nothing_of_few_requests_and_round_numbers_of_many(
    new_neighbours, running
):
    with running(new_neighbours(), metrics_period_s=0.2) as worker:
        for _ in range(6):
            worker.ask({"prompt": "hello"})
            assert not counted(worker.metrics()), "fewer than move a count"
        seen = set()
        with httpx.Client(base_url=worker.url, trust_env=False) as client:
            for _ in range(4 * STEP):
                assert client.get("/gateway").status_code == 405
                seen |= counted(client.get("/metrics").text)
        time.sleep(0.5)
        seen |= counted(worker.metrics())
        assert seen
        assert all(value % STEP == 0 for _, value in seen)
        assert {name for name, _ in seen} == {'sottovoce_requests_total{status="405"}'}


def counted(text):
    """Return the counters that are not at zero."""
    found = re.findall(r"^(sottovoce_\w+_total\S*) (\S+)$", text, re.MULTILINE)
    return {(name, float(value)) for name, value in found if float(value)}
