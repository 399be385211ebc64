"""Steering through the list: whoever makes or carries it cannot send one client to one node.

Each lie has its code. What a log says against itself is written to a file that others can check.
"""

import asyncio
import base64
import json
import random
from collections import Counter

import httpx
import pytest
from simulator import EPOCH_S, ORIGIN, Node, World, public, signing_key

from attestation.attester.simulated import SimulatedAttester
from attestation.verdict import Outcome
from attestation.verifier.policy import ClientPolicy
from client.choice import MAX_SHARE, draw, shares
from client.errors import NodeListError, NoNode
from client.nodes import OUTAGE_S, NodeDirectory
from transparency.errors import NotConvicting
from transparency.leaf import Leaf, NodeListLeaf, sign_leaf
from transparency.misbehaviour import Misbehaviour, check_misbehaviour
from transparency.note import VerifierKey
from wire import canonical_json
from wire.merkle import leaf_hash

NOW = 1_800_000_100
ACCEPTED = frozenset({"simulated", "compute-unverified"})
MODEL = "tiny"


class Clock:
    def __init__(self, now=NOW):
        self.now = now

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("client.nodes.RETRY_PAUSE_S", 0.0)
    return clock


def world_of(clock, *names, **nodes):
    made = [Node(name, now=clock()) for name in names]
    made += [Node(name, capacity=capacity, now=clock()) for name, capacity in nodes.items()]
    return World(nodes=made, clock=clock)


class Client:
    """What stays of one client from request to request: its memory, and the file beside it."""

    def __init__(self, clock, folder, name="client"):
        self.clock = clock
        self.state = folder / name / "checkpoint.json"
        self.state.parent.mkdir()
        self._directories = {}

    def look(self, world, *, restarted=False):
        """Ask for the list; return the appraisal."""

        async def main():
            transport = httpx.ASGITransport(world.app())
            async with httpx.AsyncClient(transport=transport) as http:
                if restarted or not self._directories:
                    self._directories[0] = self._directory(world, http)
                directory = self._directories[0]
                directory._http, directory._fetching = http, asyncio.Lock()
                return await directory.current()

        return asyncio.run(main())

    def _directory(self, world, http):
        return NodeDirectory(
            trust=world.trust(),
            policy=ClientPolicy(accepted_weaknesses=ACCEPTED),
            relay_url="http://relay",
            http=http,
            state=self.state,
            clock=self.clock,
        )

    def refusal(self, world, **options):
        with pytest.raises(NodeListError) as refused:
            self.look(world, **options)
        return refused.value

    def proofs(self):
        files = sorted(self.state.parent.glob("proof-*.json"))
        return [Misbehaviour.decode(path.read_bytes()) for path in files]


@pytest.fixture
def client(clock, tmp_path):
    return Client(clock, tmp_path)


def listed(appraisal):
    return {row.node for row in appraisal.listed.nodes}


def edited(change):
    def spoil(document):
        members = json.loads(document)
        change(members)
        return canonical_json.encode(members)

    return spoil


# ---- a log that says two things ----


def test_two_lists_for_one_epoch_are_refused_and_convict_the_log(client, clock):
    world = world_of(clock, "a", "b", "evil")
    client.look(world)
    world.nodes = world.nodes[2:]
    world._listed.clear()
    clock.now += 1
    error = client.refusal(world, restarted=True)
    assert error.code == "two_lists"
    [proof] = client.proofs()
    assert "proof-two_lists" in str(error)
    log_key = VerifierKey.parse(world.trust().log_policy.log_vkey)
    assert "2 node lists" in check_misbehaviour(proof, log_key, frozenset({public("list")}))


def test_a_victim_with_a_list_of_its_own_stands_under_a_tree_that_no_quorum_cosigns(
    clock, tmp_path
):
    """Two clients, two trees: the witnesses have cosigned the first, and cosign no fork."""
    world, fork = world_of(clock, "a", "b", "evil"), world_of(clock, "evil")
    Client(clock, tmp_path, "everybody").look(world)
    fork.spoil_document = lambda _: fork.document(cosigners=1)  # the one that colludes
    assert Client(clock, tmp_path, "victim").refusal(fork).code == "quorum_missing"


def test_a_victim_that_saw_the_honest_tree_holds_both_checkpoints(client, clock):
    """Even with all witnesses against it: what it saw yesterday does not go away."""
    world, fork = world_of(clock, "a", "b", "evil"), world_of(clock, "evil")
    seen = client.look(world).listed.seen
    clock.now += EPOCH_S
    for _ in range(4):
        clock.now += EPOCH_S
        fork.document()
    error = client.refusal(fork, restarted=True)
    assert error.code in {"inconsistent", "consistency_missing", "rolled_back"}
    [proof] = client.proofs()
    assert proof.checkpoints[0] == seen.checkpoint
    assert proof.checkpoints[1] != seen.checkpoint


