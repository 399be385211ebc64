"""The node list and the evidence in it: every lie of log, list or node has its name."""

import base64
import json
import time

import pytest
from simulator import ACCOUNT_KEY, EPOCH_S, MEASUREMENT, Node, World, seed

from attestation.attester.base import Evidence
from attestation.attester.simulated import SimulatedAttester
from attestation.verdict import Outcome
from attestation.verifier.node import STEPS
from client.errors import NodeListError, NoNode
from wire import canonical_json


def nodes_error(run, **options):
    async def scenario(client):
        with pytest.raises(NodeListError) as refused:
            await client.directory.current()
        return refused.value

    return run(scenario, filled=False, **options)


def changed(change):
    """Spoil a document by a change to its parsed form."""

    def spoil(document):
        members = json.loads(document)
        change(members)
        return canonical_json.encode(members)

    return spoil


def flip(text):
    data = bytearray(base64.b64decode(text))
    data[len(data) // 2] ^= 1
    return base64.b64encode(bytes(data)).decode()


def flip_list_proof(members):
    members["list"]["proof"][0] = flip(members["list"]["proof"][0])


def flip_release(members):
    members["leaves"][0]["leaf"] = flip(members["leaves"][0]["leaf"])


def flip_bundle(members):
    [node] = members["bundles"]
    members["bundles"][node] = flip(members["bundles"][node])


def drop_bundle(members):
    members["bundles"] = {}


def drop_cosignatures(members):
    text, _, lines = members["checkpoint"].partition("\n\n")
    members["checkpoint"] = f"{text}\n\n" + lines.splitlines(keepends=True)[0]


def change_root(members):
    lines = members["checkpoint"].split("\n")
    lines[2] = flip(lines[2])
    members["checkpoint"] = "\n".join(lines)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (flip_list_proof, "not_included"),
        (flip_release, "not_included"),
        (flip_bundle, "wrong_bundle"),
        (drop_bundle, "wrong_list"),
        (drop_cosignatures, "quorum_missing"),
        (change_root, "bad_signature"),
    ],
)
def test_a_tampered_log_proof_is_refused_by_name(run, world, change, code):
    world.spoil_document = changed(change)
    assert nodes_error(run).code == code


@pytest.mark.parametrize("spoil", [lambda d: d[:-1], lambda d: d + b" ", lambda _: b""])
def test_a_document_in_another_form_is_refused(run, world, spoil):
    world.spoil_document = spoil
    assert nodes_error(run).code == "malformed"


def test_a_list_of_another_epoch_is_refused(run, world, monkeypatch):
    monkeypatch.setattr("client.nodes.RETRY_PAUSE_S", 0.0)
    old = world.document(int(time.time()) - EPOCH_S)
    world.spoil_document = lambda _: old
    assert nodes_error(run).code == "stale_epoch"


def test_a_log_that_rolls_back_is_refused_with_both_checkpoints(run, world, tmp_path):
    async def look(client):
        return await client.directory.current()

    earlier = world.document()
    world.nodes.append(Node("later"))
    world._listed.clear()
    run(look, filled=False, state=tmp_path / "seen")
    world.spoil_document = lambda _: earlier
    error = nodes_error(run, state=tmp_path / "seen")
    assert error.code == "rolled_back"
    assert error.__cause__.older
    assert error.__cause__.newer


def test_a_log_that_shows_two_lists_for_one_epoch_is_refused(run, world, tmp_path):
    async def look(client):
        return await client.directory.current()

    run(look, filled=False, state=tmp_path / "seen")
    world.nodes.append(Node("second"))
    world._listed.clear()
    assert nodes_error(run, state=tmp_path / "seen").code == "two_lists"


def refusals(run):
    async def scenario(client):
        appraisal = await client.directory.current()
        with pytest.raises(NoNode):
            appraisal.serving("tiny")
        return appraisal

    return run(scenario, filled=False)


def failed_step(refused):
    [step] = [step for step in refused.verdict.steps if step.outcome is Outcome.FAIL]
    return step.step


@pytest.mark.parametrize(
    ("attester", "step"),
    [
        (SimulatedAttester(seed("another platform"), MEASUREMENT), "quote-signature"),
        (SimulatedAttester(seed("platform"), bytes(32)), "measurement"),
    ],
)
def test_a_node_with_false_evidence_is_never_drawn(run, world, attester, step):
    world.nodes[:] = [Node(attester=attester)]
    appraisal = refusals(run)
    assert [failed_step(refused) for refused in appraisal.refused] == [step]


def test_a_tampered_quote_is_never_drawn(run, world):
    class Tampering:
        platform = "simulated"

        def attest(self, report_data):
            honest = SimulatedAttester(seed("platform"), MEASUREMENT).quote(report_data)
            return Evidence(honest[:-1] + bytes([honest[-1] ^ 1]))

    world.nodes[:] = [Node(attester=Tampering())]
    assert [failed_step(refused) for refused in refusals(run).refused] == ["quote-signature"]


def test_a_quote_for_other_keys_is_never_drawn(run, world):
    class Replaying:
        platform = "simulated"

        def attest(self, _):
            return SimulatedAttester(seed("platform"), MEASUREMENT).attest(bytes(64))

    world.nodes[:] = [Node(attester=Replaying())]
    assert [failed_step(refused) for refused in refusals(run).refused] == ["report-data"]


def test_a_capacity_that_the_key_document_does_not_state_is_noticed(run, world):
    node = world.nodes[0]
    honest = node.row()
    node.row = lambda: honest._replace(capacity=8)
    assert [failed_step(refused) for refused in refusals(run).refused] == ["node-list-entry"]


@pytest.mark.parametrize("accepted", [frozenset(), frozenset({"simulated"})])
def test_no_weaker_node_is_drawn_unless_the_policy_names_the_weakness(run, accepted):
    async def scenario(client):
        return await client.directory.current()

    appraisal = run(scenario, filled=False, accepted=accepted)
    assert not appraisal.nodes
    assert len(appraisal.refused) == 1


def test_simulated_nodes_have_no_place_in_a_real_log(run, world):
    real = World(origin="log.test.invalid/real")
    world.__dict__.update(real.__dict__)
    assert [failed_step(refused) for refused in refusals(run).refused] == ["log-origin"]


def test_the_verdict_names_every_step_and_skips_none_silently(run):
    async def scenario(client):
        return (await client.directory.current()).to_json()

    [node] = run(scenario, filled=False)
    names = [step["step"] for step in node["steps"]]
    assert names[:3] == ["log-checkpoint", "log-consistency", "node-list"]
    assert len(names) == len(set(names)) == 3 + len(STEPS)
    assert {step["outcome"] for step in node["steps"]} == {"pass"}
    assert ACCOUNT_KEY not in json.dumps(node)
