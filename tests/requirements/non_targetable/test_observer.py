"""A passive observer of both sides of a real relay under load matches requests by time and size.

It succeeds: a relay that forwards at once hides nothing of that. `--batch-ms` lowers the figure and
costs about that time before the first id; how far it goes depends on how many ask at once. A better
observer than this one, who names the likeliest flow for each by itself, would do better.
"""

import pytest
from chances import interval
from observer import Load, at_once, by_everything, by_requests, matched, watched


def rates(load, report, name, **relay):
    """Intervals of how often requests are matched: by their requests alone, and by everything."""
    near, far = watched(load, **relay)
    together = at_once(near)
    found = [interval(*matched(near, far, unlike)) for unlike in (by_requests, by_everything)]
    first = sorted(flow.first - flow.asked for flow in near)[len(near) // 2]
    (a, b), (c, d) = found
    report(
        f"{name}, {together:.1f} at once (chance {1 / together:.2f}): by requests {a:.2f} to "
        f"{b:.2f}, by everything {c:.2f} to {d:.2f}; first event after {first * 1000:.0f} ms"
    )
    return found, 1 / together


LOAD = Load(clients=16, requests=4)


def test_an_observer_matches_both_sides_of_a_relay(report):
    """No secret: assume it. That it does not hold would be a fault of the observer."""
    (_, (low, _)), chance = rates(LOAD, report, "relay")
    assert low > 2 * chance


def test_batches_lower_what_the_requests_tell(report):
    (plain, _), _ = rates(LOAD, report, "relay, again")
    (batched, _), _ = rates(LOAD, report, "relay with --batch-ms 300", batch_s=0.3)
    assert batched[1] < plain[0] or batched[1] < 0.6


@pytest.mark.soak
@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("clients", [4, 16, 48])
def test_what_batches_are_worth_by_load_and_period(report, clients, streamed):
    load = Load(clients=clients, requests=max(4, 192 // clients), rhythm_s=0.05, streamed=streamed)
    results = {}
    for batch_ms in (0, 100, 500, 1000):
        name = f"{clients} clients, {'streamed' if streamed else 'whole'}, --batch-ms {batch_ms}"
        results[batch_ms], _ = rates(load, report, name, batch_s=batch_ms / 1000)
    assert results[1000][1][0] < results[0][1][1]