def test_a_rolled_back_log_is_refused_with_both_checkpoints(client, clock):
    world = world_of(clock, "a")
    earlier = world.document()
    world.nodes.append(Node("later", now=clock()))
    world._listed.clear()
    client.look(world)
    world.spoil_document = lambda _: earlier
    assert client.refusal(world, restarted=True).code == "rolled_back"
    [proof] = client.proofs()
    assert len(proof.checkpoints) == 2
    log_key = VerifierKey.parse(world.trust().log_policy.log_vkey)
    with pytest.raises(NotConvicting):  # a cache could have done it
        check_misbehaviour(proof, log_key, frozenset())


# ---- a relay that edits what it carries ----


def without_a_node(members):
    members["bundles"].pop(min(members["bundles"]))


def without_a_node_and_its_leaf(members):
    node = min(members["bundles"])
    del members["bundles"][node]
    leaves = [(leaf, Leaf.decode(base64.b64decode(leaf["leaf"]))) for leaf in members["leaves"]]
    members["leaves"] = [
        leaf
        for leaf, decoded in leaves
        if decoded.type != "node" or bytes.fromhex(node) not in decoded.body
    ]


def without_a_statement(members):
    del members["leaves"][0]


def without_consistency(members):
    members["consistency"] = []


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (without_a_node, "wrong_list"),
        (without_a_node_and_its_leaf, "wrong_list"),
        (without_a_statement, "wrong_list"),
    ],
)
def test_a_list_that_omits_something_for_one_client_is_refused(client, clock, change, code):
    world = world_of(clock, "a", "b", "evil")
    world.spoil_document = edited(change)
    assert client.refusal(world).code == code


