"""Steering: whoever carries requests or runs nodes wants one user's requests at nodes of theirs.

The client's own `Transport` draws and redraws; only what a node or a relay answers is simulated.
The target is sum C(T) / sum C(S): the share of capacity that the adversary's nodes have.
"""

import asyncio
import random
from types import SimpleNamespace

import pytest
from chances import chi_square_p, interval

from client import transport as module
from client.answer import Answer
from client.choice import MAX_REDRAWS, shares, steering_bound
from client.errors import IssuerError, RelayError
from client.transport import Transport

MODEL = "tiny"
DRAWS = 100_000
BUSY = b'{"error": {"code": "busy", "message": "busy"}}'


class Node:
    def __init__(self, name, capacity):
        self.key_document = SimpleNamespace(node=name, capacity=capacity, token_budget=0)


class Fleet:
    """The node list, and what becomes of a request at a node: "answer", "busy" or "drop"."""

    def __init__(self, nodes, fate=lambda _: "answer"):
        self.nodes, self.fate = [Node(*each) for each in nodes.items()], fate

    async def current(self):
        return self

    @property
    def listed(self):
        return self

    def serving(self, _model):
        return self.nodes

    def share(self, names):
        capacity = {node.key_document.node: node.key_document.capacity for node in self.nodes}
        return sum(capacity[name] for name in names) / sum(capacity.values())


class NoWallet:
    async def take(self, _count):
        return []

    async def blind(self, _count):
        raise IssuerError("the log vouches for no key")


class Simulated(Transport):
    """The client's transport, whose exchanges end as the fleet decides."""

    def __init__(self, fleet, generator):
        super().__init__(directory=fleet, wallet=NoWallet(), relay=None)
        self._fleet, self._uniform = fleet, generator.random
        self._pricing = SimpleNamespace(predict=lambda *_: 1)
        self.at = []

    async def _ask_once(self, node, carried, _passage):
        self.at.append(node.key_document.node)
        fate = self._fleet.fate(node.key_document.node)
        if fate == "drop":
            raise RelayError("the relay answered 502")
        return SimpleNamespace(fate=fate), carried

    def _answer(self, exchange, *_):
        if exchange.fate == "busy":
            return Answer(503, False, None, module.replay(BUSY), None)
        return Answer(200, False, None, module.replay(b"{}"), None)

    async def ask(self, tries=1):
        """Ask as a person does who asks again after an error; return the nodes that saw it."""
        self.at.clear()
        for _ in range(tries):
            try:
                await self.send(b"/", b"", model=MODEL, on_verdict=lambda _: None)
                break
            except RelayError:
                pass
        return list(self.at)


class Rerolling(Simulated):
    """Unsafe: a relay's error is followed by a new draw."""

    def _choose(self, appraisal, model):
        self._kept.clear()
        return super()._choose(appraisal, model)


@pytest.fixture(autouse=True)
def bare_checks(monkeypatch):
    monkeypatch.setattr(module, "ResponseCheck", lambda *_, **__: None)


def seen_by(names, make, fleet, *, requests, tries=1, seed=1):
    """How many of `requests`, one client each, any node of `names` gets to see."""
    generator = random.Random(seed)

    async def main():
        hits = 0
        for _ in range(requests):
            hits += not names.isdisjoint(await make(fleet, generator).ask(tries))
        return hits

    return asyncio.run(main())


def drawn(fleet, draws, generator):
    """Draw through one client's `_choose`; count by node."""
    client = Simulated(fleet, generator)
    counts = {}
    for _ in range(draws):
        name = client._choose(fleet, MODEL).node.key_document.node
        counts[name] = counts.get(name, 0) + 1
    return counts


def uneven(count=24):
    return {f"n{i}": (1, 2, 4, 8)[i % 4] for i in range(count)}


# ---- the law ----


def test_requests_fall_on_nodes_by_capacity_alone(report):
    """Unequal capacities, 100,000 draws: no node is clamped here, so the law is C(T) / C(S)."""
    fleet = Fleet(uneven())
    counts = drawn(fleet, DRAWS, random.Random(2))
    law = [fleet.share({node.key_document.node}) for node in fleet.nodes]
    p = chi_square_p([counts[node.key_document.node] for node in fleet.nodes], law)
    report(f"{DRAWS} draws over {len(law)} nodes: chi-square p = {p:.3f}")
    assert p > 0.01


