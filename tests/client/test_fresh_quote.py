"""A nonce of the client's reaches the node's hardware, or the client notices that it did not."""

import os
import time

import httpx
import pytest
from serving import serving
from simulator import ACCOUNT_KEY, Node, World, quote_afresh, refuse, seed

from attestation.attester.simulated import SimulatedAttester
from attestation.errors import AppraisalError, Code
from attestation.report_data import NO_NONCE
from attestation.verdict import Outcome
from attestation.verifier.fresh import appraise_fresh
from attestation.verifier.policy import ClientPolicy
from client.appraisal import reference_of
from client.errors import QuoteRefused, RelayError
from client.proxy import ProxyConfig, build_app

POLICY = ClientPolicy(frozenset({"simulated", "compute-unverified"}))
NONCE = b"\x6e" * 32


def ask_afresh(run, world, nonce=None):
    """Ask the first node through the relay, and appraise what comes back."""
    nonce = os.urandom(32) if nonce is None else nonce

    async def scenario(client):
        appraisal = await client.directory.current()
        node = next(each for each in appraisal.nodes if each.node == world.nodes[0].id)
        bundle = await client.transport.attest(node, nonce)
        return appraise_fresh(
            bundle,
            node=node.node,
            nonce=nonce,
            policy=POLICY,
            reference=reference_of(appraisal.listed, world.trust()),
            at=int(time.time()),
        )

    return run(scenario)


def code(run, world, nonce=None):
    with pytest.raises(AppraisalError) as caught:
        ask_afresh(run, world, nonce)
    return caught.value.step, caught.value.code


def test_the_nonce_that_was_sent_is_the_one_in_the_quote(run, world):
    world.nodes[0].answers = [quote_afresh()]
    node, step = ask_afresh(run, world, NONCE)
    assert node.node == world.nodes[0].id
    assert (step.step, step.outcome) == ("freshness", Outcome.PASS)
    [opened] = world.nodes[0].seen
    assert opened.request.query == b"nonce=" + NONCE.hex().encode()
    assert len(opened.request.tokens) == 1


def test_an_attester_that_ignores_the_nonce(run, world):
    world.nodes[0].answers = [quote_afresh(lambda _: NO_NONCE)]
    assert code(run, world) == ("report-data", Code.NONCE_MISMATCH)


def test_an_attester_that_replays_an_older_fresh_quote(run, world):
    world.nodes[0].answers = [quote_afresh(lambda _: NONCE)]
    assert code(run, world) == ("report-data", Code.NONCE_MISMATCH)


def test_a_nonce_that_differs_in_one_bit(run, world):
    world.nodes[0].answers = [quote_afresh(lambda nonce: nonce[:31] + bytes([nonce[31] ^ 1]))]
    assert code(run, world) == ("report-data", Code.NONCE_MISMATCH)


def test_the_fresh_quote_of_another_node_in_the_log(run, world):
    world.nodes.append(Node("another"))
    world.nodes[0].answers = [quote_afresh(of=world.nodes[1])]
    assert code(run, world) == ("freshness", Code.NODE_MISMATCH)


def test_the_fresh_quote_of_hardware_that_nobody_pinned(run, world):
    stranger = SimulatedAttester(seed("a stranger"), b"\x4d" * 32)
    world.nodes[0].answers = [quote_afresh(attester=stranger)]
    assert code(run, world) == ("quote-signature", Code.QUOTE_ROOT_UNKNOWN)


def test_the_logged_bundle_is_not_appraised_as_a_fresh_one(run, world):
    world.nodes[0].answers = [quote_afresh()]
    with pytest.raises(ValueError, match="no nonce"):
        ask_afresh(run, world, NO_NONCE)


def test_a_node_that_refuses_says_why_and_gives_the_token_back(run, world):
    world.nodes[0].answers = [refuse(503, "busy", sign=world.issuer_key.blind_sign)]

    async def scenario(client):
        [node] = (await client.directory.current()).nodes
        before = len(client.wallet)
        with pytest.raises(QuoteRefused, match="busy"):
            await client.transport.attest(node, NONCE)
        return before, len(client.wallet), client.wallet.given_back

    assert run(scenario) == (16, 16, 1)


def test_a_relay_that_drops_the_request_moves_no_later_prompt_to_another_node(run, world):
    world.relay_status = 502

    async def scenario(client):
        [node] = (await client.directory.current()).nodes
        with pytest.raises(RelayError):
            await client.transport.attest(node, NONCE)
        return client.transport._kept

    assert run(scenario) == {}


@pytest.fixture
def proxy(tmp_path):
    world = World()
    with serving(world.app()) as url:
        config = ProxyConfig(world.trust(), POLICY, url, url, ACCOUNT_KEY, tmp_path)
        with serving(build_app(config)) as proxy_url:
            yield world, f"{proxy_url}/v1/attestation"


def test_the_proxy_passes_the_evidence_on_to_who_made_the_nonce(proxy):
    world, url = proxy
    world.nodes[0].answers = [quote_afresh(), refuse(503, "busy")]
    parameters = {"node": world.nodes[0].id, "nonce": NONCE.hex()}
    answer = httpx.get(url, params=parameters, trust_env=False)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/cmw+json"
    busy = httpx.get(url, params=parameters, trust_env=False)
    assert (busy.status_code, busy.json()["error"]["code"]) == (503, "quote_refused")


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"nonce": "6e"}, 400),
        ({"nonce": "6E" * 32}, 400),
        ({"node": "x"}, 400),
        ({"node": "00" * 32}, 503),
    ],
)
def test_the_proxy_asks_nobody_for_what_cannot_be(proxy, changed, status):
    world, url = proxy
    parameters = {"node": world.nodes[0].id, "nonce": NONCE.hex(), **changed}
    assert httpx.get(url, params=parameters, trust_env=False).status_code == status
    assert not world.nodes[0].seen