def unsorted_list(world):
    """The epoch's list in another order, signed by the list key all the same."""
    start = int(world.clock()) // EPOCH_S * EPOCH_S
    rows = tuple(sorted((node.row() for node in world.nodes), reverse=True))
    body = NodeListLeaf(start // EPOCH_S, start, start + EPOCH_S, rows, world.statements())
    honest = sign_leaf(NodeListLeaf(0, 0, 1, (), bytes(32)), signing_key("list"))
    message = b"sottovoce leaf v1\nnode-list\n" + body.encode()
    return Leaf(honest.type, body.encode(), signing_key("list").sign(message), honest.key)


def test_a_list_in_another_order_is_malformed(client, clock):
    world = world_of(clock, "a", "b", "c")
    for node in world.nodes:
        world.add_leaf(node.leaf())
    index = len(world.leaves)
    leaf = unsorted_list(world)
    world.leaves.append(leaf.encode())
    world.tree.append(leaf_hash(leaf.encode()))
    world._listed[clock.now // EPOCH_S] = index
    assert client.refusal(world).code == "malformed"


# ---- capacities that lie ----


def test_a_capacity_beyond_the_key_documents_is_noticed(client, clock):
    world = world_of(clock, "a", "liar")
    liar = world.nodes[1]
    honest = liar.row()
    liar.row = lambda: honest._replace(capacity=8)
    appraisal = client.look(world)
    [refused] = appraisal.refused
    [failed] = [step for step in refused.verdict.steps if step.outcome is Outcome.FAIL]
    assert (refused.node, failed.step) == (liar.id, "node-list-entry")


def test_a_capacity_that_all_agree_on_draws_no_more_than_the_maximum(client, clock):
    """The greatest class, rightly logged by nodes that lie about their size: clamped."""
    names = {f"small{i}": 1 for i in range(15)}
    world = world_of(clock, **names, huge=8)
    nodes = client.look(world).serving(MODEL)
    capacities = [node.key_document.capacity for node in nodes]
    assert max(shares(capacities)) == pytest.approx(MAX_SHARE)
    generator = random.Random(11)
    drawn = Counter(draw(capacities, generator.random) for _ in range(20_000))
    assert drawn[capacities.index(8)] / 20_000 == pytest.approx(MAX_SHARE, abs=0.02)


# ---- time ----


def test_a_stale_list_is_refused(client, clock):
    world = world_of(clock, "a")
    old = world.document(clock.now - EPOCH_S)
    world.spoil_document = lambda _: old
    assert client.refusal(world).code == "stale_epoch"


def test_a_list_of_the_future_is_refused(client, clock):
    world = world_of(clock, "a")
    ahead = world.document(clock.now + EPOCH_S, cosigned_at=clock.now)
    world.spoil_document = lambda _: ahead
    assert client.refusal(world).code == "stale_epoch"


def test_old_cosignatures_do_not_count(client, clock):
    world = world_of(clock, "a")
    old = world.document(cosigned_at=clock.now - 86_401)
    world.spoil_document = lambda _: old
    assert client.refusal(world).code == "quorum_missing"


@pytest.mark.parametrize("outage", ["relay answers 503", "an old list from a cache"])
def test_an_outage_of_an_hour_harms_nobody_who_has_a_list(client, clock, tmp_path, outage):
    world = world_of(clock, "a", "b")
    before = client.look(world)
    end = (clock.now // EPOCH_S + 1) * EPOCH_S
    held = world.document() if "cache" in outage else 503
    world.spoil_document = lambda _: held
    for clock.now in range(end, end + OUTAGE_S, 300):
        appraisal = client.look(world)
        assert listed(appraisal) == listed(before)
        assert len(appraisal.serving(MODEL)) == 2
        last = appraisal.log_steps[-1]
        assert (last.step, last.outcome) == ("node-list-age", Outcome.SKIP)
    clock.now = end + OUTAGE_S
    assert client.refusal(world).code in {"unavailable", "stale_epoch"}
    world.spoil_document = None
    assert [step.outcome for step in client.look(world).log_steps] == [Outcome.PASS] * 3
    # Who has no list of its own takes none but the present one.
    clock.now += EPOCH_S
    world.spoil_document = lambda _: held
    code = Client(clock, tmp_path, "new").refusal(world).code
    assert code in {"unavailable", "stale_epoch"}


def test_a_held_list_loses_the_nodes_whose_keys_run_out(client, clock):
    world = world_of(clock, "a")
    node = world.nodes[0]
    clock.now = (node.document.not_after // EPOCH_S - 1) * EPOCH_S
    assert client.look(world).serving(MODEL)
    world.spoil_document = lambda _: 503
    clock.now = node.document.not_after - 1
    assert client.look(world).serving(MODEL)
    clock.now += 1
    with pytest.raises(NoNode):
        client.look(world).serving(MODEL)


def test_during_an_outage_the_relay_is_asked_now_and_then_only(client, clock):
    world = world_of(clock, "a")
    client.look(world)
    asked = []
    world.spoil_document = lambda _: asked.append(clock.now) or 503
    clock.now = (clock.now // EPOCH_S + 1) * EPOCH_S
    for _ in range(60):
        client.look(world)
        clock.now += 1
    assert len([at for at in asked if at > min(asked)]) <= 6


def test_a_contradiction_is_no_outage(client, clock):
    world, fork = world_of(clock, "a"), world_of(clock, "b", "c")
    client.look(world)
    clock.now += EPOCH_S
    assert client.refusal(fork).code == "inconsistent"


# ---- simulated nodes ----


class Pretending(SimulatedAttester):
    """The simulator under another platform's name."""

    platform = "tdx"


def test_simulated_nodes_beside_real_ones_spoil_the_list(client, clock):
    world = world_of(clock, "a")
    real = Pretending(b"s" * 32, b"m" * 32)
    world.nodes.append(Node("real", attester=real, now=clock()))
    assert client.refusal(world).code == "simulated_beside_real"
    assert ORIGIN.endswith(".simulated")


def test_a_simulated_node_in_a_real_log_is_never_drawn(client, clock):
    world = World(nodes=[Node("a", now=clock())], origin="log.test.invalid/real", clock=clock)
    appraisal = client.look(world)
    [refused] = appraisal.refused
    failed = [s.step for s in refused.verdict.steps if s.outcome is Outcome.FAIL]
    assert failed == ["log-origin"]


# ---- a client that was away ----


def test_a_client_that_was_away_for_days_finds_its_own_way_back(client, clock):
    world = world_of(clock, "a")
    client.look(world)
    for i in range(300):
        world.add_leaf(Node(f"gone{i}", now=clock()).leaf() if i < 3 else filler(i))
    clock.now += 3 * 86_400
    world.nodes = [Node("b", now=clock())]
    world.spoil_document = edited(without_consistency)
    assert len(client.look(world, restarted=True).nodes) == 1
    assert 0 < len(world.tiles_read) <= 4


def test_tiles_of_a_fork_lead_nobody_back(client, clock):
    world, fork = world_of(clock, "a"), world_of(clock, "b")
    client.look(world)
    for i in range(20):
        fork.add_leaf(filler(i))
    clock.now += 3 * 86_400
    fork.nodes = [Node("c", now=clock())]
    fork.spoil_document = edited(without_consistency)
    assert client.refusal(fork, restarted=True).code == "inconsistent"
    assert [len(proof.checkpoints) for proof in client.proofs()] == [2]


def filler(number):
    start = number * EPOCH_S
    body = NodeListLeaf(number, start, start + EPOCH_S, (), bytes(32))
    return sign_leaf(body, signing_key("list"))
