"""Log and relay collude to steer one user by the node list: another list, or an old one.

The target is sum C(T) / sum C(S) over the list of the epoch, the same for everybody. Draws are by
the client's own transport from what its own directory accepted; hours pass at once.
"""

import asyncio
import random
from types import SimpleNamespace

import httpx
import pytest
from chances import chi_square_p, interval
from simulator import EPOCH_S, Node, World

from attestation.verifier.policy import ClientPolicy
from client.choice import shares
from client.errors import NodeListError
from client.nodes import OUTAGE_S, NodeDirectory
from client.transport import Transport

NOW = 1_800_000_000
MODEL = "tiny"
DRAWS = 4_000
EVIL = ("evil0", "evil1")
HONEST = {f"n{i}": (1, 2, 4, 8)[i % 4] for i in range(8)} | dict.fromkeys(EVIL, 2)


class Clock:
    def __init__(self):
        self.now = NOW

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr("client.nodes.RETRY_PAUSE_S", 0.0)
    return Clock()


class User:
    """One client's list and draws. `relay` is asked for documents: a world, honest or not."""

    def __init__(self, world, clock, seed):
        self.directory = NodeDirectory(
            trust=world.trust(),
            policy=ClientPolicy(accepted_weaknesses=frozenset({"simulated", "compute-unverified"})),
            relay_url="http://relay",
            http=None,
            clock=clock,
        )
        self.transport = Transport(directory=self.directory, wallet=None, relay=None)
        self.transport._uniform = random.Random(seed).random

    def look(self, relay):
        async def main():
            async with httpx.AsyncClient(transport=httpx.ASGITransport(relay.app())) as http:
                self.directory._http, self.directory._fetching = http, asyncio.Lock()
                return await self.directory.current()

        return asyncio.run(main())

    def draws(self, relay, names, count=DRAWS):
        """How many of `count` requests fall on nodes of these names."""
        appraisal, chosen = self.look(relay), self.transport._choose
        ids = {node.id for node in relay.nodes if node.name in names}
        known = SimpleNamespace(serving=lambda _: nodes, listed=appraisal.listed)
        nodes = appraisal.serving(MODEL)
        return sum(chosen(known, MODEL).node.key_document.node in ids for _ in range(count))


def nodes_of(capacities, clock):
    return [Node(name, capacity=capacity, now=clock()) for name, capacity in capacities.items()]


def share(capacities, names=EVIL):
    chances = dict(zip(capacities, shares(list(capacities.values())), strict=True))
    return sum(chances[name] for name in names)


def p_of(hits, expected, count=DRAWS):
    return chi_square_p([hits, count - hits], [expected, 1 - expected])


# ---- joins and leaves ----


def test_every_user_follows_the_list_of_the_epoch(clock, report):
    """Each epoch other nodes; the share of T changes for everybody alike, and draws follow it."""
    world = World(nodes=nodes_of(HONEST, clock), clock=clock)
    everyone, generator = world.nodes, random.Random(4)
    users = [User(world, clock, seed) for seed in range(3)]
    seen, expected = [0, 0, 0], 0.0
    for _ in range(6):
        clock.now += EPOCH_S
        world.nodes = [n for n in everyone if n.name in EVIL or generator.random() < 0.7]
        expected += share({n.name: n.document.capacity for n in world.nodes}) / 6
        for index, user in enumerate(users):
            seen[index] += user.draws(world, EVIL, DRAWS // 6)
    ps = [p_of(hits, expected, DRAWS // 6 * 6) for hits in seen]
    report(f"joins and leaves, three users: p = {', '.join(f'{p:.2f}' for p in ps)}")
    assert min(ps) > 0.01


# ---- another list for one user ----


def split(clock, quorum):
    """Everybody's world, and a fork with T alone that one witness of three helps to make."""
    world = World(nodes=nodes_of(HONEST, clock), clock=clock, quorum=quorum)
    fork = World(nodes=nodes_of(dict.fromkeys(EVIL, 2), clock), clock=clock, quorum=quorum)
    fork.spoil_document = lambda _: fork.document(cosigners=1)
    return world, fork


def test_a_list_of_ones_own_steers_a_client_that_asks_for_one_witness(clock, report):
    world, fork = split(clock, quorum=1)
    hits = User(world, clock, 1).draws(fork, EVIL)
    p = p_of(hits, share(HONEST))
    report(f"a list for one user, quorum 1 (unsafe): {hits / DRAWS:.3f}, p = {p:.2g}")
    assert hits == DRAWS
    assert p < 1e-6


def test_a_list_of_ones_own_sends_a_client_of_ours_nowhere(clock, report):
    world, fork = split(clock, quorum=2)
    victim = User(world, clock, 1)
    with pytest.raises(NodeListError, match="witnesses"):
        victim.draws(fork, EVIL)
    hits = User(world, clock, 1).draws(world, EVIL)
    p = p_of(hits, share(HONEST))
    report(f"a list for one user, ours: refused; from everybody's {hits / DRAWS:.3f}, p = {p:.2g}")
    assert p > 0.01


# ---- the list of an hour ago for one user ----


def test_an_old_list_buys_an_hour_of_what_t_had_in_it(clock, report):
    """What remains: a relay that keeps news from a client holds it to everybody's earlier list."""
    few = {name: HONEST[name] for name in ("n0", "n1", "n2", "n3", *EVIL)}
    world = World(nodes=nodes_of(few, clock), clock=clock)
    victim, other = User(world, clock, 1), User(world, clock, 2)
    victim.look(world)
    world.nodes += nodes_of({name: HONEST[name] for name in HONEST if name not in few}, clock)
    end = (clock.now // EPOCH_S + 1) * EPOCH_S
    clock.now = end + OUTAGE_S - 1
    withheld = World(nodes=world.nodes, clock=clock)
    withheld.spoil_document = lambda _: 503
    before, now = share(few), share(HONEST)
    held, fresh = victim.draws(withheld, EVIL), other.draws(world, EVIL)
    low, high = interval(held, DRAWS)
    report(f"list withheld: {low:.3f} to {high:.3f}; T had {before:.3f} then, has {now:.3f} now")
    assert p_of(held, before) > 0.01
    assert p_of(fresh, now) > 0.01
    assert low > now, "the gain is not seen"
    clock.now += 1
    with pytest.raises(NodeListError):
        victim.draws(withheld, EVIL)


def test_an_old_list_is_no_use_against_a_client_that_has_none(clock):
    world = World(nodes=nodes_of(HONEST, clock), clock=clock)
    old = world.document()
    clock.now += EPOCH_S
    withheld = World(nodes=world.nodes, clock=clock)
    withheld.spoil_document = lambda _: old
    with pytest.raises(NodeListError):
        User(world, clock, 1).look(withheld)
