"""Steering by what a fleet's scheduler may do with a request after the client has drawn its node.

Duplication, pulling, priority, prediction and instance flips, each built here around the engine's
own scheduler, bring the victim's K and V to the adversary's nodes. The engine has none of them: the
same wishes of the same operator change nothing, the policy says that they are refused, and a client
refuses a node whose policy says anything else. The target is sum C(T) / sum C(S).
"""

import random

import pytest
from chances import chi_square_p, interval, mann_whitney_p
from fleet import Fleet, Request, Wish, hold

from attestation.errors import Code, Refused
from attestation.verifier.engine_policy import EnginePolicy
from attestation.verifier.engine_rules import EngineRules
from engine.config import EngineConfig
from engine.policy import OPTIMISATIONS, engine_policy
from engine.scheduler import Scheduler
from wire import canonical_json

EVIL = frozenset({"n3", "n7"})
VICTIMS = 1_500
PATIENCE = 3
"""Turns after which a fleet that fails over gives up on a node."""


def is_victim(request):
    return request.wish.priority > 0


def evil(fleet):
    return [host for host in fleet.hosts if host.name in EVIL]


def move(fleet, host, sequence):
    """K and V go to the emptiest of the adversary's nodes, and the request with them."""
    request = host.take(sequence)
    target = min(evil(fleet), key=lambda each: each.load)
    hold(target, request)
    target.submit(request)


def each_victim(fleet):
    for host in fleet.hosts:
        if host.name not in EVIL:
            for sequence, request in list(host.requests.items()):
                if is_victim(request):
                    yield host, sequence, request


def duplicating(fleet, _):
    """Unsafe: a second node keeps a copy, in case the first one fails; the fleet says which."""
    for _, _, request in each_victim(fleet):
        hold(evil(fleet)[0], request)


def pulling(fleet, _):
    """Unsafe: a node with room pulls sequences from others, whichever it likes."""
    for host, sequence, _ in each_victim(fleet):
        if any(each.load < 12 for each in evil(fleet)):
            move(fleet, host, sequence)


class ByPriority(Scheduler):
    """Unsafe: whoever has the better priority overtakes."""

    def add(self, sequence):
        super().add(sequence)
        self.waiting.sort(key=lambda each: (each.wish.priority, each.arrival))


def failing_over(fleet, now):
    """Unsafe: what has waited too long at a node is asked elsewhere."""
    for host, sequence, request in each_victim(fleet):
        if request.begun is None and now - request.arrived > PATIENCE:
            move(fleet, host, sequence)


def predicting(fleet, _):
    """Unsafe: requests that are predicted to be long have nodes of their own."""
    for host, sequence, request in each_victim(fleet):
        if request.wish.predicted > 100:
            move(fleet, host, sequence)


def flipping(fleet, _):
    """Unsafe: nodes are flipped to prefill, so that decoding goes to the few that are left."""
    for host, sequence, request in each_victim(fleet):
        if host.role == "prefill" and request.begun is not None:
            move(fleet, host, sequence)


UNSAFE = {
    "kv_duplication": (Scheduler, duplicating),
    "kv_pulling": (Scheduler, pulling),
    "priority": (ByPriority, failing_over),
    "request_level_prediction": (Scheduler, predicting),
    "instance_flip": (Scheduler, flipping),
}


def steered(make, mechanism, *, seed=1):
    """Run victims among others, with every lever pulled; return all victims and the share of T."""
    generator = random.Random(seed)
    fleet = Fleet(generator, make=make, mechanism=mechanism)
    victims = []
    for host in fleet.hosts:
        host.role = "both" if host.name in EVIL else "prefill"
    while len(victims) < VICTIMS:
        for _ in range(18):
            fleet.ask(Request(generator.randrange(4, 40), generator.randrange(2, 12)))
        for _ in range(2):
            wish = Wish(priority=9, predicted=1_000)
            victims.append(Request(generator.randrange(4, 40), generator.randrange(2, 12), wish))
            fleet.ask(victims[-1])
        fleet.turn()
    fleet.settle()
    assert all(each.done for each in victims)
    return victims, fleet.share(EVIL)


def score(victims, share):
    """How often T held a victim's K and V, as an interval of 99 %, and p that it is T's share."""
    hits = sum(not EVIL.isdisjoint(each.held_by) for each in victims)
    return interval(hits, VICTIMS), chi_square_p([hits, VICTIMS - hits], [share, 1 - share])


@pytest.mark.parametrize("lever", UNSAFE)
def test_a_fleet_that_has_it_is_steered(lever, report):
    victims, share = steered(*UNSAFE[lever])
    (low, high), p = score(victims, share)
    report(f"{lever} (unsafe), T's share {share:.3f}: reached {low:.3f} to {high:.3f}, p = {p:.2g}")
    assert p < 1e-6
    assert low > 1.4 * share


def test_no_lever_moves_a_request_of_ours(report):
    victims, share = steered(Scheduler, None)
    (low, high), p = score(victims, share)
    report(f"all five wishes, ours, T's share {share:.3f}: {low:.3f} to {high:.3f}, p = {p:.2g}")
    assert p > 0.01
    assert all(len(each.held_by) == 1 for each in victims)


# ---- whoever came first begins first ----


def waits(make, seed=3):
    """Turns that victims and others wait at one crowded node, each of the two in random order."""
    generator = random.Random(seed)
    fleet = Fleet(generator, count=1, make=make)
    requests = [
        Request(
            generator.randrange(4, 60),
            generator.randrange(2, 20),
            Wish(*generator.choice([(0, 0), (9, 1_000)])),
        )
        for _ in range(160)
    ]
    for request in requests:
        fleet.ask(request)
    fleet.settle()
    marked = [each.begun for each in requests if is_victim(each)]
    return requests, marked, [each.begun for each in requests if not is_victim(each)]


def test_priority_delays_a_victim_where_it_exists(report):
    _, marked, others = waits(ByPriority)
    p = mann_whitney_p(marked, others)
    report(f"priority (unsafe), a victim's wait against others': p = {p:.2g}")
    assert p < 1e-6


def test_a_wish_delays_nobody_of_ours(report):
    requests, marked, others = waits(Scheduler)
    p = mann_whitney_p(marked, others)
    report(f"priority and prediction, ours, a victim's wait against others': p = {p:.2g}")
    assert p > 0.01
    assert [each.begun for each in requests] == sorted(each.begun for each in requests)


# ---- what the policy says, and what a client makes of it ----


def policy_with(name, state):
    members = canonical_json.decode(engine_policy(EngineConfig(model=None)))
    members["verification"], members["transfers"] = "audit", "sealed"
    members["optimisations"][name]["state"] = state
    return EnginePolicy.decode(canonical_json.encode(members))


@pytest.mark.parametrize("name", UNSAFE)
def test_the_policy_refuses_it_and_a_client_refuses_a_node_that_does_not(name):
    assert {row.state for row in OPTIMISATIONS if row.name == name} == {"refused"}
    EngineRules().check(policy_with(name, "refused"))
    for state in ("on", "declared"):
        with pytest.raises(Refused) as refused:
            EngineRules().check(policy_with(name, state))
        assert refused.value.code is Code.ENGINE_OPTIMISATION_REFUSED