def test_the_test_notices_a_node_that_draws_a_tenth_too_much():
    """The same test against a client that prefers one node of 24 by a tenth."""
    fleet = Fleet(uneven())
    law = [fleet.share({node.key_document.node}) for node in fleet.nodes]
    fleet.nodes[3].key_document.capacity *= 1.1
    counts = drawn(fleet, DRAWS, random.Random(2))
    p = chi_square_p([counts[node.key_document.node] for node in fleet.nodes], law)
    assert p < 1e-6


def test_joins_and_leaves_leave_the_law_as_it_is():
    """In each epoch another list; within it the law holds, so expected counts add up."""
    fleet, generator = Fleet(uneven()), random.Random(3)
    everyone = fleet.nodes
    expected = dict.fromkeys([node.key_document.node for node in everyone], 0.0)
    seen = dict.fromkeys(expected, 0)
    for _ in range(50):
        fleet.nodes = [node for node in everyone if generator.random() < 0.8]
        capacities = [node.key_document.capacity for node in fleet.nodes]
        for node, share in zip(fleet.nodes, shares(capacities), strict=True):
            expected[node.key_document.node] += share / 50
        for name, count in drawn(fleet, DRAWS // 50, generator).items():
            seen[name] += count
    # Strata only make the counts steadier than one multinomial draw: p can be too large, not
    # too small.
    assert chi_square_p([seen[name] for name in expected], list(expected.values())) > 0.01


def test_one_users_requests_are_as_independent_as_two_users():
    """Nothing of the last request leans on the next: pairs fall as the product of the law."""
    fleet = Fleet({"a": 1, "b": 1, "c": 2, "d": 2, "e": 2, "f": 1})
    client, names = Simulated(fleet, random.Random(4)), list("abcdef")
    line = [client._choose(fleet, MODEL).node.key_document.node for _ in range(20_000)]
    pairs = {(x, y): 0 for x in names for y in names}
    for pair in zip(line[::2], line[1::2], strict=True):
        pairs[pair] += 1
    law = [fleet.share({x}) * fleet.share({y}) for x, y in pairs]
    assert chi_square_p(list(pairs.values()), law) > 0.01


# ---- a relay that drops what does not go where it wants ----


def hostile_relay(names, evil):
    return Fleet(names, lambda node: "answer" if node in evil else "drop")


def test_a_relay_that_drops_gains_nothing_though_a_person_asks_five_times():
    evil = {"n3", "n7"}
    fleet = hostile_relay(uneven(), evil)
    hits = seen_by(evil, Simulated, fleet, requests=4_000, tries=5)
    low, high = interval(hits, 4_000)
    assert low <= fleet.share(evil) <= high


def test_a_client_that_draws_again_after_an_error_is_steered():
    evil = {"n3", "n7"}
    fleet = hostile_relay(uneven(), evil)
    hits = seen_by(evil, Rerolling, fleet, requests=2_000, tries=5)
    assert interval(hits, 2_000)[0] > fleet.share(evil) * 2


# ---- refusals: duplication, pulling, priority, prediction and instance flip, from outside ----


def flooded(names, evil):
    """Every other node is kept busy, so that its true refusals make room for the adversary's."""
    return Fleet(names, lambda node: "answer" if node in evil else "busy")


def test_refusals_buy_what_the_documents_state_and_no_more(report):
    evil = {"n3", "n7"}
    fleet = flooded(uneven(), evil)
    share = fleet.share(evil)
    low, high = interval(seen_by(evil, Simulated, fleet, requests=4_000), 4_000)
    bound = steering_bound(share, MAX_REDRAWS)
    report(f"share {share:.3f}, all others busy: {low:.3f} to {high:.3f}, stated {bound:.3f}")
    assert low <= bound <= high


def test_a_client_that_redraws_without_end_is_steered(monkeypatch):
    monkeypatch.setattr(module, "MAX_REDRAWS", 50)
    evil = {"n3", "n7"}
    fleet = flooded(uneven(), evil)
    hits = seen_by(evil, Simulated, fleet, requests=1_000)
    assert interval(hits, 1_000)[0] > steering_bound(fleet.share(evil)) * 1.5


def test_a_refusing_adversary_is_not_asked_more_often_than_others():
    """Whoever refuses first hands the request on; the law of a first try does not change."""
    evil = {"n3", "n7"}
    fleet = Fleet(uneven(), lambda node: "busy" if node in evil else "answer")
    generator, firsts = random.Random(6), 0

    async def main():
        nonlocal firsts
        for _ in range(4_000):
            firsts += (await Simulated(fleet, generator).ask())[0] in evil

    asyncio.run(main())
    low, high = interval(firsts, 4_000)
    assert low <= fleet.share(evil) <= high
