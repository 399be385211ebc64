"""A node appraised offline from what the relay serves, a trust file and a policy."""

import base64
import time
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from serving import serving
from simulator import ACCOUNT_KEY, EPOCH_S, Node, World, quote_afresh, refuse
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from attestation.verifier.policy import ClientPolicy
from client.proxy import ProxyConfig, build_app
from transparency.note import Note
from transparency.proof import LogProof

ACCEPTING = b'accepted-weaknesses = ["simulated", "compute-unverified"]'


@pytest.fixture
def world():
    return World()


@pytest.fixture
def files(world):
    now = int(time.time())
    return {
        "trust": world.trust_text().encode(),
        "nodes": world.document(now),
        "policy": ACCEPTING,
        "at": rfc3339(now),
    }


def rfc3339(seconds):
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_a_node_is_appraised_as_a_client_does(verify, world, files):
    ended = verify("node", **files)
    assert ended.code == 0, ended.output
    assert ended.json["kind"] == "node"
    assert ended.json["node"] == world.nodes[0].id
    assert ended.json["weaknesses"] == ["compute-unverified", "simulated"]
    assert ended.json["warnings"][1] == "SIMULATED: proves nothing about hardware"
    names = [step["step"] for step in ended.json["verification"]]
    assert names[:3] == ["log-checkpoint", "log-consistency", "node-list"]
    assert {step["outcome"] for step in ended.json["verification"]} == {"pass"}


def test_without_a_time_it_is_now(verify, files, monkeypatch):
    then = datetime.fromisoformat(files["at"]).timestamp()
    monkeypatch.setattr("sottovoce.commands.verify.time", SimpleNamespace(time=lambda: then + 0.5))
    assert verify("node", **{**files, "at": None}).code == 0


def test_the_default_policy_accepts_no_simulated_node(verify, files):
    ended = verify("node", **{**files, "policy": None})
    assert (ended.code, ended.error) == (1, "platform-refused")
    shown = verify("node", as_json=False, **{**files, "policy": None})
    assert "log-checkpoint" in shown.output
    assert "not reached" in shown.output
    assert "advice" in shown.output


def test_a_bundle_of_its_own(verify, world, files):
    assert verify("node", bundle=world.nodes[0].bundle, **files).code == 0
    ended = verify("node", bundle=Node("another").bundle, **files)
    assert (ended.code, ended.error) == (1, "key-document-not-logged")
    ended = verify("node", bundle=b"x", **files)
    assert (ended.code, ended.error) == (1, "bundle-malformed")


def test_one_of_several_is_named(verify):
    world = World(nodes=[Node("one"), Node("two")])
    now = int(time.time())
    files = {
        "trust": world.trust_text().encode(),
        "nodes": world.document(now),
        "policy": ACCEPTING,
        "at": rfc3339(now),
    }
    assert verify("node", **files).code == 2
    assert verify("node", node="00" * 32, **files).code == 2
    ended = verify("node", node=world.nodes[1].id, **files)
    assert (ended.code, ended.json["node"]) == (0, world.nodes[1].id)


def test_statements_that_do_not_hold(verify, world, files):
    then = int(datetime.fromisoformat(files["at"]).timestamp())
    later = rfc3339(then + EPOCH_S)
    ended = verify("node", **{**files, "at": later})
    assert (ended.code, ended.error) == (1, "stale_epoch")
    ended = verify("node", **{**files, "nodes": world.document(then, cosigners=1)})
    assert (ended.code, ended.error) == (1, "quorum_missing")
    ended = verify("node", **{**files, "nodes": b"{}"})
    assert (ended.code, ended.error) == (1, "malformed")


def test_the_policy_may_want_a_younger_checkpoint_than_the_trust_file(verify, world, files):
    strict = ACCEPTING + b"\nmax-checkpoint-age-s = 60"
    then = int(datetime.fromisoformat(files["at"]).timestamp())
    old = world.document(then, cosigned_at=then - 120)
    assert verify("node", **{**files, "nodes": old}).code == 0
    ended = verify("node", **{**files, "nodes": old, "policy": strict})
    assert (ended.code, ended.error) == (1, "quorum_missing")


@pytest.mark.parametrize("name", ["trust", "policy"])
def test_files_that_are_not_what_they_should_be(verify, files, name):
    for content in (b"x", b"\xff"):
        ended = verify("node", **{**files, name: content})
        assert (ended.code, ended.error) == (2, "unusable-arguments")


def proven(world):
    """A checkpoint, and a log proof of the first leaf under it."""
    size = len(world.leaves)
    note = world.note(size, 3, int(time.time()))
    proof = LogProof(0, world.tree.inclusion_proof(0, size), note)
    return note, proof.encode().encode()


