"""Fresh evidence: made for this nonce, by this node; whatever else is passed off for it."""

import hashlib

import pytest

from attestation.attester.base import make_bundle
from attestation.errors import AppraisalError, Code, Refused
from attestation.report_data import NO_NONCE, report_data
from attestation.verdict import Outcome
from attestation.verifier.fresh import STEP, appraise_fresh
from attestation.verifier.node import STEPS, _check_report_data, _decode
from attestation.verifier.policy import ClientPolicy
from attestation.verifier.weakness import Weakness
from tests.attestation.conftest import NOW, SimulatedNode

NONCE = b"\x6e" * 32
POLICY = ClientPolicy(frozenset({Weakness.SIMULATED}))


class Lying:
    """An attester that quotes other report data than it was given."""

    def __init__(self, attester, lie):
        self.platform, self._attester, self._lie = attester.platform, attester, lie

    def attest(self, data):
        return self._attester.attest(self._lie(data))


def lying(node, lie):
    """The node's bundle for the nonce, by an attester that lies."""
    return make_bundle(
        Lying(node.attester, lie),
        key_document=node.key_document,
        engine_policy=node.engine_policy,
        nonce=NONCE,
    )


def appraised(node, bundle, *, name=None, nonce=NONCE, reference=None):
    return appraise_fresh(
        bundle.encode(),
        node=name or node.key_document.node,
        nonce=nonce,
        policy=POLICY,
        reference=reference or node.reference,
        at=NOW,
    )


def refused(*args, **kwargs):
    with pytest.raises(AppraisalError) as caught:
        appraised(*args, **kwargs)
    return caught.value


def test_evidence_over_our_nonce_is_fresh():
    node = SimulatedNode()
    found, step = appraised(node, node.bundle(NONCE))
    assert found.node == node.key_document.node
    assert (step.step, step.outcome) == (STEP, Outcome.PASS)


@pytest.mark.parametrize(
    "lie",
    [
        lambda data: data[:32] + NO_NONCE,
        lambda data: data[:32] + b"\x01" * 32,
        lambda data: data[:63] + bytes([data[63] ^ 1]),
    ],
    ids=["ignored", "replayed", "one bit"],
)
def test_an_attester_that_quotes_another_nonce(lie):
    node = SimulatedNode()
    error = refused(node, lying(node, lie))
    assert (error.step, error.code) == ("report-data", Code.NONCE_MISMATCH)


def test_an_attester_that_quotes_other_keys():
    node = SimulatedNode()
    error = refused(node, lying(node, lambda _: report_data(bytes(32), (), NONCE)))
    assert (error.step, error.code) == ("report-data", Code.REPORT_DATA_MISMATCH)


def test_another_node_in_the_log_that_quotes_in_its_place():
    node, another = SimulatedNode(), SimulatedNode(document={"capacity": 8})
    error = refused(node, another.bundle(NONCE), reference=another.reference)
    assert (error.step, error.code) == (STEP, Code.NODE_MISMATCH)
    assert [step.step for step in error.steps] == [*STEPS, STEP]
    assert error.verdict.outcome is Outcome.FAIL


def test_zeros_are_no_nonce():
    node = SimulatedNode()
    with pytest.raises(ValueError, match="no nonce"):
        appraised(node, node.bundle(), nonce=NO_NONCE)


class DigestOnly:
    """A quote as a TPM's: it shows a digest of the report data."""

    def __init__(self, data):
        self._digest = hashlib.sha256(data).digest()

    def check_report_data(self, expected):
        if hashlib.sha256(expected).digest() != self._digest:
            raise Refused(Code.REPORT_DATA_MISMATCH, "others")
        return "these"


@pytest.mark.parametrize(
    ("nonce", "code"),
    [(NO_NONCE, Code.NONCE_MISMATCH), (b"\x01" * 32, Code.REPORT_DATA_MISMATCH)],
    ids=["ignored", "replayed"],
)
def test_a_quote_that_shows_a_digest_only(nonce, code):
    node = SimulatedNode()
    evidence = _decode(node.bundle().encode()).value
    quote = DigestOnly(report_data(node.key_document.digest, (), nonce))
    assert _check_report_data(quote, evidence, nonce).reason == "these"
    with pytest.raises(Refused) as caught:
        _check_report_data(quote, evidence, NONCE)
    assert caught.value.code is code