def test_a_checkpoint_is_judged_by_the_trust_file(verify, world):
    trust = world.trust_text().encode()
    note, _ = proven(world)
    ended = verify("log", trust=trust, checkpoint=note)
    assert ended.code == 0, ended.output
    assert (ended.json["origin"], ended.json["size"]) == (world.origin, len(world.leaves))
    assert ended.outcome("log-inclusion") == ended.outcome("log-consistency") == "skip"
    text = Note.parse(note).text
    ended = verify("log", trust=trust, checkpoint=Note(text, ()).encode() + b"\n")
    assert ended.code == 1
    ended = verify("log", trust=trust, checkpoint=b"x")
    assert (ended.code, ended.error) == (1, "malformed")
    ended = verify("log", trust=trust, checkpoint=note, at="2001-01-01T00:00:00Z")
    assert (ended.code, ended.error) == (1, "quorum_missing")


def test_a_leaf_has_its_place_under_the_checkpoint(verify, world):
    trust = world.trust_text().encode()
    note, proof = proven(world)
    ended = verify("log", trust=trust, checkpoint=proof, leaf=world.leaves[0])
    assert (ended.code, ended.outcome("log-inclusion"), ended.json["index"]) == (0, "pass", 0)
    ended = verify("log", trust=trust, checkpoint=proof, leaf=world.leaves[1])
    assert (ended.code, ended.error) == (1, "not_included")
    ended = verify("log", trust=trust, checkpoint=note, leaf=world.leaves[0])
    assert (ended.code, ended.error) == (1, "malformed")
    ended = verify("log", trust=trust, checkpoint=b"c2sp.org/tlog-proof\xff", leaf=b"x")
    assert (ended.code, ended.error) == (1, "malformed")


def test_a_log_that_continues_and_one_that_forked(verify, world):
    trust = world.trust_text().encode()
    older = world.note(2, 1, int(time.time()))
    note, _ = proven(world)
    hashes = world.tree.consistency_proof(2, len(world.leaves))
    lines = b"".join(base64.b64encode(each) + b"\n" for each in hashes)
    options = {"trust": trust, "checkpoint": note, "older": older}
    ended = verify("log", consistency=lines, **options)
    assert (ended.code, ended.outcome("log-consistency")) == (0, "pass")
    for wrong in (None, lines[:-45], b"\xff"):
        assert verify("log", consistency=wrong, **options).code == 1
    other = World()
    ended = verify("log", **{**options, "older": other.note(len(other.leaves), 1, 1)})
    assert (ended.code, ended.error) == (1, "inconsistent")
    shown = verify("log", as_json=False, **{**options, "older": older})
    assert "publish them" in " ".join(shown.output.split())


@pytest.fixture
def proxy(world, tmp_path):
    policy = ClientPolicy(frozenset({"simulated", "compute-unverified"}))
    with serving(world.app()) as url:
        config = ProxyConfig(world.trust(), policy, url, url, ACCOUNT_KEY, tmp_path)
        with serving(build_app(config)) as proxy_url:
            yield proxy_url


def test_a_node_is_asked_afresh_through_the_proxy(verify, world, files, proxy):
    world.nodes[0].answers = [quote_afresh()]
    ended = verify("node", fresh=proxy, **{**files, "at": None})
    assert ended.code == 0, ended.output
    assert ended.outcome("freshness") == "pass"
    [opened] = world.nodes[0].seen
    assert opened.request.path == b"/v1/attestation"


def test_a_quote_that_is_not_fresh(verify, world, files, proxy):
    world.nodes[0].answers = [quote_afresh(lambda _: bytes(32)), refuse(503, "busy")]
    ended = verify("node", fresh=proxy, **{**files, "at": None})
    assert (ended.code, ended.error) == (1, "nonce-mismatch")
    assert verify("node", fresh=proxy, **{**files, "at": None}).code == 2


def test_a_proxy_that_cannot_be_asked(verify, world, files):
    nothing = Starlette(routes=[])
    long = Starlette(routes=[Route("/v1/attestation", lambda _: Response(bytes(2 << 20)))])
    options = {**files, "at": None}
    assert verify("node", fresh="http://proxy.invalid", **options).code == 2
    assert verify("node", fresh="http://127.0.0.1:9", **options).code == 2
    for app in (nothing, long):
        with serving(app) as url:
            assert verify("node", fresh=url, **options).code == 2
    with serving(nothing) as url:
        assert verify("node", fresh=url, **files).code == 2
        assert verify("node", fresh=url, bundle=world.nodes[0].bundle, **options).code == 2
